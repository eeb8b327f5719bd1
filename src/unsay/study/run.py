"""A study from its settings to its report: every run once, in an order in which each finds what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import read_json, write_json, write_text
from unsay.reporting.curves import read_metrics
from unsay.stages import StageRecord
from unsay.study.collect import collect
from unsay.study.job import STATE, Job, Outcome
from unsay.study.launching import Launcher
from unsay.study.plan import Plan, Variant, plan
from unsay.study.render import write_page
from unsay.study.schema import StudyResult, write_result
from unsay.study.settings import Folders, StudySettings


def run_study(study: StudySettings, out: Path, launcher: Launcher, *, command: str = "") -> StudyResult:
    """Do every run that is not done yet; write `study.json` and `study.html`.

    Args:
        study: what is compared.
        out: the study's directory; a killed study goes on where it was.
        launcher: does the runs.
        command: how to do this again, for the report.

    Raises:
        UserError: bad settings, found before anything is run; or no model could be evaluated at all.
    """
    planned = plan(study)
    folders = Folders(out)
    write_text(out / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    work = _Work(planned, folders, launcher)
    work.originals()
    work.variants([variant for variant in planned.variants if _measured(planned, variant)])
    work.variants([variant for variant in planned.variants if not _measured(planned, variant)])
    result = collect(planned, folders, command=command)
    write_result(out / "study.json", result)
    write_page(out / "study.html", result)
    return result


def _measured(planned: Plan, variant: Variant) -> bool:
    """Whether the tokens and seconds of this one decide the budget of others."""
    return planned.is_reference(variant) and variant.rule == "steps"


@dataclass
class _Work:
    planned: Plan
    folders: Folders
    launcher: Launcher
    failed: dict[Path, str] = field(default_factory=dict)

    def originals(self) -> None:
        models = self.planned.study.models
        jobs = [
            Job(f"{model}, untrained", self.folders.original(model), None, _plain(self.planned.base_config(model)))
            for model in models
        ]
        self._do(jobs)
        if len(self.failed) == len(models):
            raise UserError(f"study: the untrained model cannot be evaluated: {next(iter(self.failed.values()))}")

    def variants(self, variants: Sequence[Variant]) -> None:
        """One run for each seed of each; a run whose budget cannot be known fails with that for its reason."""
        jobs = []
        for variant in variants:
            for seed in self.planned.study.seeds:
                folder = self.folders.run(variant.model, variant.name, seed)
                original = self.folders.original(variant.model)
                try:
                    if original in self.failed:
                        raise UserError(f"the untrained model failed: {self.failed[original]}")
                    config = self.planned.config(variant, seed, self._limit(variant, seed))
                except UserError as error:
                    self._note(folder, str(error))
                    continue
                several = len(self.planned.study.models) > 1
                title = f"{f'{variant.model}, ' if several else ''}{variant.name}, seed {seed}"
                jobs.append(Job(title, folder, original, _plain(config)))
        self._do(jobs)

    def _limit(self, variant: Variant, seed: int) -> float | None:
        budget = self.planned.study.budget
        given = {"steps": None, "tokens": budget.tokens, "seconds": budget.seconds}[variant.rule]
        if variant.rule == "steps" or given is not None:
            return given
        folder = self.folders.run(variant.model, f"{self.planned.reference}@steps", seed)
        if folder in self.failed:
            raise UserError(f"its budget is what {self.planned.reference} used, and that failed")
        tokens, seconds = used(folder, budget.at_steps)
        return tokens if variant.rule == "tokens" else seconds

    def _do(self, jobs: Sequence[Job]) -> None:
        def told(job: Job, outcome: Outcome) -> None:
            if outcome.state == "failed":
                self._note(job.folder, outcome.reason)

        self.launcher.run(jobs, told)

    def _note(self, folder: Path, reason: str) -> None:
        self.failed[folder] = reason
        write_json(folder / STATE, Outcome(state="failed", reason=reason).model_dump(mode="json"))


def used(run: Path, at_steps: int | None = None) -> tuple[int, float]:
    """Tokens, image tokens included, and seconds of a finished training, or of its first steps.

    Raises:
        UserError: the run is not finished, or has not so many steps.
    """
    if at_steps is None:
        record = StageRecord.model_validate(read_json(run / "stages" / "unlearn.json"))
        return record.text_tokens + record.image_tokens, record.seconds
    for row in read_metrics(run / "train" / "metrics.jsonl"):
        if row["step"] == at_steps:
            return int(row["tokens"] + row.get("image_tokens", 0)), float(row["seconds"])
    raise UserError(f"budget.at_steps: {run} has no step {at_steps}")


def _plain(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"train": {"seed"}})
