"""One run of a study: a plain value that any process can do, and its outcome.

One run of a study: a plain value that any process can do, and what came of it.

What `fastest` comes to in a study: decided once, by the first of its runs, wherever that was done.

What all arms have in common is made once: an arm takes over finished stages of the run of the untrained model.
"""

import shutil
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import ValidationError

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import atomic_path, content_key, read_json, write_json, write_text
from unsay.journal import append_journal
from unsay.methods import build_method, method_version
from unsay.models.precision import Fast, settled
from unsay.records import Phase, Record
from unsay.run.directory import Run, earlier_precision
from unsay.run.environment import environment, hardware
from unsay.run.evaluate import evaluate_phase
from unsay.run.examples import examples_key, harmful_requests, own_answers
from unsay.run.experiment import unlearn_run
from unsay.run.finished import portable_settings, read_run
from unsay.run.score import score_run
from unsay.run.suites import build_suites, requested_suites
from unsay.scoring.schema import SCHEMA_VERSION
from unsay.stages import Progress, StageRecord
from unsay.suites import suites_key


def settled_config(config: RunConfig, folders: Iterable[Path], elsewhere: Fast | None) -> RunConfig:
    """The settings with `fastest` replaced, for the precision decides the numbers, and so is a part of what a run is.

    Args:
        config: settings of a run. On an accelerator they stay as they are: a launcher's own machine need not have it.
        folders: run directories; what the first of them that has these settings was begun in comes first.
        elsewhere: what the runs that were handed over were made in (`made_in`) comes next; the stopwatch comes last.
    """
    if torch.device(config.device).type != "cpu":
        return config
    begun = next((found for folder in folders if (found := earlier_precision(folder, config)) is not None), None)
    if begun is not None:
        return config.model_copy(update={"model_settings": begun})
    if elsewhere is not None and config.model_settings.dtype == "fastest":
        return _in(config, elsewhere)
    return config.model_copy(update={"model_settings": settled(config.model_settings, config.device)})


def made_in(config: RunConfig, known: Callable[[RunConfig], bool]) -> Fast | None:
    """The precision of a run that was handed over; None if `fastest` is not asked for, or that run has other settings.

    Such a run has no settings, only their key, so every precision that `fastest` can come to is tried.

    Args:
        config: settings of the untrained model's evaluation.
        known: whether the run that was handed over has these settings.
    """
    if config.model_settings.dtype != "fastest" or torch.device(config.device).type != "cpu":
        return None
    return next((dtype for dtype in get_args(Fast) if known(_in(config, dtype))), None)


def _in(config: RunConfig, dtype: Fast) -> RunConfig:
    return config.model_copy(update={"model_settings": config.model_settings.model_copy(update={"dtype": dtype})})


STAGES = ("suites", "own-answers", "evaluate-before")
"""Stages that depend on the model and on what is asked, and not on how it is trained."""
ALONG = {"own-answers": ("train/cache.jsonl",), "evaluate-before": ("responses/cache.jsonl",)}
"""Answers that an arm may need although it asks for less, or for more; they join those that it has."""


def adopt(original: Path, arm: Path) -> None:
    """Copy finished stages of one run directory into another, with their dates, so that they are reused there.

    Nothing is taken on trust: a run compares the key of its own inputs with the stage's, and does the stage again where
    they differ. What was copied once is not copied again, for the arm may have made it anew for a good reason.
    """
    log = arm / "adopted.json"
    adopted = _log(log)
    for name in STAGES:
        record = _record(original, name)
        if record is None or adopted.get(name) == record.key:
            continue
        for path in (*record.outputs, f"stages/{name}.json"):
            if (original / path).is_file():
                with atomic_path(arm / path) as temporary:
                    shutil.copy2(original / path, temporary)
        for path in ALONG.get(name, ()):
            if (original / path).is_file():  # the arm's own answers stay
                append_journal(arm / path, original / path)
        adopted[name] = record.key
        write_json(log, adopted)


def _record(run: Path, name: str) -> StageRecord | None:
    try:
        return StageRecord.model_validate(read_json(run / "stages" / f"{name}.json"))
    except (UserError, ValidationError):
        return None


def _log(path: Path) -> dict[str, str]:
    try:
        found = read_json(path)
    except UserError:
        return {}
    return {str(name): str(key) for name, key in found.items()} if isinstance(found, dict) else {}


STATE = "arm.json"
MADE = ("scores.json", "stages/unlearn.json", "adapter/adapter_model.safetensors")
"""Files without which a run is not finished, whatever its state says."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        title: for people.
        folder: its run directory.
        original: run directory of the untrained model, to share its answers; None if this is that one.
        config: a run's configuration, as plain values.
        timed_on: the hardware that its budget of seconds was measured on; None if it has no such budget.
    """

    title: str
    folder: Path
    original: Path | None
    config: dict[str, Any]
    timed_on: tuple[Any, ...] | None = None

    @property
    def settings(self) -> RunConfig:
        """The configuration."""
        return RunConfig.model_validate(self.config)


class Outcome(Record):
    """How a run ended; also the content of its `arm.json`."""

    state: Literal["finished", "failed"]
    reason: str = ""
    """Why it failed, in one line that repeats no prompt and no answer."""
    key: str = ""
    """Content key of everything that decides the run; another one is run again."""


@dataclass
class Bench:
    """What runs in one process hand on to each other: the model and the judge that are loaded."""

    last: Run | None = field(default=None)

    def open(self, job: Job, progress: Progress | None) -> Run:
        """The job's run, with what the last one had loaded."""
        run = Run.open(job.folder, job.settings, progress)
        if self.last is not None:
            run.share(self.last)
        self.last = run
        return run


def evaluation_key(original: Path) -> str | None:
    """Content key of the evaluation of an untrained model; None where there is none yet."""
    record = original / "stages" / "evaluate-before.json"
    return str(read_json(record).get("key")) if record.exists() else None


def job_key(job: Job, evaluated: str | None = None) -> str:
    """Content key of what decides a run's result and its form.

    That is its settings and examples, the original's evaluation, the versions of its suites, that of `scores.json`, and
    the code of a method of the user's own. The code of training and of released methods is not part of it: a study
    that was begun is finished with what was begun, and its report lists the commits.

    Args:
        job: the run.
        evaluated: key of the original's evaluation, where that was done elsewhere.

    Raises:
        UserError: a method that is unknown or written in no file, or examples that cannot be read.
    """
    shared = evaluated
    if shared is None and job.original is not None:
        shared = evaluation_key(job.original)
    examples = job.config.get("data", {}).get("examples")
    own = [] if examples is None else [examples_key(Path(examples))]
    suites = requested_suites(job.config.get("evaluation", {}).get("suites", ()))
    parts = (portable_settings(job.config), shared or "none", suites_key(suites), SCHEMA_VERSION)
    return content_key(*parts, *own, *_method_code(job))


def _method_code(job: Job) -> tuple[str, ...]:
    """Of the method that a run trains with; an untrained model has none."""
    if job.original is None:
        return ()
    settings = job.settings
    return (method_version(build_method(settings.method, settings.method_settings)),)


def finished(job: Job, key: str) -> bool:
    """Whether the job has been done before, with the same inputs, and its files are still there and can be read."""
    outcome = read_outcome(job.folder)
    return (
        job.original is not None
        and outcome is not None
        and outcome.state == "finished"
        and outcome.key == key
        and all((job.folder / name).exists() for name in MADE)
        and _readable(job.folder)
    )


def _readable(folder: Path) -> bool:
    try:
        read_run(folder)
    except UserError:
        return False
    return True


def read_outcome(folder: Path) -> Outcome | None:
    """How the run in a folder ended; None if it has not."""
    try:
        return Outcome.model_validate(read_json(folder / STATE))
    except (UserError, ValidationError):
        return None


def do(job: Job, bench: Bench, progress: Progress | None = None) -> Outcome:
    """Do a run, from where it was left; whatever goes wrong in it is its outcome and nobody else's.

    A `KeyboardInterrupt` is passed on: it is meant for the study.

    Raises:
        UserError: the outcome cannot be written down.
    """
    key = ""
    try:
        key = job_key(job)
        if finished(job, key):
            return Outcome(state="finished", key=key)
        if job.timed_on not in (None, hardware(environment())):
            raise UserError(
                "its budget is seconds that were measured on other hardware; do all runs of a seed on one machine, and "
                "by one launcher"
            )
        # From here on the files are no longer those of the settings that it names; nothing else in there has a key.
        (job.folder / STATE).unlink(missing_ok=True)
        if job.original is None:
            _original(bench.open(job, progress))
        else:
            adopt(job.original, job.folder)
            unlearn_run(bench.open(job, progress))
        outcome = Outcome(state="finished", key=key)
    except Exception as error:  # an arm that fails must not take the study with it
        bench.last = None  # the model may be in any state
        outcome = Outcome(state="failed", reason=_reason(error), key=key)
        with suppress(UserError):  # the disk may be what failed
            write_text(job.folder / "error.txt", traceback.format_exc())
    write_json(job.folder / STATE, outcome.model_dump(mode="json"))
    return outcome


def _original(run: Run) -> None:
    suites = build_suites(run)
    if run.config.data.examples is None:
        own_answers(run, harmful_requests(run, suites))
    evaluate_phase(run, suites, Phase.BEFORE, run.original, None)
    score_run(run, suites, [Phase.BEFORE], {})


def _reason(error: Exception) -> str:
    """One line. The message of a stranger's error may quote a prompt, so only its kind and place are told."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}; see error.txt in its folder"
