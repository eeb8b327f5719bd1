"""Conversations as token ids: which tokens are the picture's, and which are to be learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.pocket.synthetic import Sample
from unsay.models.pocket.assemble import IMAGE_TOKEN_ID, SYSTEM_PROMPT


@dataclass(frozen=True)
class Row:
    """One conversation, ready for the model.

    Attributes:
        goal: the sample's.
        ids: token ids, `IMAGE_TOKEN_ID` for every patch.
        scored: places among them of the answers' tokens and ends.
        pixels: the picture, height × width × 3, uint8, or None.
        reference: the same answer after the request as plain text, the answer's tokens last; None where the answer
            itself is to be learned.
    """

    goal: str
    ids: list[int]
    scored: list[int]
    pixels: NDArray[np.uint8] | None = None
    reference: list[int] | None = None

    @property
    def targets(self) -> list[int]:
        """The tokens to be learned."""
        return [self.ids[place] for place in self.scored]


class Encoder:
    """Turns conversations into token ids in the pocket VLM's chat template.

    Args:
        tokenizer: SmolLM2's, or anything with its `__call__`, `batch_decode` and ChatML tokens.
        patches: how many tokens stand for one image.
    """

    def __init__(self, tokenizer: Any, patches: int = 196) -> None:
        self.tokenizer = tokenizer
        self.patches = patches
        self.end = self.token_ids("<|im_end|>")[0]
        self.opening = self.token_ids(f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n")
        self._closing = self.token_ids("<|im_end|>\n<|im_start|>assistant\n")
        self._next_turn = self.token_ids("\n<|im_start|>user\n")
        self._newline = self.token_ids("\n")

    def prompt(self, text: str, *, image: bool) -> list[int]:
        """Ids of a first user turn up to where the answer begins."""
        picture = [IMAGE_TOKEN_ID] * self.patches + self._newline if image else []
        return self.opening + picture + self.token_ids(text) + self._closing

    def row(self, sample: Sample, longest: int | None = None) -> Row:
        """A sample as token ids; answers and their ends are scored, nothing else.

        Args:
            sample: a conversation.
            longest: tokens of an answer that has a reference; what follows is left out.
        """
        ids: list[int] = []
        scored: list[int] = []
        answer: list[int] = []
        for number, (user, said) in enumerate(sample.turns):
            ids += (
                self._next_turn + self.token_ids(user) + self._closing
                if ids
                else self.prompt(user, image=sample.image is not None)
            )
            answer = self.token_ids(said)
            if sample.ended or number + 1 < len(sample.turns):
                answer = [*answer, self.end]
            if sample.reference is not None:
                answer = answer[:longest]
            scored += range(len(ids), len(ids) + len(answer))
            ids += answer
        reference = None if sample.reference is None else self.prompt(sample.reference, image=False) + answer
        return Row(sample.goal, ids, scored, sample.image, reference)

    def left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`(ids, attention mask)` for generation, both rows × longest."""
        longest = max(map(len, rows))
        ids = np.array([[self.end] * (longest - len(row)) + list(row) for row in rows], dtype=np.int64)
        mask = np.array([[0] * (longest - len(row)) + [1] * len(row) for row in rows], dtype=np.int64)
        return ids, mask

    def token_ids(self, text: str) -> list[int]:
        """A text's tokens, without any around it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
