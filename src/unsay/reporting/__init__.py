"""One self-contained HTML page, and a table for the terminal."""

from unsay.reporting.inputs import ReportInputs, read_inputs
from unsay.reporting.render import render, write_report
from unsay.reporting.terminal import table

__all__ = ["ReportInputs", "read_inputs", "render", "table", "write_report"]
