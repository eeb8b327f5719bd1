"""The one trainer: mixed batches, any method, LoRA, checkpoints, and reasons to stop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from unsay import preemption
from unsay.errors import UserError
from unsay.files import content_key
from unsay.methods.base import Needs, RoleBatch
from unsay.models.layers import recomputing
from unsay.models.lora import attach, detach, save_adapter
from unsay.models.sharding import shard
from unsay.models.vision import blind
from unsay.models.vlm import VLM
from unsay.processes import ALONE, Processes
from unsay.records import Role
from unsay.training.checkpoint import Checkpoint, Metrics, latest_checkpoint, save_checkpoint
from unsay.training.companions import CompanionExample
from unsay.training.encode import Batches, Encoded, Encoder, MixedBatch, collate, split
from unsay.training.flops import forward_flops, probe_flops, step_flops
from unsay.training.head import role_views
from unsay.training.optimizer import Pace, make_optimizer, multiplied, multiply
from unsay.training.picture_inputs import Vision
from unsay.training.plan import TrainingPlan
from unsay.training.reference import ReferenceCache
from unsay.training.settings import explained

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
    plan: TrainingPlan,
    run_dir: Path,
    *,
    progress: Progress | None = None,
    processes: Processes = ALONE,
    device: torch.device | None = None,
) -> TrainResult:
    """Train a fresh adapter, or continue where a killed run stopped.

    Writes `train/metrics.jsonl`, `train/checkpoints/` and, at the end, `adapter/` under `run_dir`. On a CPU the
    result is the same bit for bit, however often the run was killed, as long as torch uses the same number of threads:
    another number adds up in another order.

    Text and pictures are trained on by the same steps. Features of pictures are kept in `train/vision/`; without
    pictures the vision tower never runs, and is not in an accelerator's memory meanwhile.

    Several processes split each batch; only the first of them writes files, and a checkpoint of any number of them is
    continued by any other. A model whose layers were split over them (see `models.sharding`) is of no use afterwards.

    Args:
        vlm: the original model; an adapter is attached to it in place, and taken off again if training fails.
        plan: see `plan_training`; a checkpoint is continued only if plan and model are equal.
        run_dir: the run directory.
        progress: called after every step.
        processes: those that train together; every one of them calls this alike.
        device: where a sharded model goes; where it is if not given.

    Raises:
        UserError: an example that cannot be encoded, NaN or collapse before the first checkpoint, out of memory, or a
            lost process.
        PreemptedError: SIGTERM, where it is heeded; the last whole step is saved.
    """
    method, settings = plan.method, plan.settings
    companions = {row.id: row for rows in plan.steps for row in rows if isinstance(row, CompanionExample)}
    encoder = Encoder(vlm, [*plan.examples, *plan.probe, *companions.values()], settings)
    size = sum(settings.batch.of(role) for role in Role)
    probe = [plan.probe[start : start + size] for start in range(0, len(plan.probe), size)]
    adapted = attach(vlm, settings.lora, settings.seed)
    try:
        if processes.sharded:
            shard(adapted, processes, device or vlm.device)
        run = Trainer(adapted, plan, run_dir / "train", Batches(encoder, probe), processes)
        with (
            explained(run, settings),
            preemption.defer_sigterm(),
            recomputing(adapted, settings.recompute),
            blind(adapted, not plan.pictured and not processes.sharded),
        ):
            stopped = run.through(Batches(encoder, plan.steps), progress)
        multiply(run.parameters, method.needs.adapter_factor)  # checkpoints hold the adapter as it is trained
        trained = save_adapter(adapted, run_dir / "adapter") if processes.first else adapted
    except BaseException:
        detach(adapted)
        raise
    return TrainResult(trained, run.step, stopped, run.tokens, run.flops, run.seconds, run.image_tokens)


class Trainer:
    """A run's moving parts: parameters, optimiser, schedule and counters; starts from the last checkpoint, if any."""

    def __init__(
        self,
        vlm: VLM,
        plan: TrainingPlan,
        folder: Path,
        probe: Sequence[Sequence[Encoded]] = (),
        processes: Processes = ALONE,
    ) -> None:
        # Evaluation mode: with dropout the current model would differ from the original without having learnt anything,
        # and a resumed run from an uninterrupted one.
        vlm.model.eval()
        method, settings = plan.method, plan.settings
        self.vlm, self.method, self.settings, self.probe, self.processes = vlm, method, settings, probe, processes
        self.key = content_key(plan.key, vlm.key)
        self.parameters = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters.values(), settings, vlm.device)
        self.pace = Pace(settings)
        self.step, self.tokens, self.flops, self.seconds = 0, 0, 0.0, 0.0
        self.image_tokens, self.vision = 0, Vision(vlm, folder / "vision")
        self.look = 0.0  # seconds that the last look at the probe took
        self.checkpoints = folder / "checkpoints"
        cached, writes = settings.reference == "cached", processes.first
        self.cache = ReferenceCache(folder / "reference", settings, vlm.key, writes=writes) if cached else None
        self.remembered = 0  # steps whose examples the cached original has read
        self.metrics = Metrics(folder / "metrics.jsonl", writes=writes)
        processes.wait()  # until all have read what is there, before the first writes more
        last = self._latest()
        self.saved = 0  # step of the last checkpoint
        if last is None:  # one start for all, whatever their hardware draws
            self._take(processes.broadcast({name: p.detach().cpu() for name, p in self.parameters.items()}))
        else:
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
            row = self.one_step(steps[self.step])
            self._passed_since(began)
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
        """What the original's answers cost up to the checkpoint is in the checkpoint's counters already.

        A checkpoint between two regular ones (SIGTERM) has paid for all steps up to the next regular one.
        """
        self.remembered = self.step
        if self.cache is not None:
            every = self.settings.checkpoint_every
            ahead = self._affordable(steps[self.step : -(-self.step // every) * every])
            seen = self._read_by_original(chain.from_iterable([*steps[: self.step], *ahead]))
            self.cache.paid(seen, self.method.needs)

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
        self.seconds += self.processes.from_first(price.seconds)

    def _passed_since(self, began: float) -> float:
        """Add to the clock, as the first process reads it; what was added."""
        elapsed = self.processes.from_first(time.monotonic() - began)
        self.seconds += elapsed
        return elapsed

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
            self._passed_since(began)
        return self.pace.spent(self.step, self._passed, self.seconds, following, self.look)

    def _expected(self, ended: bool) -> int:
        """How many steps there will be, as far as can be told."""
        return self.step if ended else max(self.step + 1, round(self.step / self._used()))

    def one_step(self, examples: Sequence[Encoded]) -> dict[str, float] | None:
        """One step: its meters, or None if its loss or gradient is no number."""
        used, turns = self._used(), self.settings.accumulate
        rate = self.settings.learning_rate * self.pace.factor(self.step, used)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        before = (self.tokens, self.image_tokens, self.flops)
        mine = split(examples, self.processes.world * turns)[self.processes.rank * turns :][:turns]
        meters = self._optimise([self._backward(share, used, before) for share in mine])
        # What the others' shares took is counted, too.
        spent = [now - then for now, then in zip((self.tokens, self.image_tokens, self.flops), before, strict=True)]
        tokens, image_tokens, flops = self.processes.sum(spent)
        self.tokens, self.image_tokens = before[0] + int(tokens), before[1] + int(image_tokens)
        self.flops = before[2] + flops
        if meters is None:
            return None
        self.step += 1
        counts = {"tokens": self.tokens, "image_tokens": self.image_tokens}
        return {"step": self.step, **counts, "learning_rate": rate, **meters}

    def _backward(self, examples: Sequence[Encoded], used: float, whole: tuple[int, int, float]) -> dict[str, Tensor]:
        """Add the gradients of one share to the parameters'; its loss, terms and meters.

        Args:
            examples: the share.
            used: share of the budget that is used.
            whole: the counters after the last whole step.

        Raises:
            PreemptedError: the process was asked to end.
        """
        self._heed(whole)
        batch = self._collated(examples)
        self.tokens += batch.tokens - batch.image_tokens
        self.image_tokens += batch.image_tokens
        cached = None if self.cache is None else self.cache.of(examples, self.method.needs, self.vlm.device)
        needs, again = self.method.needs, self.settings.recompute
        self.flops += step_flops(self.vlm, batch, needs, original=cached is None, recompute=again)
        views = role_views(self.vlm, batch, self.method.needs, self.settings.head_chunk, cached)
        terms = self.method.loss(RoleBatch(views, progress=used))
        loss = terms.total
        (loss / self.settings.accumulate).backward()  # type: ignore[no-untyped-call]
        named = {f"{name}_loss": term for name, term in terms.terms.items()}
        return {name: value.detach() for name, value in {"loss": loss, **named, **terms.meters}.items()}

    def _heed(self, whole: tuple[int, int, float]) -> None:
        """Where one process was asked to end: all save the last whole step, with its counters, and end."""
        if not self.processes.any(preemption.end_requested()):
            return
        self.tokens, self.image_tokens, self.flops = whole
        self.optimizer.zero_grad(set_to_none=True)
        if self.step > self.saved and self._probed({}, due=True) is None:  # a collapsed state is never saved
            self._save()
        raise preemption.PreemptedError(f"{preemption.STOPPED}; step {self.saved} of the training is kept")

    def _probed(self, row: dict[str, float], due: bool) -> str | None:
        """Where due, look at the probe and note it in the row; what is wrong with it, if anything.

        Every checkpoint is probed before it is written, so that there is never a collapsed one to fall back to.
        """
        if not self.probe or not (due or self.step % self.settings.stop.probe_every == 0):
            return None
        began = time.monotonic()
        row["probe_kl"] = self.processes.from_first(self._probe_kl())
        self.look = self._passed_since(began)
        return self._collapse(row["probe_kl"])

    def _collated(self, examples: Sequence[Encoded]) -> MixedBatch:
        """The examples as a batch on the model's device; seeing pictures for the first time is counted here."""
        before = self.vision.passed
        batch = collate(examples, self.vision.see).to(self.vlm.device)
        self.flops += forward_flops(self.vlm, 0, images=self.vision.passed - before)
        return batch

    def _optimise(self, shares: Sequence[Mapping[str, Tensor]]) -> dict[str, float] | None:
        """One optimiser step on the gradients that are there; None, with nothing changed, if something is not finite.

        Args:
            shares: the meters of each share of this process.

        Returns:
            Their means over all shares of all processes, and the gradient's norm.
        """
        self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm)
        means = torch.stack([torch.stack([value.float() for value in share.values()]) for share in shares]).mean(dim=0)
        # Gathered first: the one time that a step waits for an accelerator.
        *values, grad_norm = torch.cat([means, norm.detach().float()[None]]).tolist()
        together = [total / self.processes.world for total in self.processes.sum(values)]
        loss, *others = zip(shares[0], together, strict=True)
        row = dict([loss, ("grad_norm", grad_norm), *others])
        finite = math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return row if finite else None

    def _average_gradients(self) -> None:
        """One gradient for all processes: the mean. A layer that nobody's loss reaches keeps none."""
        if self.processes.world == 1:
            return
        parameters = list(self.parameters.values())
        reached = self.processes.sum([float(parameter.grad is not None) for parameter in parameters])
        together = [parameter for parameter, by in zip(parameters, reached, strict=True) if by]
        for parameter in together:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.processes.average([parameter.grad for parameter in together if parameter.grad is not None])

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
        self.saved = self.step
        if not self.processes.first:  # adapter and optimiser are the same everywhere
            return
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

    def _latest(self) -> Checkpoint | None:
        """The last checkpoint, as the first process finds it."""
        found = latest_checkpoint(self.checkpoints, self.key) if self.processes.first else None
        return self.processes.broadcast(found)

    def _fall_back(self, problem: str) -> str:
        """Undo everything after the last checkpoint; what it cost stays counted."""
        last = self._latest()
        if last is None:
            raise UserError(f"{problem}; no earlier checkpoint to fall back to: lower train.learning_rate")
        self._restore(last)
        self.metrics.keep_until(self.step)
        return f"{problem}; kept step {self.step}"

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._take(checkpoint.adapter)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.pace.warm_end = checkpoint.scheduler["warm_end"]
        self.step = self.saved = checkpoint.step

    @torch.no_grad()
    def _take(self, adapter: Mapping[str, Tensor] | None) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_((adapter or {})[name])


def _tokens(examples: Sequence[Encoded]) -> int:
    """What a batch will cost; equal to `MixedBatch.tokens`, known before it is made."""
    return sum(example.length for example in examples)
