"""`metrics.jsonl`, one row per step, and the operations that a step costs.

`metrics.jsonl`: one row per step.

What a training step costs.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from unsay.errors import UserError
from unsay.files import write_text
from unsay.methods.base import Needs
from unsay.models.flops import backward_flops, forward_flops
from unsay.models.vlm import VLM
from unsay.training.encode import MixedBatch
from unsay.training.head import fusible


class Metrics:
    """The file of a run's meters; a torn last line of a killed run is dropped.

    Of several processes that train together one `writes`.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes

    def keep_until(self, step: int) -> None:
        """Drop rows after `step`: they belong to work that is done again, or that was given up."""
        if not self._writes:
            return
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if row["step"] <= step:
                rows.append(line + "\n")
        write_text(self.path, "".join(rows))

    def add(self, row: Mapping[str, float]) -> None:
        """Append one step's meters.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        if not self._writes:
            return
        try:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error


def step_flops(vlm: VLM, batch: MixedBatch, needs: Needs, *, original: bool = True, recompute: bool = False) -> float:
    """Estimated operations of one step, each row counted whole: a prefix that rows share is counted for each of them.

    Forward; backward as far down as there is an adapter; the original model's forward on the roles that need it. A head
    that is not a plain linear has its logits computed once more in the backward pass, those of the original too.
    Pictures' tokens count in the language model like any other; the vision tower counts here only where the whole model
    runs in every step.

    Args:
        vlm: the model.
        batch: the step's batch.
        needs: the method's.
        original: whether the original model is run in this step, and not taken from a cache.
        recompute: whether the layers that the backward pass reaches are run once more for it.
    """
    again = 0 if fusible(vlm.lm_head) else 1
    current = forward_flops(vlm, batch.tokens, head_tokens=len(batch.targets), images=batch.whole)
    reached = backward_flops(vlm, batch.tokens)  # as many as a forward pass of the same layers
    current += 2 * reached if recompute else reached
    head_backward = forward_flops(vlm, 0, head_tokens=len(batch.targets))
    head_again = forward_flops(vlm, 0, head_tokens=again * len(batch.targets))
    before = original_flops(vlm, batch, needs, head_passes=1 + again) if original else 0.0
    return current + head_backward + head_again + before


def probe_flops(vlm: VLM, batch: MixedBatch, needs: Needs) -> float:
    """Estimated operations of one look at the probe: no backward pass."""
    current = forward_flops(vlm, batch.tokens, head_tokens=len(batch.targets), images=batch.whole)
    return current + original_flops(vlm, batch, needs, head_passes=1)


def original_flops(vlm: VLM, batch: MixedBatch, needs: Needs, *, head_passes: int) -> float:
    """Estimated operations of the original model's forward; layers shared with the current model cost nothing more."""
    read = batch.rows_of(needs.original)
    tokens = sum(example.length for example, kept in zip(batch.examples, read, strict=True) if kept)
    whole = sum(
        seen is not None and seen.features is None for seen, kept in zip(batch.pictures, read, strict=False) if kept
    )
    chosen = batch.scored_in(needs.reference | needs.kl)
    below = 0 if batch.whole else vlm.shared_layers  # a forward of the whole model shares none
    body = forward_flops(vlm, tokens) * (1 - below / len(vlm.layers))
    body += forward_flops(vlm, 0, images=whole)
    return body + forward_flops(vlm, 0, head_tokens=head_passes * len(chosen))
