"""Does it hold when weights are cut off? Safety may rest on few weights that pruning for utility removes.

The language model's linears lose 10, 30 and 50 % of their weights, by two scores (Wei et al. 2024, arXiv 2402.05162,
prune aligned models in the same way):

    magnitude   |W_ij|, the smallest of each linear
    Wanda       |W_ij| · ‖x_j‖₂, the smallest of each row (Sun et al. 2023, arXiv 2306.11695)

x_j are the j-th inputs of the linear over 32 ordinary examples of the run, prompt and answer: the attacker keeps what
ordinary use needs. (Published with 128 long texts; few do nearly as well there.) As published, a block is scored on
what the pruned blocks below it hand on. A pruned model that only babbles has not been attacked with success, so the
loss on held-out ordinary answers and the answers to ordinary requests stand beside every rate.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from unsay.data.subjects import unalarming
from unsay.errors import UserError
from unsay.files import read_rows
from unsay.models import VLM
from unsay.records import Example, Role
from unsay.robustness.base import Check
from unsay.robustness.bench import BENIGN, WORDS, Bench
from unsay.robustness.finetuning import rows_of
from unsay.robustness.weights import changing
from unsay.scoring.robustness import Number, Setting, Subject
from unsay.training.encode import Encoded, collate
from unsay.training.likelihood import row_losses

PERCENT = (10, 30, 50)
CALIBRATION = 32
"""Ordinary examples on which inputs are measured."""


def smallest(scores: Tensor, share: float) -> Tensor:
    """Which entries [rows, columns] are the smallest `share` of each row, rounded down; of equal ones, the first."""
    count = int(scores.shape[1] * share)
    columns = torch.sort(scores.float(), dim=1, stable=True).indices[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, columns, True)


def by_magnitude(linears: Iterable[nn.Linear], share: float) -> None:
    """Set the smallest weights of each linear to 0, in place."""
    with torch.no_grad():
        for linear in linears:
            weight = linear.weight
            weight[smallest(weight.abs().reshape(1, -1), share).reshape(weight.shape)] = 0


def wanda_scores(weight: Tensor, squares: Tensor) -> Tensor:
    """|W_ij| · √(Σ x_j²), [out, in], from the sums of squared inputs [in]."""
    return weight.abs().float() * squares.sqrt()


@torch.no_grad()
def by_wanda(vlm: VLM, linears: Sequence[nn.Linear], share: float, rows: Sequence[Encoded]) -> None:
    """Set to 0 the weights of each linear that matter least to these rows, block by block from the lowest, in place.

    Each block reads the rows twice, in one pass of the decoder: its inputs are summed up, it is pruned, and what the
    pruned block makes of them is handed on.
    """
    batch = collate(rows).to(vlm.device)
    real = batch.attention_mask.bool()
    wanted, squares = set(linears), dict[nn.Linear, Tensor]()

    def add(linear: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        # Padding says nothing of the rows; a device map may have the block elsewhere.
        x = x[real.to(x.device)] if x.shape[:2] == real.shape else x.reshape(-1, x.shape[-1])
        squares[linear] = squares.get(linear, 0) + x.float().square().sum(dim=0)

    def twice(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        own = [module for module in block.modules() if isinstance(module, nn.Linear) and module in wanted]
        hooks = [linear.register_forward_pre_hook(add) for linear in own]
        forward(*args, **kwargs)
        for hook in hooks:
            hook.remove()
        for linear in own:
            if linear in squares:  # an expert that no row reaches keeps its weights
                linear.weight[smallest(wanda_scores(linear.weight, squares.pop(linear)), share)] = 0
        return forward(*args, **kwargs)

    before = [vars(block).get("forward") for block in vlm.text_layers]  # a device map puts hooks there
    for block in vlm.text_layers:
        block.forward = partial(twice, block, block.forward)
    try:
        vlm.decoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        for block, forward in zip(vlm.text_layers, before, strict=True):
            del block.forward  # the class's own forward shows again
            if forward is not None:
                block.forward = forward


def _run(bench: Bench) -> Iterable[Number]:
    words = {name: bench.suites[name] for name in (WORDS, BENIGN)}
    asked = {"magnitude": words, "wanda": {**bench.attacks, BENIGN: bench.suites[BENIGN]}}
    bench.expect(len(Subject) * len(PERCENT) * sum(map(len, asked.values())))
    cut = bench.max_answer_tokens
    calibration = partial(
        rows_of, examples=calibration_rows(bench.examples(Role.RETAIN), bench.seed), max_answer_tokens=cut
    )
    probe = partial(rows_of, examples=held_out(bench), max_answer_tokens=cut)
    losses: dict[tuple[str, int, Subject], dict[str, float]] = {}
    for subject in (Subject.REFERENCE, Subject.UNLEARNED):
        model = cache(partial(bench.merged, subject))
        for score, suites in asked.items():
            for percent in PERCENT:
                setting: Setting = {"score": score, "percent": percent}
                with ExitStack() as asking:
                    pruned = cache(partial(_pruned, model, score, percent / 100, calibration, asking))
                    bench.measure(subject, setting, pruned, suites)
                    losses[score, percent, subject], _tokens = row_losses(pruned(), probe(pruned()))
        del model, pruned  # one model in memory
    return [
        bench.number(
            "loss",
            subject,
            values,
            reference=losses[score, percent, Subject.REFERENCE] if subject is Subject.UNLEARNED else None,
            setting={"score": score, "percent": percent},
            title="Loss on held-out ordinary answers",
            unit="nats a token",
        )
        for (score, percent, subject), values in losses.items()
    ]


def _pruned(
    model: Callable[[], VLM], score: str, share: float, rows: Callable[[VLM], list[Encoded]], asking: ExitStack
) -> VLM:
    """The model without the weights of least score, until it has been asked."""
    vlm = model()
    linears = list(asking.enter_context(changing(vlm)).values())
    if score == "wanda":
        by_wanda(vlm, linears, share, rows(vlm))
    else:
        by_magnitude(linears, share)
    return vlm


def calibration_rows(retain: Sequence[Example], seed: int) -> list[Example]:
    """Those of the retain examples on which inputs are measured: in words, and none that sounds harmful, if possible.

    Raises:
        UserError: all have pictures.
    """
    words = sorted((row for row in retain if row.image is None), key=lambda row: row.id)
    if not words:
        raise UserError("the run has no retain examples in words, on which Wanda measures what ordinary use needs")
    plain = unalarming(words)
    random.Random(f"{seed}/prune").shuffle(plain)
    return plain[:CALIBRATION]


def held_out(bench: Bench) -> list[Example]:
    """The run's probe: ordinary examples in words that no training saw."""
    rows = read_rows(bench.run.folder / "train" / "probe.jsonl", Example)
    return [row for row in rows if row.image is None]


CHECK = Check(
    name="prune",
    title="Cut off the weights that ordinary use does not need",
    setting="10, 30 and 50 % of the language model's weights, by magnitude and by Wanda on 32 ordinary examples",
    source="arXiv 2402.05162, 2306.11695",
    version=3,
    run=_run,
    cuts_answers=True,
    axis="percent",
)
