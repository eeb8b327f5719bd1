"""One training session: a fresh adapter is attached, trained, replaced by an edit if the method says so, and saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from unsay import preemption
from unsay.models.layers import recomputing
from unsay.models.lora import attach, detach, save_adapter
from unsay.models.sharding import shard
from unsay.models.vision import vision_on_host
from unsay.models.vlm import VLM
from unsay.processes import ALONE, Processes
from unsay.records import Example, Role
from unsay.training.adversary import Targets
from unsay.training.companions import CompanionExample, part_of
from unsay.training.encode import Batches, Encoder
from unsay.training.optimizer import scale_adapter
from unsay.training.plan import TrainingPlan
from unsay.training.settings import explaining_failures
from unsay.training.trainer import Progress, Trainer
from unsay.training.weight_edit import edited


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        vlm: the model with its trained adapter.
        steps: optimiser steps whose effect is in the adapter.
        stopped: `finished` when the budget of steps, tokens or seconds is used up, or why training ended early.
        tokens: text tokens of the batches, each step's once, in discarded steps too.
        flops: estimated operations, the original model's forward and the vision tower's included.
        seconds: training time, summed over resumptions.
        image_tokens: the pictures' tokens that passed the language model likewise.
        edit: of a method that edits the weights: `scale`, the length of its step; `probe_kl`, KL on held-out normal
            answers there; `kept`, the share of the edit (squared) that the adapter's rank holds. Empty for the others.
    """

    vlm: VLM
    steps: int
    stopped: str
    tokens: int
    flops: float
    seconds: float
    image_tokens: int = 0
    edit: Mapping[str, float] = field(default_factory=dict)


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

    Writes `train/metrics.jsonl`, `train/checkpoints/` and, at the end, `adapter/` under `run_dir`. On a CPU the result
    is the same bit for bit, however often the run was killed, as long as torch uses the same number of threads: another
    number adds up in another order. Features of pictures are kept in `train/vision/`; without pictures the vision tower
    never runs, and leaves an accelerator's memory meanwhile.

    Several processes split each batch; only the first writes files, and a checkpoint of any number of them is continued
    by any other. A model whose layers were split over them (see `models.sharding`) cannot be used afterwards.

    Args:
        vlm: the original model; an adapter is attached to it in place, and detached if training fails.
        plan: see `plan_training`; a checkpoint is continued only if plan and model are equal.
        run_dir: the run directory.
        progress: called after every step.
        processes: those that train together; each of them makes this call.
        device: where a sharded model goes; by default it stays where it is.

    Raises:
        UserError: an example that cannot be encoded, NaN or collapse before the first checkpoint, out of memory, or a
            lost process.
        PreemptedError: SIGTERM arrived; the last whole step is saved.
    """
    settings = plan.settings
    companions = {row.id: row for rows in plan.steps for row in rows if isinstance(row, CompanionExample)}
    encoder = Encoder(vlm, [*plan.examples, *plan.probe, *companions.values()], settings)
    size = sum(settings.batch.of(role) for role in Role)
    probe = [plan.probe[start : start + size] for start in range(0, len(plan.probe), size)]
    quantisable = vlm.device.type == "cuda" and not processes.sharded and not getattr(vlm.base, "is_quantized", False)
    adapted, meters = attach(vlm, settings.lora, settings.seed), dict[str, float]()
    try:
        if processes.sharded:
            shard(adapted, processes, device or vlm.device)
        targets = Targets(encoder, [*plan.examples, *companions.values()])
        trainer = Trainer(adapted, plan, run_dir / "train", Batches(encoder, probe), processes, targets.of)
        with (
            explaining_failures(trainer, settings, plan.needs.roles, processes.world, quantisable),
            preemption.defer_sigterm(),
            recomputing(adapted, settings.recompute),
            vision_on_host(adapted, not plan.pictured and not processes.sharded),
        ):
            stopped = trainer.run(Batches(encoder, plan.steps), progress)
            if plan.needs.edit is not None:
                forget = _once(plan.steps, settings.batch.forget)
                adapted, meters = edited(
                    trainer, plan.needs.edit, Batches(encoder, forget), settings.lora, settings.seed
                )
        scale_adapter(trainer.parameters, plan.needs.adapter_factor)  # checkpoints hold the adapter as it is trained
        trained = save_adapter(adapted, run_dir / "adapter") if processes.first else adapted
    except BaseException:
        detach(adapted)
        raise
    tokens, image_tokens, flops = trainer.counters
    return TrainResult(trained, trainer.step, stopped, tokens, flops, trainer.seconds, image_tokens, meters)


def _once(steps: Sequence[Sequence[Example]], size: int) -> list[list[Example]]:
    """Every forget example of the steps once, in batches."""
    rows = {row.id: row for step in steps for row in step if part_of(row) is Role.FORGET}
    listed = [rows[id_] for id_ in sorted(rows)]
    return [listed[start : start + size] for start in range(0, len(listed), size)]
