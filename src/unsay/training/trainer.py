"""The one trainer: mixed batches, any method, LoRA, checkpoints, and reasons to stop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch.optim import AdamW

from unsay.errors import UserError
from unsay.files import content_key, file_key
from unsay.methods.base import Method, Needs, Part, RoleBatch
from unsay.models.flops import forward_flops
from unsay.models.lora import attach, detach, save_adapter
from unsay.models.sight import blind
from unsay.models.vlm import VLM
from unsay.records import Example, Role
from unsay.training.adapter_factor import multiplied, multiply
from unsay.training.checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
from unsay.training.companions import CompanionExample
from unsay.training.encoding import Encoded, MixedBatch, collate
from unsay.training.head import Reference
from unsay.training.hidden import check_blocks
from unsay.training.lazily import Batches, Encoder
from unsay.training.logprobs import role_views
from unsay.training.meters import probe_flops, step_flops
from unsay.training.metrics import Metrics
from unsay.training.pace import Pace
from unsay.training.reference import ReferenceCache, check_cacheable
from unsay.training.schedule import batches
from unsay.training.settings import TrainSettings
from unsay.training.vision import Vision

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called after every step with (steps done, steps in all, the step's meters)."""

PROBE_NEEDS = Needs(roles=frozenset({Role.RETAIN}), kl=frozenset({Role.RETAIN}))


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        vlm: the model with its trained adapter.
        steps: optimiser steps whose effect is in the adapter.
        stopped: `finished` where the budget of steps, tokens or seconds is used up, or why it ended early.
        tokens: text tokens that passed the language model forward with gradient, in steps that were given up too.
        flops: estimated operations, the original model's forward included, and the vision tower's where it ran.
        seconds: training time, summed over resumptions.
        image_tokens: pictures' tokens that passed the language model likewise.
    """

    vlm: VLM
    steps: int
    stopped: str
    tokens: int
    flops: float
    seconds: float
    image_tokens: int = 0


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

    Writes `train/metrics.jsonl`, `train/checkpoints/` and, at the end, `adapter/` under `run_dir`. On a CPU the
    result is the same bit for bit, however often the run was killed, as long as torch uses the same number of threads:
    another number adds up in another order.

    Text and pictures are trained on by the same steps. Features of pictures are kept in `train/vision/`; without
    pictures the vision tower never runs, and is not in an accelerator's memory meanwhile.

    Args:
        vlm: the original model; an adapter is attached to it in place, and taken off again if training fails.
        examples: training examples of every role that the method needs.
        method: the loss.
        settings: see `TrainSettings`.
        run_dir: the run directory.
        probe_examples: held-out retain examples, watched for collapse; with none, nobody watches.
        progress: called after every step.
        key: content key of whatever else decides the result, the method's settings above all; a checkpoint is continued
            only if all inputs are equal.

    Raises:
        UserError: bad data, or NaN or collapse before the first checkpoint.
    """
    key = content_key(
        key, type(method).__name__, vlm.key, settings, [example_content(e) for e in (*examples, *probe_examples)]
    )
    plan = batches(examples, method.needs, settings)
    if settings.reference == "cached":
        check_cacheable(plan, method.needs)
    made = {row.id: row for rows in plan for row in rows if isinstance(row, CompanionExample)}
    encoder = Encoder(vlm, [*examples, *probe_examples, *made.values()], settings)
    size = sum(settings.batch.of(role) for role in Role)
    probe = [probe_examples[start : start + size] for start in range(0, len(probe_examples), size)]
    adapted = attach(vlm, settings.lora, settings.seed)
    try:
        check_blocks(adapted, method.needs)
        run = _Training(adapted, method, settings, run_dir / "train", key, Batches(encoder, probe))
        with blind(adapted, all(example.image is None for example in (*examples, *probe_examples))):
            stopped = run.through(Batches(encoder, plan), progress)
        multiply(run.parameters, method.needs.adapter_factor)  # checkpoints hold the adapter as it is trained
        trained = save_adapter(adapted, run_dir / "adapter")
    except BaseException:
        detach(adapted)
        raise
    return TrainResult(trained, run.step, stopped, run.tokens, run.flops, run.seconds, run.image_tokens)


class _Training:
    """A run's moving parts: parameters, optimiser, schedule and counters; starts from the last checkpoint, if any."""

    def __init__(
        self,
        vlm: VLM,
        method: Method,
        settings: TrainSettings,
        folder: Path,
        key: str,
        probe: Sequence[Sequence[Encoded]],
    ) -> None:
        # Evaluation mode: with dropout the current model would differ from the original without having learnt anything,
        # and a resumed run from an uninterrupted one.
        vlm.model.eval()
        self.vlm, self.method, self.settings, self.key, self.probe = vlm, method, settings, key, probe
        self.parameters = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
        self.optimizer = AdamW(self.parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.pace = Pace(settings)
        self.step, self.tokens, self.flops, self.seconds = 0, 0, 0.0, 0.0
        self.image_tokens, self.vision = 0, Vision(vlm, folder / "vision")
        self.look = 0.0  # seconds that the last look at the probe took
        self.checkpoints = folder / "checkpoints"
        cached = settings.reference == "cached"
        self.cache = ReferenceCache(folder / "reference", settings, vlm.key) if cached else None
        self.remembered = 0  # steps whose examples the cached original has read
        self.metrics = Metrics(folder / "metrics.jsonl")
        last = latest_checkpoint(self.checkpoints, key)
        if last is not None:
            self._restore(last)
            self.tokens, self.flops, self.seconds = last.tokens, last.flops, last.seconds
            self.image_tokens = last.image_tokens
        self.metrics.keep_until(self.step)

    def through(self, steps: Sequence[Sequence[Encoded]], progress: Progress | None) -> str:
        """All steps that are left and fit the budget; returns `finished`, or why it ended early.

        Raises:
            UserError: not one step fits the budget; NaN or collapse before the first checkpoint.
        """
        if self.step == 0 and self._spent(steps):
            raise UserError(
                f"train.max_tokens: {self.settings.max_tokens} is less than one batch has "
                f"({_tokens(steps[0])}): raise it, or make train.batch smaller"
            )
        self._recall(steps)
        ended = self._spent(steps)
        while not ended:
            self._remember(steps)
            began = time.monotonic()
            row = self._one(steps[self.step])
            self.seconds += time.monotonic() - began
            if row is None:
                return self._fall_back(f"the loss or its gradient was not a number at step {self.step + 1}")
            # Asked once, before the look at the probe: the last step must have one, and a checkpoint.
            ended = self._spent(steps)
            due = ended or self.step % self.settings.checkpoint_every == 0
            if (problem := self._probed(row, due)) is not None:
                return self._fall_back(problem)
            self.metrics.add({**row, "seconds": round(self.seconds, 3)})
            if due:
                self._save()
            if progress is not None:
                progress(self.step, self._expected(ended), row)
        return "finished"

    def _recall(self, steps: Sequence[Sequence[Encoded]]) -> None:
        """What the original's answers cost up to the checkpoint is in the checkpoint's counters already."""
        self.remembered = self.step
        if self.cache is not None:
            self.cache.paid(self._read_by_original(chain.from_iterable(steps[: self.step])), self.method.needs)

    def _remember(self, steps: Sequence[Sequence[Encoded]]) -> None:
        """With a cached reference, run the original model on what it must read in the steps up to the next checkpoint.

        No further: a budget may end the run there, and what a step costs should not be paid long before it. Up to
        checkpoints, because a killed run goes on from one and must count what it reads again exactly once.
        """
        if self.cache is None or self.step < self.remembered:
            return
        self.remembered = self.step - self.step % self.settings.checkpoint_every + self.settings.checkpoint_every
        ahead = self._read_by_original(chain.from_iterable(self._affordable(steps[self.step : self.remembered])))
        price = self.cache.fill(self.vlm, ahead, self.method.needs)
        self.flops += price.flops
        self.seconds += price.seconds

    def _read_by_original(self, examples: Iterable[Encoded]) -> list[Encoded]:
        return [example for example in examples if example.role in self.method.needs.original]

    def _affordable(self, steps: Sequence[Sequence[Encoded]]) -> Iterator[Sequence[Encoded]]:
        """Of the next steps, those that the budget of tokens leaves room for."""
        tokens = self._passed
        for examples in steps:
            tokens += _tokens(examples)
            if self.settings.max_tokens is not None and tokens > self.settings.max_tokens:
                return
            yield examples

    @property
    def _passed(self) -> int:
        """Tokens that passed the language model with gradient, pictures' included: what a token budget counts."""
        return self.tokens + self.image_tokens

    def _used(self) -> float:
        return self.pace.progress(self.step, self._passed, self.seconds)

    def _spent(self, steps: Sequence[Sequence[Encoded]]) -> bool:
        following = 0
        if self.settings.max_tokens is not None and self.step < len(steps):
            began = time.monotonic()
            following = _tokens(steps[self.step])  # pictures of the next step are laid out here
            self.seconds += time.monotonic() - began
        return self.pace.spent(self.step, self._passed, self.seconds, following, self.look)

    def _expected(self, ended: bool) -> int:
        """How many steps there will be, as far as can be told."""
        return self.step if ended else max(self.step + 1, round(self.step / self._used()))

    def _one(self, examples: Sequence[Encoded]) -> dict[str, float] | None:
        """One step: its meters, or None if its loss or gradient is no number."""
        batch = self._collated(examples)
        used = self._used()
        rate = self.settings.learning_rate * self.pace.factor(self.step, used)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.tokens += batch.tokens - batch.image_tokens
        self.image_tokens += batch.image_tokens
        cached = None if self.cache is None else self.cache.of(examples, self.method.needs, self.vlm.device)
        self.flops += step_flops(self.vlm, batch, self.method.needs, original=cached is None)
        meters = self._optimise(batch, cached, used)
        if meters is None:
            return None
        self.step += 1
        counts = {"tokens": self.tokens, "image_tokens": self.image_tokens}
        return {"step": self.step, **counts, "learning_rate": rate, **meters}

    def _probed(self, row: dict[str, float], due: bool) -> str | None:
        """Where due, look at the probe and note it in the row; what is wrong with it, if anything.

        Every checkpoint is probed before it is written, so that there is never a collapsed one to fall back to.
        """
        if not self.probe or not (due or self.step % self.settings.stop.probe_every == 0):
            return None
        began = time.monotonic()
        row["probe_kl"] = self._probe_kl()
        self.look = time.monotonic() - began
        self.seconds += self.look
        return self._collapse(row["probe_kl"])

    def _collated(self, examples: Sequence[Encoded]) -> MixedBatch:
        """The examples as a batch on the model's device; seeing pictures for the first time is counted here."""
        before = self.vision.passed
        batch = collate(examples, self.vision.see).to(self.vlm.device)
        self.flops += forward_flops(self.vlm, 0, images=self.vision.passed - before)
        return batch

    def _optimise(
        self, batch: MixedBatch, cached: Mapping[Part, Reference] | None, used: float
    ) -> dict[str, float] | None:
        """One optimiser step; None, with nothing changed, if the loss or its gradient is not finite."""
        views = role_views(self.vlm, batch, self.method.needs, self.settings.head_chunk, cached)
        terms = self.method.loss(RoleBatch(views, progress=used))
        loss = terms.total
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm)
        scalars = {
            "loss": loss,
            "grad_norm": norm,
            **{f"{name}_loss": term for name, term in terms.terms.items()},
            **terms.meters,
        }
        # Gathered first: the one time that a step waits for an accelerator.
        values = torch.stack([value.detach().float() for value in scalars.values()]).tolist()
        row = dict(zip(scalars, values, strict=True))
        finite = math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return row if finite else None

    @torch.no_grad()
    def _probe_kl(self) -> float:
        """Mean KL(original ‖ current) per answer token on held-out normal answers, in nats, of the adapter as used."""
        total, count = 0.0, 0
        for examples in self.probe:
            batch = self._collated(examples)
            count += len(examples)
            self.flops += probe_flops(self.vlm, batch, PROBE_NEEDS)
            with multiplied(self.parameters, self.method.needs.adapter_factor):
                view = role_views(self.vlm, batch, PROBE_NEEDS, self.settings.head_chunk)[Role.RETAIN]
            assert view.kl is not None  # PROBE_NEEDS asks for it
            total += float(view.per_example(view.kl).sum())
        return total / count

    def _collapse(self, kl: float) -> str | None:
        limit = self.settings.stop.max_probe_kl
        if math.isfinite(kl) and (limit is None or kl <= limit):
            return None
        reason = "it must be finite" if limit is None else f"the limit is {limit} (train.stop.max_probe_kl)"
        return f"collapse at step {self.step}: KL on held-out normal answers is {kl:.2f} nats per token, {reason}"

    def _save(self) -> None:
        adapter = {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}
        save_checkpoint(
            self.checkpoints,
            Checkpoint(
                self.step,
                adapter,
                self.optimizer.state_dict(),
                {"warm_end": self.pace.warm_end},
                self.tokens,
                self.flops,
                self.seconds,
                self.key,
                self.image_tokens,
            ),
        )

    def _fall_back(self, problem: str) -> str:
        """Undo everything after the last checkpoint; what it cost stays counted."""
        last = latest_checkpoint(self.checkpoints, self.key)
        if last is None:
            raise UserError(f"{problem}; no earlier checkpoint to fall back to: lower train.learning_rate")
        self._restore(last)
        self.metrics.keep_until(self.step)
        return f"{problem}; kept step {self.step}"

    def _restore(self, checkpoint: Checkpoint) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(checkpoint.adapter[name])
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.pace.warm_end = checkpoint.scheduler["warm_end"]
        self.step = checkpoint.step


def _tokens(examples: Sequence[Encoded]) -> int:
    """What a batch will cost; equal to `MixedBatch.tokens`, known before it is made."""
    return sum(example.length for example in examples)


def example_content(example: Example) -> dict[str, object]:
    """All that an example says; its picture by content, for the file may lie elsewhere tomorrow.

    Raises:
        UserError: the picture is missing or cannot be read.
    """
    content = example.model_dump(mode="json")
    return content if example.image is None else {**content, "image": file_key(Path(example.image))}
