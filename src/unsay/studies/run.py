"""A study from its settings to its report: every run once, in an order in which each finds what it needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import read_json, write_json, write_text
from unsay.models.precision import Fast
from unsay.run.directory import lock_directory
from unsay.run.environment import hardware, versions
from unsay.run.finished import TRAINING_STAGE, MeasuredRun
from unsay.stages import Progress, Silent
from unsay.studies.collect import collect
from unsay.studies.job import STATE, Job, Outcome, finished, job_key, made_in, settled_config
from unsay.studies.known import Finder, Found, RunId, check_versions, of_study, write_kept
from unsay.studies.launch import Launcher
from unsay.studies.page import write_page
from unsay.studies.plan import Plan, Variant, plan
from unsay.studies.schema import StudyResult, write_result
from unsay.studies.settings import Folders, StudySettings


def run_study(
    study: StudySettings,
    out: Path,
    launcher: Launcher,
    *,
    command: str = "",
    known: Iterable[tuple[RunId, Found]] = (),
    progress: Progress | None = None,
) -> StudyResult:
    """Do every run that is not done yet; write `study.json`, `runs.jsonl` and `study.html`.

    Args:
        study: what is compared.
        out: the study's directory; a killed study goes on where it was.
        launcher: does the runs.
        command: how to do this again, for the report.
        known: runs that were done elsewhere (`read_kept`). Those with the settings of this study are not done again;
            where they are all that it needs, no model is loaded.
        progress: told how many of them were taken over.

    Raises:
        UserError: found before anything is run: bad settings; known runs none of which is of this study; runs, known or
            in the directory, that were made with different versions, among themselves or from those here; another
            process at work in the directory. Or no model could be evaluated at all.
    """
    planned = plan(study)
    _held = lock_directory(out)  # until this function returns
    folders = Folders(out)
    write_text(out / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    work = _Work(planned, Finder(folders), launcher, of_study(planned, known), progress or Silent())
    work.originals()
    work.variants([variant for variant in planned.variants if _measured(planned, variant)])
    work.variants([variant for variant in planned.variants if not _measured(planned, variant)])
    write_kept(out / "runs.jsonl", work.finder.every(planned))
    result = collect(planned, work.finder, command=command)
    write_result(out / "study.json", result)
    write_page(out / "study.html", result)
    return result


def _measured(planned: Plan, variant: Variant) -> bool:
    """Whether the tokens and seconds of this one decide the budget of others."""
    return planned.is_reference(variant) and variant.rule == "steps"


@dataclass
class _Work:
    planned: Plan
    finder: Finder
    launcher: Launcher
    known: Mapping[RunId, Sequence[Found]]
    progress: Progress
    failed: dict[Path, str] = field(default_factory=dict)
    done_before: set[Path] = field(default_factory=set)
    """Run directories with results to which more are to be added; they may be of an earlier call."""
    elsewhere: dict[str, Fast | None] = field(default_factory=dict)
    """Model → the precision that its known runs were made in, where the study leaves it open."""

    def originals(self) -> None:
        """Evaluate the models without training, but for those whose runs are all known."""
        models = self.planned.study.models
        missing = [model for model in models if not self._complete(model)]
        runs = [found for some in self.known.values() for found in some]
        check_versions([(found.run.name, found.run.environment) for found in runs], versions() if missing else None)
        self._do([self._original(model) for model in missing])
        self.done_before |= {self.finder.folders.original(model) for model in missing}
        if len(self.failed) == len(models):
            raise UserError(f"study: the untrained model cannot be evaluated: {next(iter(self.failed.values()))}")

    def variants(self, variants: Sequence[Variant]) -> None:
        """One run for each seed of each; a run whose budget cannot be known fails with that for its reason."""
        jobs, taken, differ = [], 0, list[str]()
        for variant in variants:
            for seed in self.planned.study.seeds:
                folder = self.finder.folders.run(variant.model, variant.name, seed)
                original = self.finder.folders.original(variant.model)
                try:
                    if original in self.failed:
                        raise UserError(f"the untrained model failed: {self.failed[original]}")
                    job = self._job(variant, seed)
                    if self._accept(variant, seed, job, self._evaluated(variant.model)):
                        taken += 1
                        continue
                except UserError as error:
                    self._note(folder, str(error))
                    continue
                which = RunId.trained(variant.model, variant.name, seed)
                if finished(job, job_key(job)):
                    self.done_before.add(folder)
                elif which in self.known:
                    differ.append(job.title)
                jobs.append(job)
        if self.known and variants:
            self.progress.start("Runs from elsewhere", None)
            rest = ", …" if len(differ) > 1 else ""
            others = f", {len(differ)} not: other settings or data ({differ[0]}{rest})" if differ else ""
            self.progress.finish(f"{taken} taken over{others}")
        self._check_done_before(jobs)
        self._do(jobs)

    def _original(self, model: str) -> Job:
        config, folder = self.planned.base_config(model), self.finder.folders.original(model)
        return self._untrained(model, settled_config(config, [folder], self._made_in(model)))

    def _untrained(self, model: str, config: RunConfig) -> Job:
        return Job(f"{model}, untrained", self.finder.folders.original(model), None, _values(config))

    def _made_in(self, model: str) -> Fast | None:
        """The precision of a model's known runs, where the study leaves it open."""
        if model not in self.elsewhere:
            config, which = self.planned.base_config(model), RunId.original(model)

            def known(config: RunConfig) -> bool:
                return self._handed_over(which, lambda: job_key(self._untrained(model, config))) is not None

            self.elsewhere[model] = made_in(config, known)
        return self.elsewhere[model]

    def _job(self, variant: Variant, seed: int) -> Job:
        folder = self.finder.folders.run(variant.model, variant.name, seed)
        several = len(self.planned.study.models) > 1
        title = f"{f'{variant.model}, ' if several else ''}{variant.name}, seed {seed}"
        limit, timed_on = self._limit(variant, seed)
        original = self.finder.folders.original(variant.model)
        config = self.planned.config(variant, seed, limit)
        config = settled_config(config, [original, folder], self._made_in(variant.model))
        return Job(title, folder, original, _values(config), timed_on)

    def _limit(self, variant: Variant, seed: int) -> tuple[float | None, tuple[Any, ...] | None]:
        """The budget of one run, and if it is seconds that were measured, on which hardware."""
        budget = self.planned.study.budget
        given = {"steps": None, "tokens": budget.tokens, "seconds": budget.seconds}[variant.rule]
        if variant.rule == "steps" or given is not None:
            return given, None
        reference = self.finder.run(variant.model, f"{self.planned.reference}@steps", seed)
        if isinstance(reference, str):
            raise UserError(f"its budget is what {self.planned.reference} used, and that failed")
        tokens, seconds = used(reference.run, budget.at_steps)
        return (tokens, None) if variant.rule == "tokens" else (seconds, hardware(reference.run.environment))

    def _check_done_before(self, jobs: Sequence[Job]) -> None:
        """Whether runs of an earlier call, if more are to be done, were made with the versions that are here now."""
        if all(job.folder in self.done_before for job in jobs):
            return
        made = [path for folder in sorted(self.done_before) if (path := folder / "environment.json").exists()]
        check_versions([(str(path.parent), read_json(path)) for path in made], versions())

    def _complete(self, model: str) -> bool:
        """Whether everything about a model is known; if so, all of it is taken over, and nothing is loaded."""
        which = RunId.original(model)
        found = self._handed_over(which, lambda: job_key(self._original(model)))
        if found is None:
            return False
        self.finder.known[which] = found
        mine = [variant for variant in self.planned.variants if variant.model == model]
        for variant in sorted(mine, key=lambda variant: not _measured(self.planned, variant)):
            for seed in self.planned.study.seeds:
                try:
                    accepted = self._accept(variant, seed, self._job(variant, seed), found.evaluated)
                except UserError:  # the run that its budget comes from is not known
                    accepted = False
                if not accepted:
                    self.finder.forget(which.model)
                    return False
        return True

    def _evaluated(self, model: str) -> str | None:
        """Key of the evaluation of a model without training, wherever that was done."""
        found = self.finder.original(model)
        return None if found is None else found.evaluated

    def _accept(self, variant: Variant, seed: int, job: Job, evaluated: str | None) -> bool:
        """Take a known run over, if it is the job and has not been done here."""
        if evaluated is None:
            return False
        which = RunId.trained(variant.model, variant.name, seed)
        found = self._handed_over(which, lambda: job_key(job, evaluated))
        if found is None or finished(job, found.key):
            return False
        self.finder.known[which] = found
        return True

    def _handed_over(self, which: RunId, key: Callable[[], str]) -> Found | None:
        """The known run of this key; keys hash the suites' code, so none is made where nothing could have it."""
        if not (candidates := self.known.get(which)):
            return None
        wanted = key()
        return next((found for found in candidates if found.key == wanted), None)

    def _do(self, jobs: Sequence[Job]) -> None:
        def told(job: Job, outcome: Outcome) -> None:
            if outcome.state == "failed":
                self._note(job.folder, outcome.reason)

        if jobs:
            self.launcher.run(jobs, told)

    def _note(self, folder: Path, reason: str) -> None:
        self.failed[folder] = reason
        write_json(folder / STATE, Outcome(state="failed", reason=reason).model_dump(mode="json"))


def used(run: MeasuredRun, at_steps: int | None = None) -> tuple[int, float]:
    """Tokens, image tokens included, and seconds of a finished training, or of its first steps.

    Raises:
        UserError: the run has not so many steps.
    """
    if at_steps is None:
        (cost,) = [row for row in run.scores.cost if row.stage == TRAINING_STAGE]
        return cost.text_tokens + cost.image_tokens, cost.seconds
    for row in run.steps:
        if row.step == at_steps:
            return row.tokens, row.seconds
    raise UserError(f"budget.at_steps: {run.name} has no step {at_steps}")


def _values(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"train": {"seed"}})
