"""What ends a training from outside, in one line each: memory that is not there, and a process that is gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from unsay.errors import UserError
from unsay.models.memory import out_of_memory
from unsay.processes import lost
from unsay.training.settings import TrainSettings


class Steps(Protocol):
    """A training under way."""

    step: int
    saved: int


@contextmanager
def explained(run: Steps, settings: TrainSettings) -> Iterator[None]:
    """Turn such an error into a `UserError` that says what is kept and what to do; others pass.

    Nothing is exchanged with other processes from here on: whoever is left waits for nobody.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        kept = f"step {run.saved} is kept" if run.saved else "no step is kept yet"
        if out_of_memory(error):
            raise UserError(f"out of memory at step {run.step + 1}; {kept}. {advice(settings)}") from error
        if lost(error):
            raise UserError(
                f"another process of this run was lost at step {run.step + 1}; {kept}: run the same command again, "
                "with as many processes as there are now"
            ) from error
        raise


def advice(settings: TrainSettings) -> str:
    """What would need less memory, what costs least first; only what is not done already."""
    ways = [f"train.accumulate: {2 * settings.accumulate} (half as much at a time, the same result)"]
    if not settings.recompute:
        ways.append("train.recompute: true (a third more work)")
    if settings.head_chunk > 64:
        ways.append(f"train.head_chunk: {settings.head_chunk // 2}")
    ways.append("model_settings.quantisation: 4-bit")
    return "What helps, in this order: " + "; ".join(ways)
