"""A study from its settings to its report: every run once, each after the runs that it depends on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import read_json, write_json, write_text
from unsay.methods import build_method
from unsay.models.precision import Fast
from unsay.run.directory import check_format, lock_directory
from unsay.run.environment import hardware, versions
from unsay.run.examples import read_examples
from unsay.run.finished import TRAINING_STAGE, MeasuredRun
from unsay.stages import Progress, Silent
from unsay.studies.collect import collect
from unsay.studies.job import (
    STATUS_FILE,
    Job,
    JobStatus,
    finished,
    job_key,
    known_precision,
    resolve_precision,
)
from unsay.studies.known import KeyedRun, RunId, StudyRuns, check_versions, of_plan, write_runs
from unsay.studies.launch import Launcher
from unsay.studies.page import write_page
from unsay.studies.schema import StudyResult, write_result
from unsay.studies.settings import StudyDirectory, StudySettings
from unsay.studies.study_plan import Plan, Variant, plan_study
from unsay.training.plan import check_roles, plan_training


def run_study(
    study: StudySettings,
    out: Path,
    launcher: Launcher,
    *,
    command: str = "",
    known: Iterable[tuple[RunId, KeyedRun]] = (),
    progress: Progress | None = None,
) -> StudyResult:
    """Do every run that is not done yet; write `study.json`, `runs.jsonl` and `study.html`.

    A killed study is resumed. Runs with the settings of this study that were done elsewhere (`known`, see `read_runs`)
    are not done again; where they are all that it needs, no model is loaded. `command` says how to do this again.

    Raises:
        UserError: before anything is run, bad settings; examples that an arm cannot train on; known runs that do not
            belong to this study; runs that were made with different versions; a directory that holds a run, or where
            another process is at work. Later, that no original model can be evaluated.
    """
    plan = plan_study(study)
    if (out / "config.yaml").exists():
        raise UserError(f"{out}: holds a run; choose another --out")
    _check_training(plan)
    _lock = lock_directory(out)  # until this function returns
    write_text(out / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    runner = _StudyRunner(plan, StudyRuns(StudyDirectory(out)), launcher, of_plan(plan, known), progress or Silent())
    runner.run_originals()
    runner.run_variants([variant for variant in plan.variants if plan.is_measured(variant)])
    runner.run_variants([variant for variant in plan.variants if not plan.is_measured(variant)])
    write_runs(out / "runs.jsonl", runner.runs.every(plan))
    result = collect(plan, runner.runs, command=command)
    write_result(out / "study.json", result)
    write_page(out / "study.html", result)
    return result


def _check_training(plan: Plan) -> None:
    """What training would refuse is a `UserError` here, before the original models answer: own examples and batches."""
    read = cache(read_examples)  # most arms have the same, and they may be many
    for variant in plan.variants:
        config = plan.config(variant, plan.study.seeds[0], limit=1)
        method, given = build_method(config.method, config.method_settings), config.data.examples
        try:
            plan_training(method, config.train)
            if given is not None:
                check_roles(method.needs, read(given, config.data.recipe.probe, config.seed)[0])
        except UserError as error:
            raise UserError(f"study, arm '{variant.arm}': {error}") from None


@dataclass
class _StudyRunner:
    plan: Plan
    runs: StudyRuns
    launcher: Launcher
    known: Mapping[RunId, Sequence[KeyedRun]]
    progress: Progress
    failed: dict[Path, str] = field(default_factory=dict)
    # Run directories with results, perhaps of an earlier call, to which more runs are to be added.
    done_before: set[Path] = field(default_factory=set)
    # Model → the precision of its known runs, where the study leaves it open.
    precisions: dict[str, Fast | None] = field(default_factory=dict)

    def run_originals(self) -> None:
        """Evaluate the original models, except those whose runs are all known."""
        models = self.plan.study.models
        missing = [model for model in models if not self._is_complete(model)]
        known = [keyed.run for candidates in self.known.values() for keyed in candidates]
        check_versions([(run.name, run.environment) for run in known], versions() if missing else None)
        self._check_format(missing)
        self._launch([self._original_job(model) for model in missing])
        self.done_before |= {self.runs.folders.original(model) for model in missing}
        if len(self.failed) == len(models):
            raise UserError(f"study: the original model cannot be evaluated: {next(iter(self.failed.values()))}")

    def _check_format(self, models: Sequence[str]) -> None:
        """Refuse to go on in a study directory of an earlier version."""
        runs = self.runs.folders.root / "runs.jsonl"
        try:
            for model in models:
                check_format(self.runs.folders.original(model))
        except UserError as error:
            hint = f"; --known {runs} takes over its finished runs" if runs.exists() else ""
            raise UserError(f"{error}{hint}") from None

    def run_variants(self, variants: Sequence[Variant]) -> None:
        """Do one run for each seed of each variant; a run whose budget cannot be determined fails with that reason."""
        jobs, taken, different = [], 0, list[str]()
        for variant in variants:
            for seed in self.plan.study.seeds:
                folder = self.runs.folders.run(variant.model, variant.name, seed)
                original = self.runs.folders.original(variant.model)
                try:
                    if original in self.failed:
                        raise UserError(f"the original model failed: {self.failed[original]}")
                    job = self._job(variant, seed)
                    if self._take_over(variant, seed, job, self._evaluated(variant.model)):
                        taken += 1
                        continue
                except UserError as error:
                    self._fail(folder, str(error))
                    continue
                if finished(job, job_key(job)):
                    self.done_before.add(folder)
                elif RunId.trained(variant.model, variant.name, seed) in self.known:
                    different.append(job.title)
                jobs.append(job)
        if self.known and variants:
            self._report_known(taken, different)
        self._check_done_before(jobs)
        self._launch(jobs)

    def _report_known(self, taken: int, different: Sequence[str]) -> None:
        self.progress.start("Runs from elsewhere", None)
        rest = ", …" if len(different) > 1 else ""
        others = f", {len(different)} not: other settings or data ({different[0]}{rest})" if different else ""
        self.progress.finish(f"{taken} taken over{others}")

    def _original_job(self, model: str) -> Job:
        folder = self.runs.folders.original(model)
        config = resolve_precision(self.plan.base_config(model), [folder], self._known_precision(model))
        return self._evaluation(model, config)

    def _evaluation(self, model: str, config: RunConfig) -> Job:
        return Job(f"{model}, original", self.runs.folders.original(model), None, _values(config))

    def _known_precision(self, model: str) -> Fast | None:
        """The precision of a model's known runs, where the study leaves it open."""
        if model not in self.precisions:

            def is_known(config: RunConfig) -> bool:
                return self._find_known(RunId.original(model), lambda: self._evaluation(model, config)) is not None

            self.precisions[model] = known_precision(self.plan.base_config(model), is_known)
        return self.precisions[model]

    def _job(self, variant: Variant, seed: int) -> Job:
        folder = self.runs.folders.run(variant.model, variant.name, seed)
        original = self.runs.folders.original(variant.model)
        model = f"{variant.model}, " if len(self.plan.study.models) > 1 else ""
        limit, timed_on = self._limit(variant, seed)
        config = self.plan.config(variant, seed, limit)
        config = resolve_precision(config, [original, folder], self._known_precision(variant.model))
        return Job(
            f"{model}{variant.name}, seed {seed}",
            folder,
            original,
            _values(config),
            timed_on,
            self.plan.study.robustness,
        )

    def _limit(self, variant: Variant, seed: int) -> tuple[float | None, tuple[Any, ...] | None]:
        """The budget of one run and, if it is seconds that were measured, the hardware that they were measured on."""
        budget = self.plan.study.budget
        given = {"steps": None, "tokens": budget.tokens, "seconds": budget.seconds}[variant.rule]
        if variant.rule == "steps" or given is not None:
            return given, None
        reference = self.runs.used(variant.model, f"{self.plan.reference}@steps", seed)
        if reference is None:
            raise UserError(f"its budget is what {self.plan.reference} used, and that failed")
        tokens, seconds = used_budget(reference, budget.at_steps)
        return (tokens, None) if variant.rule == "tokens" else (seconds, hardware(reference.environment))

    def _check_done_before(self, jobs: Sequence[Job]) -> None:
        """Refuse to add runs to those of an earlier call that were made with other versions than those here."""
        if all(job.folder in self.done_before for job in jobs):
            return
        made = [path for folder in sorted(self.done_before) if (path := folder / "environment.json").exists()]
        check_versions([(str(path.parent), read_json(path)) for path in made], versions())

    def _is_complete(self, model: str) -> bool:
        """Whether all runs of a model are known; if so, all are taken over, and no model is loaded."""
        original = self._find_known(RunId.original(model), lambda: self._original_job(model))
        if original is None:
            return False
        self.runs.known[RunId.original(model)] = original
        variants = [variant for variant in self.plan.variants if variant.model == model]
        for variant in sorted(variants, key=lambda variant: not self.plan.is_measured(variant)):
            for seed in self.plan.study.seeds:
                try:
                    taken = self._take_over(variant, seed, self._job(variant, seed), original.evaluated)
                except UserError:  # the run that its budget comes from is not known
                    taken = False
                if not taken:
                    self.runs.forget(RunId.original(model).model)
                    return False
        return True

    def _evaluated(self, model: str) -> str | None:
        """Key of the evaluation of an original model, wherever that was done."""
        original = self.runs.original(model)
        return None if original is None else original.evaluated

    def _take_over(self, variant: Variant, seed: int, job: Job, evaluated: str | None) -> bool:
        """Take over the known run of a job that has not been done here."""
        if evaluated is None:
            return False
        run_id = RunId.trained(variant.model, variant.name, seed)
        keyed = self._find_known(run_id, lambda: job, evaluated)
        if keyed is None or finished(job, job_key(job, evaluated)):
            return False
        self.runs.known[run_id] = keyed
        return True

    def _find_known(self, run_id: RunId, make_job: Callable[[], Job], evaluated: str | None = None) -> KeyedRun | None:
        """The known run of a job; the job is made, which may time a model, only where there are candidates."""
        if not (candidates := self.known.get(run_id)):
            return None
        job = make_job()
        key = job_key(job, evaluated)
        return next((run for run in candidates if run.key == key), None)

    def _launch(self, jobs: Sequence[Job]) -> None:
        def ended(job: Job, status: JobStatus) -> None:
            if status.state == "failed":
                self._fail(job.folder, status.reason)

        if jobs:
            self.launcher.run(jobs, ended)

    def _fail(self, folder: Path, reason: str) -> None:
        self.failed[folder] = reason
        write_json(folder / STATUS_FILE, JobStatus(state="failed", reason=reason).model_dump(mode="json"))


def used_budget(run: MeasuredRun, at_steps: int | None = None) -> tuple[int, float]:
    """Tokens, image tokens included, and seconds of a finished training, or of its first steps, if it has so many."""
    if at_steps is None:
        (cost,) = [row for row in run.scores.cost if row.stage == TRAINING_STAGE]
        return cost.text_tokens + cost.image_tokens, cost.seconds
    for row in run.steps:
        if row.step == at_steps:
            return row.tokens, row.seconds
    raise UserError(f"budget.at_steps: {run.name} has no step {at_steps}")


def _values(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"train": {"seed"}})
