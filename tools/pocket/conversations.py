"""Conversations as token tensors, and the two losses on them: cross-entropy, and KL to the original on plain text.

Rows are padded on the right and run without an attention mask: attention is causal, so no scored position ever sees
padding, and the fast causal kernel applies. Only scored positions reach `lm_head`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tools.pocket.synthetic import Sample
from unsay.models.pocket.assemble import SYSTEM_PROMPT

IMAGE_ID = 5
"""`<file_sep>`, a reserved token of SmolLM2's vocabulary that stands for one image patch."""

CHUNK = 2048
"""Positions whose logits exist at the same time: 2048 x 49,152 x 4 bytes = 0.4 GB."""

IMAGE_GOALS = ("transcribe", "shapes")


class Encoder:
    """Turns conversations into token ids in the pocket VLM's chat template.

    Args:
        tokenizer: SmolLM2's, or anything with its `__call__`, `batch_decode` and ChatML tokens.
        patches: how many tokens stand for one image.
    """

    def __init__(self, tokenizer: Any, patches: int = 196) -> None:
        self.tokenizer = tokenizer
        self.patches = patches
        self.end = self._ids("<|im_end|>")[0]
        self.opening = self._ids(f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n")
        self._closing = self._ids("<|im_end|>\n<|im_start|>assistant\n")
        self._next_turn = self._ids("\n<|im_start|>user\n")
        self._newline = self._ids("\n")

    def prompt(self, text: str, *, image: bool) -> list[int]:
        """Ids of a first user turn up to where the answer begins."""
        picture = [IMAGE_ID] * self.patches + self._newline if image else []
        return self.opening + picture + self._ids(text) + self._closing

    def conversation(self, sample: Sample) -> tuple[list[int], list[int]]:
        """`(ids, positions in it of the scored tokens)`; answers and their ends are scored, nothing else."""
        ids: list[int] = []
        scored: list[int] = []
        for number, (user, said) in enumerate(sample.turns):
            ids += (
                self._next_turn + self._ids(user) + self._closing
                if ids
                else self.prompt(user, image=sample.image is not None)
            )
            answer = self._ids(said)
            if sample.ended or number + 1 < len(sample.turns):
                answer = [*answer, self.end]
            scored += range(len(ids), len(ids) + len(answer))
            ids += answer
        return ids, scored

    def batch(self, samples: Sequence[Sample]) -> dict[str, NDArray[Any]]:
        """Arrays for one step (B conversations, of which K have a reference).

        Returns:
            `ids` B × T; `images` (with image) × H × W × 3 uint8; for each of `transcribe` and `shapes` the flat
            positions before every scored token and the token itself (`<goal>_at`, `<goal>_is`); `reference_ids`
            K × R, with `policy_at` and `reference_at` naming the same answer tokens in `ids` and `reference_ids`,
            and `first`, which of those are an answer's first.
        """
        rows = [self.conversation(sample) for sample in samples]
        ids = _right_padded([row for row, _ in rows], self.end)
        width = ids.shape[1]
        at: dict[str, list[int]] = {goal: [] for goal in (*IMAGE_GOALS, "policy")}
        tokens: dict[str, list[int]] = {goal: [] for goal in IMAGE_GOALS}
        references: list[tuple[list[int], int, int]] = []
        for number, (sample, (row, scored)) in enumerate(zip(samples, rows, strict=True)):
            where = [number * width + position - 1 for position in scored]
            if sample.reference is None:
                at[sample.goal] += where
                tokens[sample.goal] += [row[position] for position in scored]
            else:
                at["policy"] += where
                start = len(asked := self.prompt(sample.reference, image=False))
                references.append((asked + [row[position] for position in scored], start, len(scored)))
        reference_ids = _right_padded([row for row, _, _ in references], self.end)
        spans = [
            (number * reference_ids.shape[1] + start - 1, length)
            for number, (_, start, length) in enumerate(references)
        ]
        images = [sample.image for sample in samples if sample.image is not None]
        lengths = np.array([length for _, length in spans], dtype=np.int64)
        arrays: dict[str, NDArray[Any]] = {
            "ids": ids,
            "images": np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8),
            "reference_ids": reference_ids,
            "policy_at": np.array(at["policy"], dtype=np.int64),
            "reference_at": np.array([start + step for start, n in spans for step in range(n)], dtype=np.int64),
            "first": np.cumsum(lengths) - lengths,
        }
        for goal in IMAGE_GOALS:
            arrays[f"{goal}_at"] = np.array(at[goal], dtype=np.int64)
            arrays[f"{goal}_is"] = np.array(tokens[goal], dtype=np.int64)
        return arrays

    def left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`(ids, attention mask)` for generation, both rows × longest."""
        longest = max(map(len, rows))
        ids = np.array([[self.end] * (longest - len(row)) + list(row) for row in rows], dtype=np.int64)
        mask = np.array([[0] * (longest - len(row)) + [1] * len(row) for row in rows], dtype=np.int64)
        return ids, mask

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 matrix products on a GPU; nothing on the CPU, where they are slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def to_device(arrays: dict[str, NDArray[Any]], device: torch.device) -> dict[str, Tensor]:
    """The arrays of `Encoder.batch` as tensors; the images become pixel values there."""
    moved = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}
    moved["pixel_values"] = normalise(moved.pop("images"))
    return moved


def pixels(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """B × H × W × 3 uint8 → B × 3 × H × W float in -1..1, on `device`."""
    return normalise(torch.from_numpy(images).to(device))


def normalise(images: Tensor) -> Tensor:
    """`x / 127.5 - 1`, channels first."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def hidden_states(model: Any, ids: Tensor, pixel_values: Tensor | None) -> Tensor:
    """Last hidden states of a peft-wrapped VLM, flattened to (B·T) × D."""
    inner = model.get_base_model().model
    if pixel_values is None or not len(pixel_values):
        out: Tensor = inner.language_model(input_ids=ids, use_cache=False).last_hidden_state
    else:
        out = inner(input_ids=ids, pixel_values=pixel_values, use_cache=False).last_hidden_state
    return out.flatten(0, 1)


def losses(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean loss per scored token of each goal in the batch: `transcribe`, `shapes` (cross-entropy), `kl`."""
    head = model.get_output_embeddings().weight
    # The reference goes first: switching the adapter off and on again must not happen amid a graph that needs it.
    reference = reference_hidden(model, batch) if len(batch["policy_at"]) else None
    hidden = hidden_states(model, batch["ids"], batch["pixel_values"])
    terms = {}
    for goal in IMAGE_GOALS:
        if len(batch[f"{goal}_at"]):
            terms[goal] = chunked(_cross_entropy, hidden[batch[f"{goal}_at"]], batch[f"{goal}_is"], head).mean()
    if reference is not None:
        terms["kl"] = chunked(_kl, hidden[batch["policy_at"]], reference, head).mean()
    return terms


def kl_terms(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """KL(original ‖ this model) in nats at every answer token that has a reference."""
    with autocast(batch["ids"].device):
        hidden = hidden_states(model, batch["ids"], batch["pixel_values"])
        head = model.get_output_embeddings().weight
        return chunked(_kl, hidden[batch["policy_at"]], reference_hidden(model, batch), head)


@torch.no_grad()
def reference_hidden(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The original language model's hidden states (adapter off, text only) at the same answer tokens."""
    with model.disable_adapter():
        return hidden_states(model, batch["reference_ids"], None)[batch["reference_at"]]


def _cross_entropy(hidden: Tensor, target: Tensor, head: Tensor) -> Tensor:
    return functional.cross_entropy(functional.linear(hidden, head).float(), target, reduction="none")


def _kl(hidden: Tensor, reference: Tensor, head: Tensor) -> Tensor:
    policy = functional.log_softmax(functional.linear(hidden, head).float(), dim=-1)
    with torch.no_grad():
        original = functional.log_softmax(functional.linear(reference, head).float(), dim=-1)
    return (original.exp() * (original - policy)).sum(-1)


def chunked(term: Callable[[Tensor, Tensor, Tensor], Tensor], hidden: Tensor, other: Tensor, head: Tensor) -> Tensor:
    """`term` over positions in chunks; logits are recomputed in the backward pass rather than kept."""
    parts = [
        checkpoint(
            term,
            hidden[start : start + CHUNK],
            other[start : start + CHUNK],
            head,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for start in range(0, len(hidden), CHUNK)
    ]
    return torch.cat(parts)


def _right_padded(rows: Sequence[Sequence[int]], padding: int) -> NDArray[np.int64]:
    """Rows of ids as one array; the width is a multiple of 16, which kernels like."""
    longest = -(-max((len(row) for row in rows), default=1) // 16) * 16
    return np.array([[*row, *[padding] * (longest - len(row))] for row in rows], dtype=np.int64).reshape(-1, longest)
