"""How a step's batch is split: over processes, and over turns where gradients are accumulated.

`train.batch` is the batch of one optimiser step, however many processes make it. Every loss is a mean over the rows of
its role, so the mean over equal shares is the loss of the whole.
"""

from collections.abc import Sequence

from unsay.errors import UserError
from unsay.methods.base import Needs, Part
from unsay.training.encoding import Encoded
from unsay.training.settings import TrainSettings


def check_shares(needs: Needs, settings: TrainSettings, processes: int) -> None:
    """Before anything is computed: every role's rows divide by the shares.

    Raises:
        UserError: names the role.
    """
    count = processes * settings.accumulate
    for role in needs.roles:
        if settings.batch.of(role) % count:
            raise UserError(
                f"train.batch.{role.value}: {settings.batch.of(role)} rows do not divide by {processes} processes × "
                f"{settings.accumulate} turns (train.accumulate): make it a multiple of {count}"
            )


def shares(examples: Sequence[Encoded], count: int) -> list[list[Encoded]]:
    """`count` equal parts of a batch: row i of every role, and of every companion, goes to part i % count.

    Row i of a companion belongs to row i of its role, so what is compared stays together.
    """
    parts: list[list[Encoded]] = [[] for _ in range(count)]
    seen: dict[Part, int] = {}
    for example in examples:
        place = seen.get(example.role, 0)
        parts[place % count].append(example)
        seen[example.role] = place + 1
    return parts
