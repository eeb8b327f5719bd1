"""What people read of a run: one self-contained HTML page, and a table for the terminal.

- `html`: the page, from `report.html.j2`, `report.css` and `report.js`; `charts`, `samples`: what it shows.
- `headline`, `findings`: its sentences, about several suites as one number.
- `live`: the page of a run that has no scores yet; `overview`: the index of many runs.
- `attacks`: what the checks of robustness did, for all of these.
- `terminal`: the tables that end a run; `numbers`: how numbers are written; `imports`: results of other harnesses.
"""

from unsay.reports.html import ReportInputs, read_inputs, render, write_report
from unsay.reports.terminal import red_team_table, table

__all__ = ["ReportInputs", "read_inputs", "red_team_table", "render", "table", "write_report"]
