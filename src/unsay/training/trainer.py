"""The trainer: mixed batches, any method, one optimiser step after another, checkpoints, and reasons to stop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from unsay import preemption
from unsay.errors import UserError
from unsay.files import content_key
from unsay.methods.base import Needs, RoleBatch
from unsay.models.vlm import VLM
from unsay.processes import ALONE, Processes
from unsay.records import Role
from unsay.training.adversary import Adversary
from unsay.training.checkpoint import Checkpoint, Metrics, latest_checkpoint, save_checkpoint
from unsay.training.encode import Encoded, MixedBatch, collate, split
from unsay.training.flops import forward_flops, probe_flops, step_flops
from unsay.training.head import role_views
from unsay.training.optimizer import Schedule, average_gradients, make_optimizer, scaled_adapter
from unsay.training.picture_inputs import Vision
from unsay.training.plan import TrainingPlan
from unsay.training.reference import ReferenceCache
from unsay.training.sharpness import uphill

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called after every step with (steps done, steps in all, the step's meters)."""

PROBE_NEEDS = Needs(roles=frozenset({Role.RETAIN}), kl=frozenset({Role.RETAIN}))


class Trainer:
    """Parameters, optimiser, schedule and counters of a run; starts from the last checkpoint, if there is one."""

    def __init__(
        self,
        vlm: VLM,
        plan: TrainingPlan,
        folder: Path,
        probe: Sequence[Sequence[Encoded]] = (),
        processes: Processes = ALONE,
        target_of: Callable[[Encoded], Encoded | None] = lambda _row: None,
    ) -> None:
        # Evaluation mode: with dropout the current model would differ from the original before it has learned anything,
        # and a resumed run from an uninterrupted one.
        vlm.model.eval()
        settings, writes = plan.settings, processes.first
        self.vlm, self.method, self.settings, self.probe, self.processes = vlm, plan.method, settings, probe, processes
        self.key = content_key(plan.key, vlm.key)
        self.parameters = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters.values(), settings, vlm.device)
        self.schedule = Schedule(settings)
        self.vision = Vision(vlm, folder / "vision")
        self.metrics = Metrics(folder / "metrics.jsonl", writes=writes)
        self.checkpoints = folder / "checkpoints"
        self.adversary = None
        if settings.adversarial is not None:
            self.adversary = Adversary(
                vlm, self.parameters, settings.adversarial, target_of, self.collated, settings.head_chunk
            )
        self.cache = None
        if settings.reference == "cached":
            self.cache = ReferenceCache(folder / "reference", settings, vlm.key, writes=writes)
        self.step, self.saved, self.cached = 0, 0, 0  # steps done, in the last checkpoint, read by the cached original
        self.tokens, self.image_tokens, self.flops, self.seconds = 0, 0, 0.0, 0.0
        self.probe_seconds = 0.0  # of the last look at the probe
        processes.wait()  # until all have read what is there, before the first writes more
        last = self._latest()
        if last is None:  # the same start for all, whatever random numbers their hardware draws
            self._set_adapter(processes.broadcast({name: p.detach().cpu() for name, p in self.parameters.items()}))
        else:
            self._restore(last)
            self.tokens, self.flops, self.seconds = last.tokens, last.flops, last.seconds
            self.image_tokens = last.image_tokens
        self.metrics.keep_until(self.step)

    @property
    def counters(self) -> tuple[int, int, float]:
        """Text tokens, image tokens and operations so far."""
        return self.tokens, self.image_tokens, self.flops

    def run(self, steps: Sequence[Sequence[Encoded]], progress: Progress | None) -> str:
        """Make all remaining steps that fit the budget; returns `finished`, or why training ended early.

        Raises:
            UserError: not one step fits the budget; NaN or collapse before the first checkpoint.
        """
        if self.step == 0 and self._spent(steps):
            raise UserError(
                f"train.max_tokens: {self.settings.max_tokens} is less than one batch has "
                f"({_tokens(steps[0])}): raise it, or make train.batch smaller"
            )
        self._recall_reference(steps)
        ended = self._spent(steps)
        while not ended:
            self._fill_reference(steps)
            began = time.monotonic()
            row = self.one_step(steps[self.step])
            self.add_time(began)
            if row is None:
                return self._fall_back(f"the loss or its gradient was not a number at step {self.step + 1}")
            # Decided once, before the look at the probe: the last step must have one, and a checkpoint.
            ended = self._spent(steps)
            due = ended or self.step % self.settings.checkpoint_every == 0
            if (problem := self._probe(row, due)) is not None:
                return self._fall_back(problem)
            self.metrics.add({**row, "seconds": round(self.seconds, 3)})
            if due:
                self._save()
            if progress is not None:
                expected = self.step if ended else max(self.step + 1, round(self.step / self._used()))
                progress(self.step, expected, row)
        return "finished"

    def one_step(self, examples: Sequence[Encoded]) -> dict[str, float] | None:
        """One optimiser step: its meters, or None, with nothing changed, if its loss or gradient is not finite."""
        used, turns = self._used(), self.settings.accumulate
        rate = self.settings.learning_rate * self.schedule.factor(self.step, used)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        before = self.counters
        mine = split(examples, self.processes.world * turns)[self.processes.rank * turns :][:turns]
        parts = []
        for part in mine:
            self.end_if_requested(before)
            parts.append(self._backward(part, used))
        if self.settings.sharpness:
            parts = self._climb(mine, parts, used)
        meters = self._optimise(parts)
        # The other processes' parts are counted, too.
        spent = [now - then for now, then in zip(self.counters, before, strict=True)]
        tokens, image_tokens, flops = self.processes.sum(spent)
        self.tokens, self.image_tokens = before[0] + int(tokens), before[1] + int(image_tokens)
        self.flops = before[2] + flops
        if meters is None:
            return None
        self.step += 1
        counts = {"tokens": self.tokens, "image_tokens": self.image_tokens}
        return {"step": self.step, **counts, "learning_rate": rate, **meters}

    def _climb(
        self, examples: Sequence[Sequence[Encoded]], parts: Sequence[Mapping[str, Tensor]], used: float
    ) -> list[dict[str, Tensor]]:
        """Replace the gradients by those at the sharpest point nearby; the parts' meters, and how sharp it is there.

        Nothing is saved meanwhile, because the adapter stands elsewhere. Tokens count once, operations twice.
        """
        read = self.tokens, self.image_tokens
        average_gradients(self.parameters.values(), self.processes)
        with uphill(self.parameters.values(), self.settings.sharpness):
            above = [self._backward(part, used)["loss"] for part in examples]
        self.tokens, self.image_tokens = read
        return [{**part, "sharpness": high - part["loss"]} for part, high in zip(parts, above, strict=True)]

    def _backward(self, examples: Sequence[Encoded], used: float) -> dict[str, Tensor]:
        """Add the gradients of one part of the batch to the parameters'; returns its loss, terms and meters.

        `used` is the used share of the budget.
        """
        needs, settings = self.method.needs, self.settings
        batch = self.collated(examples)
        self.tokens += batch.tokens - batch.image_tokens
        self.image_tokens += batch.image_tokens
        cached = None if self.cache is None else self.cache.of(examples, needs, self.vlm.device)
        self.flops += step_flops(self.vlm, batch, needs, original=cached is None, recompute=settings.recompute)
        if self.adversary is not None:
            batch, flops = self.adversary.against(batch)
            self.flops += flops
        views = role_views(self.vlm, batch, needs, settings.head_chunk, cached)
        terms = self.method.loss(RoleBatch(views, progress=used))
        loss = terms.total
        (loss / settings.accumulate).backward()  # type: ignore[no-untyped-call]
        named = {f"{name}_loss": term for name, term in terms.terms.items()}
        return {name: value.detach() for name, value in {"loss": loss, **named, **terms.meters}.items()}

    def _optimise(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float] | None:
        """Apply the accumulated gradients; the meters' means over all parts, and the gradient's norm, if all finite."""
        average_gradients(self.parameters.values(), self.processes)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm)
        means = torch.stack([torch.stack([value.float() for value in part.values()]) for part in parts]).mean(dim=0)
        # Gathered first: this is the one time that a step waits for an accelerator.
        *values, grad_norm = torch.cat([means, norm.detach().float()[None]]).tolist()
        together = [total / self.processes.world for total in self.processes.sum(values)]
        loss, *others = zip(parts[0], together, strict=True)
        row = dict([loss, ("grad_norm", grad_norm), *others])
        finite = math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return row if finite else None

    def collated(self, examples: Sequence[Encoded]) -> MixedBatch:
        """The examples as a batch on the model's device; a picture's first pass through the tower is counted here."""
        before = self.vision.passed
        batch = collate(examples, self.vision.see).to(self.vlm.device)
        self.flops += forward_flops(self.vlm, 0, images=self.vision.passed - before)
        return batch

    def _used(self) -> float:
        """The share of the budget that is used; a token budget counts the pictures' tokens, too."""
        return self.schedule.progress(self.step, self.tokens + self.image_tokens, self.seconds)

    def _spent(self, steps: Sequence[Sequence[Encoded]]) -> bool:
        following = 0
        if self.settings.max_tokens is not None and self.step < len(steps):
            began = time.monotonic()
            following = _tokens(steps[self.step])  # pictures of the next step are laid out here
            self.add_time(began)
        used = self.tokens + self.image_tokens
        return self.schedule.spent(self.step, used, self.seconds, following, self.probe_seconds)

    def _affordable(self, steps: Sequence[Sequence[Encoded]]) -> Iterator[Sequence[Encoded]]:
        """Those of the next steps that the token budget leaves room for."""
        tokens = self.tokens + self.image_tokens
        for examples in steps:
            tokens += _tokens(examples)
            if self.settings.max_tokens is not None and tokens > self.settings.max_tokens:
                return
            yield examples

    def add_time(self, began: float) -> float:
        """Add the time since `began`, by the first process's clock; returns it."""
        elapsed = self.processes.from_first(time.monotonic() - began)
        self.seconds += elapsed
        return elapsed

    def _recall_reference(self, steps: Sequence[Sequence[Encoded]]) -> None:
        """Mark as paid what the checkpoint's counters hold of the cached original.

        A checkpoint between two regular ones (SIGTERM) has paid for all steps up to the next regular one.
        """
        self.cached = self.step
        if self.cache is not None:
            every = self.settings.checkpoint_every
            ahead = self._affordable(steps[self.step : -(-self.step // every) * every])
            self.cache.paid(chain.from_iterable([*steps[: self.step], *ahead]), self.method.needs)

    def _fill_reference(self, steps: Sequence[Sequence[Encoded]]) -> None:
        """Run the cached original on the steps up to the next checkpoint.

        No further, because a budget may end the run there. No less, because a killed run goes on from a checkpoint and
        must count what it reads again exactly once.
        """
        if self.cache is None or self.step < self.cached:
            return
        every = self.settings.checkpoint_every
        self.cached = self.step - self.step % every + every
        ahead = chain.from_iterable(self._affordable(steps[self.step : self.cached]))
        price = self.cache.fill(self.vlm, ahead, self.method.needs)
        self.flops += price.flops
        self.seconds += self.processes.from_first(price.seconds)

    def end_if_requested(self, whole: tuple[int, int, float]) -> None:
        """Where any process received SIGTERM: all save the last whole step, with its counters, and end."""
        if not self.processes.any(preemption.end_requested()):
            return
        self.tokens, self.image_tokens, self.flops = whole
        self.optimizer.zero_grad(set_to_none=True)
        if self.step > self.saved and self._probe({}, due=True) is None:  # a collapsed state is never saved
            self._save()
        raise preemption.PreemptedError(f"{preemption.STOPPED}; step {self.saved} of the training is kept")

    def _probe(self, row: dict[str, float], due: bool) -> str | None:
        """Where due, measure KL on the probe and put it into the row; returns what is wrong with it, if anything.

        Every checkpoint is probed before it is written, so that there is never a collapsed one to fall back to.
        """
        if not self.probe or not (due or self.step % self.settings.stop.probe_every == 0):
            return None
        began = time.monotonic()
        kl = row["probe_kl"] = self.processes.from_first(self._probe_kl())
        self.probe_seconds = self.add_time(began)
        limit = self.settings.stop.max_probe_kl
        if math.isfinite(kl) and (limit is None or kl <= limit):
            return None
        reason = "it must be finite" if limit is None else f"the limit is {limit} (train.stop.max_probe_kl)"
        return f"collapse at step {self.step}: KL on held-out normal answers is {kl:.2f} nats per token, {reason}"

    def _probe_kl(self) -> float:
        """`probed_at` the factor at which the adapter is used."""
        return self.probed_at(self.method.needs.adapter_factor)

    @torch.no_grad()
    def probed_at(self, factor: float) -> float:
        """Mean KL(original ‖ current) per answer token on held-out normal answers, in nats, of a multiplied adapter."""
        total, count = 0.0, 0
        for examples in self.probe:
            batch = self.collated(examples)
            count += len(examples)
            self.flops += probe_flops(self.vlm, batch, PROBE_NEEDS)
            with scaled_adapter(self.parameters, factor):
                view = role_views(self.vlm, batch, PROBE_NEEDS, self.settings.head_chunk)[Role.RETAIN]
            assert view.kl is not None  # PROBE_NEEDS asks for it
            total += float(view.per_example(view.kl).sum())
        return total / count

    def look_at(self, vlm: VLM) -> None:
        """From here on, probe this model with another adapter."""
        self.vlm = self.vision.vlm = vlm
        self.parameters = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}

    def _save(self) -> None:
        self.saved = self.step
        if not self.processes.first:  # adapter and optimiser are the same everywhere
            return
        checkpoint = Checkpoint(
            step=self.step,
            adapter={name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()},
            optimizer=self.optimizer.state_dict(),
            scheduler={"warm_end": self.schedule.warm_end},
            tokens=self.tokens,
            flops=self.flops,
            seconds=self.seconds,
            key=self.key,
            image_tokens=self.image_tokens,
        )
        save_checkpoint(self.checkpoints, checkpoint)

    def _latest(self) -> Checkpoint | None:
        """The last checkpoint that the first process finds."""
        latest = latest_checkpoint(self.checkpoints, self.key) if self.processes.first else None
        return self.processes.broadcast(latest)

    def _fall_back(self, problem: str) -> str:
        """Undo everything after the last checkpoint; its cost stays counted."""
        last = self._latest()
        if last is None:
            raise UserError(f"{problem}; no earlier checkpoint to fall back to: lower train.learning_rate")
        self._restore(last)
        self.metrics.keep_until(self.step)
        return f"{problem}; kept step {self.step}"

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._set_adapter(checkpoint.adapter)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.schedule.warm_end = checkpoint.scheduler["warm_end"]
        self.step = self.saved = checkpoint.step

    @torch.no_grad()
    def _set_adapter(self, adapter: Mapping[str, Tensor] | None) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_((adapter or {})[name])


def _tokens(examples: Sequence[Encoded]) -> int:
    """Tokens of a batch; equal to `MixedBatch.tokens`, and known before the batch is made."""
    return sum(example.length for example in examples)
