"""One self-contained HTML page, and a table for the terminal."""

from unsay.reports.html import ReportInputs, read_inputs, render, write_report
from unsay.reports.terminal import table

__all__ = ["ReportInputs", "read_inputs", "render", "table", "write_report"]
