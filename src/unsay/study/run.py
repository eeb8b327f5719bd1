"""A study from its settings to its report: every run once, in an order in which each finds what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import write_json, write_text
from unsay.pipeline.environment import environment
from unsay.pipeline.finished import FinishedRun
from unsay.stages import Progress, Silent
from unsay.study.collect import collect
from unsay.study.finding import Finder
from unsay.study.job import STATE, Job, Outcome, evaluation_key, finished, job_key
from unsay.study.kept import Found, RunId, write_kept
from unsay.study.launching import Launcher
from unsay.study.plan import Plan, Variant, plan
from unsay.study.render import write_page
from unsay.study.schema import ORIGINAL, StudyResult, write_result
from unsay.study.settings import Folders, StudySettings, folder_name

ALIKE = ("unsay", "libraries")
"""What runs must have in common that are compared: versions decide numbers too."""


def run_study(
    study: StudySettings,
    out: Path,
    launcher: Launcher,
    *,
    command: str = "",
    known: Mapping[RunId, Found] | None = None,
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
        UserError: bad settings, found before anything is run; no model could be evaluated at all; or known runs were
            made with other versions than the runs that are missing would be.
    """
    planned = plan(study)
    folders = Folders(out)
    write_text(out / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    work = _Work(planned, Finder(folders), launcher, known or {}, progress or Silent())
    work.originals()
    work.variants([variant for variant in planned.variants if _measured(planned, variant)])
    work.variants([variant for variant in planned.variants if not _measured(planned, variant)])
    result = collect(planned, work.finder, command=command)
    write_result(out / "study.json", result)
    write_kept(out / "runs.jsonl", work.finder.every(planned))
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
    known: Mapping[RunId, Found]
    progress: Progress
    failed: dict[Path, str] = field(default_factory=dict)

    def originals(self) -> None:
        """Evaluate the models without training, but for those whose runs are all known."""
        models = self.planned.study.models
        missing = [model for model in models if not self._complete(model)]
        if missing:
            self._check_alike()
        self._do([self._original(model) for model in missing])
        if len(self.failed) == len(models):
            raise UserError(f"study: the untrained model cannot be evaluated: {next(iter(self.failed.values()))}")

    def variants(self, variants: Sequence[Variant]) -> None:
        """One run for each seed of each; a run whose budget cannot be known fails with that for its reason."""
        jobs, taken, other = [], 0, 0
        for variant in variants:
            for seed in self.planned.study.seeds:
                folder = self.finder.folders.run(variant.model, variant.name, seed)
                original = self.finder.folders.original(variant.model)
                try:
                    if original in self.failed:
                        raise UserError(f"the untrained model failed: {self.failed[original]}")
                    job = self._job(variant, seed)
                except UserError as error:
                    self._note(folder, str(error))
                    continue
                if self._accept(variant, seed, job, self._evaluated(variant.model)):
                    taken += 1
                else:
                    other += _id(variant, seed) in self.known
                    jobs.append(job)
        if taken or other:
            self.progress.start("Runs from elsewhere", None)
            differ = {0: "", 1: ", 1 differs from what is asked here and is not"}
            more = f", {other} differ from what is asked here and are not"
            self.progress.finish(f"{taken} taken over{differ.get(other, more)}")
        self._do(jobs)

    def _original(self, model: str) -> Job:
        config = _plain(self.planned.base_config(model))
        return Job(f"{model}, untrained", self.finder.folders.original(model), None, config)

    def _job(self, variant: Variant, seed: int) -> Job:
        folder = self.finder.folders.run(variant.model, variant.name, seed)
        several = len(self.planned.study.models) > 1
        title = f"{f'{variant.model}, ' if several else ''}{variant.name}, seed {seed}"
        config = _plain(self.planned.config(variant, seed, self._limit(variant, seed)))
        return Job(title, folder, self.finder.folders.original(variant.model), config)

    def _limit(self, variant: Variant, seed: int) -> float | None:
        budget = self.planned.study.budget
        given = {"steps": None, "tokens": budget.tokens, "seconds": budget.seconds}[variant.rule]
        if variant.rule == "steps" or given is not None:
            return given
        reference = self.finder.run(variant.model, f"{self.planned.reference}@steps", seed)
        if isinstance(reference, str):
            raise UserError(f"its budget is what {self.planned.reference} used, and that failed")
        tokens, seconds = used(reference.run, budget.at_steps)
        return tokens if variant.rule == "tokens" else seconds

    def _complete(self, model: str) -> bool:
        """Whether everything about a model is known; if so, all of it is taken over, and nothing is loaded."""
        which = RunId(folder_name(model), ORIGINAL, None)
        found = self.known.get(which)
        if found is None or found.key != job_key(self._original(model)):
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
        if (found := self.finder.original(model)) is not None:
            return found.evaluated
        return evaluation_key(self.finder.folders.original(model))

    def _accept(self, variant: Variant, seed: int, job: Job, evaluated: str | None) -> bool:
        """Take a known run over, if it is the job and has not been done here."""
        which = _id(variant, seed)
        found = self.known.get(which)
        if found is None or evaluated is None or found.key != job_key(job, evaluated):
            return False
        if finished(job, found.key):
            return False
        self.finder.known[which] = found
        return True

    def _check_alike(self) -> None:
        here = environment()
        for found in self.known.values():
            for name in ALIKE:
                if found.run.environment.get(name) != here[name]:
                    theirs, ours = _shown(found.run.environment.get(name)), _shown(here[name])
                    raise UserError(
                        f"{found.run.name}: made with {theirs}, and here is {ours}: runs of different versions are not "
                        "compared; install the same, or leave these runs out"
                    )

    def _do(self, jobs: Sequence[Job]) -> None:
        def told(job: Job, outcome: Outcome) -> None:
            if outcome.state == "failed":
                self._note(job.folder, outcome.reason)

        self.launcher.run(jobs, told)

    def _note(self, folder: Path, reason: str) -> None:
        self.failed[folder] = reason
        write_json(folder / STATE, Outcome(state="failed", reason=reason).model_dump(mode="json"))


def used(run: FinishedRun, at_steps: int | None = None) -> tuple[int, float]:
    """Tokens, image tokens included, and seconds of a finished training, or of its first steps.

    Raises:
        UserError: the run has not so many steps.
    """
    if at_steps is None:
        (cost,) = [row for row in run.scores.cost if row.stage == "unlearn"]
        return cost.text_tokens + cost.image_tokens, cost.seconds
    for row in run.spent:
        if row.step == at_steps:
            return row.tokens, row.seconds
    raise UserError(f"budget.at_steps: {run.name} has no step {at_steps}")


def _id(variant: Variant, seed: int) -> RunId:
    return RunId(folder_name(variant.model), variant.name, seed)


def _shown(versions: object) -> str:
    if not isinstance(versions, Mapping):
        return f"unsay {versions}"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _plain(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"train": {"seed"}})
