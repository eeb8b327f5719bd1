"""Batches as token ids, made when they are asked for.

A plan may be several times as long as what its budget lets be done, and laying out a picture takes time. So a picture
is laid out when its step comes, which is also when the run's clock is running; text, whose mistakes are worth finding
before training starts, is encoded at once.
"""

from collections.abc import Sequence
from typing import overload

from unsay.errors import UserError
from unsay.models.vlm import VLM
from unsay.records import Example
from unsay.training.encoding import Encoded, encode
from unsay.training.settings import TrainSettings


class Encoder:
    """A run's examples as token ids; each is encoded once."""

    def __init__(self, vlm: VLM, examples: Sequence[Example], settings: TrainSettings) -> None:
        """Encode those without a picture.

        Raises:
            UserError: two examples have the same id, or an example cannot be encoded.
        """
        self.vlm, self.settings = vlm, settings
        self._known: dict[str, Encoded] = {}
        seen: set[str] = set()
        for example in examples:
            if example.id in seen:
                raise UserError(f"training data: two examples have the id {example.id}")
            seen.add(example.id)
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
