"""The training of a run: its plan, and the adapter."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.config import RunConfig
from unsay.data.pictures import VISUAL
from unsay.data.source_choice import weights
from unsay.errors import UserError
from unsay.files import content_key, read_json, write_json
from unsay.methods import build_method
from unsay.models.lora import ADAPTER_WEIGHTS
from unsay.records import Role
from unsay.run.cautions import training_note
from unsay.run.directory import TRAINED, Adapter, Run
from unsay.run.examples import TrainingExamples, visual_share
from unsay.run.finished import TRAINING_STAGE
from unsay.run.tracker import StepTracker, check_tracker
from unsay.stages import Spent
from unsay.training import TrainingPlan, TrainResult, TrainSettings, plan_training, train


@dataclass(frozen=True)
class TrainedAdapter(Adapter):
    """The adapter of a run, and how many steps its training made."""

    steps: int = 0


def plan_run(run: Run, examples: TrainingExamples) -> TrainingPlan:
    """Plan every step and check the plan, before the original model is evaluated."""
    config, progress = run.config, run.stages.progress
    check_tracker(config.train.tracker)
    progress.start("Plan the training", None)
    method = build_method(config.method, config.method_settings)
    vlm = None
    if method.needs.hidden or run.processes.sharded:
        vlm = run.original()
    elif not config.data.built_in or config.train.adversarial is not None:
        vlm = run.tokenizing()  # the recipe's own examples have the length that it gives them, and no blocks to check
    plan = plan_training(
        method,
        training_settings(run, examples),
        examples.train,
        examples.probe,
        vlm=vlm,
        processes=run.processes.world,
        sharded=run.processes.sharded,
        mixes=source_weights(config),
        key=content_key(config.method, config.method_settings),
    )
    progress.finish(training_note(config, examples, plan) or f"{plan.settings.steps:,} steps")
    return plan


def source_weights(config: RunConfig) -> dict[Role, dict[str, float]]:
    """The weights of named sources, for forget and refuse rows; those of retain rows are in `training_settings`."""
    lists = {role: config.data.choices(role) for role in (Role.FORGET, Role.REFUSE)}
    if not lists[Role.REFUSE]:
        lists[Role.REFUSE] = lists[Role.FORGET]  # the same requests
    return {role: shares for role, choices in lists.items() if (shares := weights(choices)) is not None}


def training_settings(run: Run, examples: TrainingExamples) -> TrainSettings:
    """The run's training settings; a mix of retain sources makes room for visual questions, unless it names them."""
    settings = run.config.train
    if (shares := weights(run.config.data.retain)) is not None:
        if settings.retain_mix is not None:
            raise UserError("train.retain_mix: data.retain has weights: leave one of the two out")
        settings = settings.model_copy(update={"retain_mix": shares})
    visual = Counter(example.source for example in examples.train if example.source in VISUAL)
    mix = settings.retain_mix
    if run.config.data.examples is not None or not visual or mix is None or set(mix) & set(VISUAL):
        return settings
    share = visual_share(run)
    room = {source: share * sum(mix.values()) * count / visual.total() for source, count in sorted(visual.items())}
    shrunk = {source: (1 - share) * part for source, part in mix.items()}
    return settings.model_copy(update={"retain_mix": {**shrunk, **room}})


def train_adapter(run: Run, plan: TrainingPlan) -> TrainedAdapter:
    """Train the adapter; writes `adapter/` and `train/`.

    NaN or collapse before the first checkpoint, too little memory, or a lost process is a `UserError`.
    """
    result_path = run.folder / "train" / "result.json"

    def work(spent: Spent) -> TrainedAdapter:
        # The others wait for it in `join_training`. They build the method themselves: a user's may not be picklable.
        run.processes.broadcast((plan.settings, plan.examples, plan.probe, plan.steps, plan.key))
        result = _train(run, plan)
        run.use_trained(result.vlm)
        run.processes.wait()
        spent.text_tokens, spent.image_tokens = result.tokens, result.image_tokens
        spent.flops, spent.seconds = result.flops, result.seconds
        edit = {"edit": dict(result.edit)} if result.edit else {}
        write_json(result_path, {"steps": result.steps, "stopped": result.stopped, **edit})
        assert result.vlm.adapter_key is not None  # the first process has saved the adapter
        return TrainedAdapter(run.adapter_folder, result.vlm.adapter_key, result.steps)

    def load() -> TrainedAdapter:
        try:
            steps = int(read_json(result_path)["steps"])
        except (UserError, LookupError, TypeError, ValueError):  # missing or damaged: no reason to train again
            steps = plan.settings.steps
        return TrainedAdapter(run.adapter_folder, Adapter.open(run.adapter_folder).key, steps)

    title = "Unlearn, on pictures too" if plan.pictured else "Unlearn, on text alone"
    adapter = run.stages.run(
        TRAINING_STAGE, title, _inputs(run, plan), _outputs(run), work, load=load, total=plan.settings.steps
    )
    if run.stages.records[-1][1]:
        run.processes.broadcast(None)  # reused: there is nothing to take part in
    return adapter


def forget_other_training(run: Run, plan: TrainingPlan) -> None:
    """Remove the record of a training with another plan: its adapter would pass for this run's after a kill."""
    if run.stages.finished(TRAINING_STAGE, _inputs(run, plan), _outputs(run), load=lambda: None) is None:
        (run.folder / TRAINED).unlink(missing_ok=True)


def _inputs(run: Run, plan: TrainingPlan) -> list[str]:
    return [run.model_key, plan.key]


def _outputs(run: Run) -> list[Path]:
    return [run.adapter_folder / ADAPTER_WEIGHTS, run.folder / "train" / "metrics.jsonl"]


def join_training(run: Run) -> None:
    """The part of the other processes in a run: wait for the first one's plan, and train with it."""
    parts: tuple[Any, ...] | None = run.processes.broadcast(None)
    if parts is not None:
        method = build_method(run.config.method, run.config.method_settings)
        _train(run, TrainingPlan(method, *parts))
        run.unload()
        run.processes.wait()


def _train(run: Run, plan: TrainingPlan) -> TrainResult:
    tracker = StepTracker(run.config, run.folder) if run.processes.first else None

    def progress(step: int, steps: int, row: Mapping[str, float]) -> None:
        note = f"loss {row['loss']:+.2f}"
        if tracker is not None:
            tracker.log(step, row)
            note += f"; {tracker.trouble}" if tracker.trouble else ""
        run.stages.progress.update(step, steps, note)

    vlm = run.training_model()
    try:
        return train(vlm, plan, run.folder, progress=progress, processes=run.processes, device=run.device)
    finally:
        if tracker is not None:
            tracker.finish()
