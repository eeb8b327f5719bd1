"""How a command that scores ends: the table, what was not asked, and where the report is."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from unsay.scoring import Scores


def end(console: Console, scores: "Scores", out: Path) -> None:
    """Print it; a line is never wrapped, for a path that is broken in two cannot be copied."""
    from unsay.reporting import table
    from unsay.scoring import unasked

    lines = [*(caution.text for caution in unasked(scores.asked, scores.left_out)), f"\nReport: {out / 'report.html'}"]
    console.print()
    console.print(table(scores))
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
