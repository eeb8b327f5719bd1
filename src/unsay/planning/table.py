"""A plan as a table in the terminal."""

from dataclasses import fields

from rich.table import Table

from unsay.planning.estimate import UTILISATION, Memory, Plan
from unsay.reporting.numbers import count, flops, memory, seconds


def table(plan: Plan, gpus: str | None) -> Table:
    """Rows of name and value; memory by part, largest first."""
    rows = Table(box=None, show_header=False, padding=(0, 1))
    rows.add_row("parameters", f"{count(plan.parameters)}, of which trained beside them: {count(plan.trained)}")
    rows.add_row("a step", f"{plan.tokens:,} tokens, {flops(plan.flops)}")
    parts = sorted(((getattr(plan.memory, f.name), f.name) for f in fields(Memory)), reverse=True)
    for size, name in parts:
        if size:
            rows.add_row(f"memory, {name}", memory(size))
    rows.add_row("memory, in all", memory(plan.memory.total) + (" on each card" if gpus else ""), style="bold")
    if plan.seconds is not None:
        each = f"{plan.seconds:.2g} s a step, {seconds(plan.seconds * plan.steps)} for {plan.steps} steps"
        rows.add_row("time", f"{each} (at {UTILISATION:.0%} of the {plan.precision} peak; evaluation not counted)")
    if plan.capacity is not None:
        room = f"{memory(plan.memory.total)} of {memory(plan.capacity)}"
        rows.add_row("fits", f"{'yes' if plan.fits else 'NO'}: {room}", style="green" if plan.fits else "red")
    return rows
