"""A plan as a table in the terminal."""

from dataclasses import fields

from rich.table import Table

from unsay.planning.estimate import UTILISATION, Memory, Plan
from unsay.planning.fitting import Fit
from unsay.reporting.numbers import count, flops, memory, seconds


def table(plan: Plan, gpus: str | None, lengths: tuple[int, int, int], fit: Fit | None = None) -> Table:
    """Rows of name and value; memory by part, largest first.

    Args:
        plan: the plan.
        gpus: the cards as the user wrote them.
        lengths: tokens that a prompt, an answer and a picture were taken to have.
        fit: what would fit, where the plan does not.
    """
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
        rows.add_row("time", f"{each} (at {UTILISATION:.0%} of the {plan.precision} peak)")
    if plan.capacity is not None:
        rows.add_row("fits", f"{'yes' if plan.fits else 'NO'}: {room(plan)}", style="green" if plan.fits else "red")
    if plan.fits is False:
        rows.add_row("would fit", _would_fit(fit))
    prompt, answer, picture = lengths
    rows.add_row("taken for granted", f"{prompt} tokens a prompt, {answer} an answer, {picture} a picture: see --help")
    rows.add_row("not counted", "evaluation: its time, and the memory of its batches and of the judge")
    return rows


def room(plan: Plan) -> str:
    """`19.18 GiB of 24.00 GiB`; of a plan for a card."""
    return f"{memory(plan.memory.total)} of {memory(plan.capacity or 0)}"


def _would_fit(fit: Fit | None) -> str:
    if fit is None:
        return "nothing on this card, not in 4 bits, in turns and with short answers either: take a larger one"
    return f"{memory(fit.plan.memory.total)} with {'; '.join(fit.changes)}"
