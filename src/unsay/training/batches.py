"""The examples of every step as token ids, and how a step's batch is split over processes and turns."""

from collections.abc import Sequence
from typing import overload

from unsay.methods.base import Part
from unsay.models.vlm import VLM
from unsay.records import Example
from unsay.training.encode import Encoded, encode
from unsay.training.settings import TrainSettings


class Encoder:
    """A run's examples as token ids; each is encoded once.

    Text is encoded at once, so that mistakes show before training starts. A picture is laid out when its step comes,
    while the run's clock is running: that takes time, and a budget may end the run before.
    """

    def __init__(self, vlm: VLM, examples: Sequence[Example], settings: TrainSettings) -> None:
        """Encode the examples without a picture.

        Raises:
            UserError: an example cannot be encoded.
        """
        self.vlm, self.settings = vlm, settings
        self._known: dict[str, Encoded] = {}
        for example in examples:
            if example.image is None:
                self.of(example)

    def of(self, example: Example) -> Encoded:
        """One example.

        Raises:
            UserError: it cannot be encoded.
        """
        if example.id not in self._known:
            self._known[example.id] = encode(
                self.vlm,
                example,
                max_prompt_tokens=self.settings.max_prompt_tokens,
                max_answer_tokens=self.settings.max_answer_tokens,
            )
        return self._known[example.id]


class Batches(Sequence[list[Encoded]]):
    """Batches of examples, encoded when one is looked at."""

    def __init__(self, encoder: Encoder, batches: Sequence[Sequence[Example]]) -> None:
        self._encoder, self._batches = encoder, batches

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> list[Encoded]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Encoded]]: ...
    def __getitem__(self, index: int | slice) -> list[Encoded] | list[list[Encoded]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return [self._encoder.of(example) for example in self._batches[index]]


def split(examples: Sequence[Encoded], count: int) -> list[list[Encoded]]:
    """`count` equal parts of a batch: row i of every role, and of every companion, goes to part i % count.

    Row i of a companion belongs to row i of its role, so what is compared stays together. Every loss is a mean over the
    rows of its role, so the mean over the parts is the loss of the whole batch.
    """
    parts: list[list[Encoded]] = [[] for _ in range(count)]
    seen: dict[Part, int] = {}
    for example in examples:
        place = seen.get(example.role, 0)
        parts[place % count].append(example)
        seen[example.role] = place + 1
    return parts
