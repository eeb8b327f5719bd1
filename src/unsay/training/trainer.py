"""The one trainer: mixed batches, any method, LoRA, checkpoints, and reasons to stop."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW
from transformers import get_scheduler

from unsay.errors import UserError
from unsay.files import content_key, write_text
from unsay.methods.base import LossTerms, Method, Needs
from unsay.models.lora import attach, save_adapter
from unsay.models.vlm import VLM
from unsay.records import Example, Role
from unsay.training.checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
from unsay.training.encoding import Encoded, MixedBatch, collate, encode
from unsay.training.logprobs import role_views
from unsay.training.meters import step_flops
from unsay.training.schedule import batches
from unsay.training.settings import TrainSettings

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called after every step with (steps done, steps in all, the step's meters)."""

PROBE_NEEDS = Needs(roles=frozenset({Role.RETAIN}), kl=frozenset({Role.RETAIN}))


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        vlm: the model with its trained adapter.
        steps: optimiser steps whose effect is in the adapter.
        stopped: `finished`, or why it ended early.
        tokens: text tokens that passed the language model forward with gradient.
        flops: estimated operations, the original model's forward included.
        seconds: training time, summed over resumptions.
    """

    vlm: VLM
    steps: int
    stopped: str
    tokens: int
    flops: float
    seconds: float


def train(
    vlm: VLM,
    examples: Sequence[Example],
    method: Method,
    settings: TrainSettings,
    run_dir: Path,
    *,
    probe_examples: Sequence[Example] = (),
    progress: Progress | None = None,
    key: str = "",
) -> TrainResult:
    """Train a fresh adapter, or continue where a killed run stopped.

    Writes `train/metrics.jsonl`, `train/checkpoints/` and, at the end, `adapter/` under `run_dir`.

    Args:
        vlm: the original model; an adapter is attached to it in place.
        examples: training examples of every role that the method needs.
        method: the loss.
        settings: see `TrainSettings`.
        run_dir: the run directory.
        probe_examples: held-out retain examples, watched for collapse.
        progress: called after every step.
        key: content key of whatever else decides the result; a checkpoint is continued only if all inputs are equal.

    Raises:
        UserError: bad data, NaN, or collapse before the first checkpoint.
    """
    key = content_key(key, vlm.key, settings, [e.model_dump(mode="json") for e in (*examples, *probe_examples)])
    plan = batches(examples, method.needs, settings)
    encoded = _encode_all(vlm, [*examples, *probe_examples], settings)
    adapted = attach(vlm, settings.lora, settings.seed)
    parameters = {name: p for name, p in adapted.model.named_parameters() if p.requires_grad}
    optimizer = AdamW(parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    scheduler = get_scheduler(settings.schedule, optimizer, settings.warmup_steps, settings.steps)
    folder = run_dir / "train" / "checkpoints"
    metrics = _Metrics(run_dir / "train" / "metrics.jsonl")
    step, tokens, flops, seconds = 0, 0, 0.0, 0.0
    last = latest_checkpoint(folder, key)
    if last is not None:
        _restore(last, parameters, optimizer, scheduler)
        step, tokens, flops, seconds = last.step, last.tokens, last.flops, last.seconds
    metrics.keep_until(step)

    stopped = "finished"
    probe = [encoded[example.id] for example in probe_examples]
    adapted.model.train()
    while step < settings.steps:
        began = time.monotonic()
        batch = collate([encoded[example.id] for example in plan[step]]).to(adapted.device)
        terms = _optimise(adapted, batch, method, settings, optimizer, parameters)
        problem = None if terms is not None else f"the loss was not a number at step {step + 1}"
        if terms is not None:
            scheduler.step()
            step += 1
            tokens += batch.tokens
            flops += step_flops(adapted, batch, method.needs)
            row = {"step": step, "tokens": tokens, "learning_rate": scheduler.get_last_lr()[0], **terms}
            if probe and (step % settings.stop.probe_every == 0 or step == settings.steps):
                row["probe_kl"] = probe_kl(adapted, probe, settings)
                limit = settings.stop.max_probe_kl
                if limit is not None and not row["probe_kl"] <= limit:
                    problem = (
                        f"collapse at step {step}: KL on held-out normal answers is {row['probe_kl']:.2f} nats per token, "
                        f"the limit is {limit} (train.stop.max_probe_kl)"
                    )
        seconds += time.monotonic() - began
        if problem is not None:
            last = latest_checkpoint(folder, key)
            if last is None:
                raise UserError(f"{problem}; no earlier checkpoint to fall back to: lower train.learning_rate")
            _restore(last, parameters, optimizer, scheduler)
            stopped, step, tokens, flops = f"{problem}; kept step {last.step}", last.step, last.tokens, last.flops
            metrics.keep_until(step)
            break
        row["seconds"] = round(seconds, 3)
        metrics.add(row)
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            state = {name: p.detach().cpu().clone() for name, p in parameters.items()}
            save_checkpoint(
                folder,
                Checkpoint(step, state, optimizer.state_dict(), scheduler.state_dict(), tokens, flops, seconds, key),
            )
        if progress is not None:
            progress(step, settings.steps, row)
    adapted.model.eval()
    trained = save_adapter(adapted, run_dir / "adapter")
    return TrainResult(trained, step, stopped, tokens, flops, seconds)


def _encode_all(vlm: VLM, examples: Sequence[Example], settings: TrainSettings) -> dict[str, Encoded]:
    encoded: dict[str, Encoded] = {}
    for example in examples:
        if example.id in encoded:
            raise UserError(f"training data: two examples have the id {example.id}")
        encoded[example.id] = encode(
            vlm,
            example,
            max_prompt_tokens=settings.max_prompt_tokens,
            max_answer_tokens=settings.max_answer_tokens,
        )
    return encoded


def _optimise(
    vlm: VLM,
    batch: MixedBatch,
    method: Method,
    settings: TrainSettings,
    optimizer: AdamW,
    parameters: Mapping[str, torch.nn.Parameter],
) -> dict[str, float] | None:
    """One optimiser step; None, with nothing changed, if the loss or its gradient is not finite."""
    terms: LossTerms = method.loss(role_views(vlm, batch, method.needs, settings.head_chunk))
    loss = terms.total
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
    finite = bool(torch.isfinite(loss)) and bool(torch.isfinite(norm))
    if finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if not finite:
        return None
    scalars = {
        "loss": loss,
        "grad_norm": norm,
        **{f"{name}_loss": t for name, t in terms.terms.items()},
        **terms.meters,
    }
    return {name: float(value.detach()) for name, value in scalars.items()}


@torch.no_grad()
def probe_kl(vlm: VLM, examples: Sequence[Encoded], settings: TrainSettings) -> float:
    """Mean KL(original ‖ current) per answer token on held-out normal answers, in nats; inf if it is not finite."""
    total, size = 0.0, max(1, settings.batch.retain + settings.batch.forget + settings.batch.refuse)
    for start in range(0, len(examples), size):
        batch = collate(examples[start : start + size]).to(vlm.device)
        view = role_views(vlm, batch, PROBE_NEEDS, settings.head_chunk)[Role.RETAIN]
        assert view.kl is not None
        total += float(view.per_example(view.kl).sum())
    mean = total / len(examples)
    return mean if math.isfinite(mean) else math.inf


def _restore(
    checkpoint: Checkpoint, parameters: Mapping[str, torch.nn.Parameter], optimizer: Any, scheduler: Any
) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint.adapter[name])
    optimizer.load_state_dict(checkpoint.optimizer)
    scheduler.load_state_dict(checkpoint.scheduler)


class _Metrics:
    """`metrics.jsonl`: one row per step; a torn last line of a killed run is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep_until(self, step: int) -> None:
        """Drop rows after `step`: they belong to work that the resumed run does again."""
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
        """Append one step's meters."""
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
