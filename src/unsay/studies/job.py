"""One run of a study: a plain value that any process can carry out, its key, and how it ended."""

import shutil
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import ValidationError

from unsay.config import RunConfig
from unsay.data.recipe import recipe_key
from unsay.errors import UserError
from unsay.files import atomic_path, content_key, read_json, write_json, write_text
from unsay.journal import append_journal
from unsay.methods import build_method, method_version
from unsay.models.precision import Fast, resolved
from unsay.records import Record, Role
from unsay.robustness import CHECKS
from unsay.robustness.battery import VERSION as BATTERY
from unsay.robustness.battery import run_battery
from unsay.run.directory import Adapter, Run, earlier_precision
from unsay.run.environment import environment, hardware
from unsay.run.examples import examples_key
from unsay.run.experiment import evaluate_original, unlearn_run
from unsay.run.finished import portable_settings, read_run
from unsay.run.suites import requested_suites
from unsay.run.training_rows import sources_key
from unsay.scoring.robustness import FILE as ROBUSTNESS
from unsay.scoring.schema import SCHEMA_VERSION
from unsay.stages import Progress, StageRecord
from unsay.suites import Suite, suites_key

STATUS_FILE, TRACE_FILE = "arm.json", "error.txt"
RESULT_FILES = ("scores.json", "stages/unlearn.json", "adapter/adapter_model.safetensors")
"""Files without which a trained run is not finished, whatever its status says."""

SHARED_STAGES = ("suites", "own-answers", "normal-answers", "evaluate-before")
"""Stages that depend on the model and its prompts, and not on the training."""
ANSWER_CACHES = {"own-answers": "train/cache.jsonl", "evaluate-before": "responses/cache.jsonl"}
"""Stage → the cache of its answers, of which an arm may need some although its own prompts are others."""


@dataclass(frozen=True)
class Job:
    """One run to be carried out."""

    title: str
    folder: Path  # its run directory
    original: Path | None  # run directory of the original model, whose answers are shared; None if this is that run
    config: dict[str, Any]  # a run's configuration, as plain values
    # the hardware that its budget of seconds was measured on; None without such a budget
    timed_on: tuple[Any, ...] | None = None
    robustness: tuple[str, ...] = ()  # checks that the run goes through once it is trained, in short

    @property
    def settings(self) -> RunConfig:
        """The configuration."""
        return RunConfig.model_validate(self.config)


class JobStatus(Record):
    """How a run ended; the content of its `arm.json`."""

    state: Literal["finished", "failed"]
    reason: str = ""  # why it failed, in one line without a prompt or an answer
    key: str = ""  # the job's key; a job with another key is done again


class Worker:
    """Does jobs in this process, one after another; they share the loaded model and judge."""

    def __init__(self) -> None:
        self._last: Run | None = None

    def do(self, job: Job, progress: Progress | None = None) -> JobStatus:
        """Do a run, from where it was left. What goes wrong in it becomes its status, except `KeyboardInterrupt`."""
        key = ""
        try:
            key = job_key(job)
            if finished(job, key):
                return JobStatus(state="finished", key=key)
            if job.timed_on not in (None, hardware(environment())):
                raise UserError(
                    "its budget is seconds that were measured on other hardware; do all runs of a seed on one machine, "
                    "and by one launcher"
                )
            # From here on the files no longer belong to the key in the status.
            for name in (STATUS_FILE, TRACE_FILE):
                (job.folder / name).unlink(missing_ok=True)
            if job.original is not None:
                copy_shared_stages(job.original, job.folder)
            run = self._open(job, progress)
            if job.original is None:
                evaluate_original(run)
            else:
                unlearn_run(run)
                if job.robustness:
                    run.stages.before_work = None  # the checks add to the run's results, and remove none
                    _withstand(run, job.robustness)
            status = JobStatus(state="finished", key=key)
        except Exception as error:  # a failed arm must not end the study
            self._last = None  # the model may be in any state
            status = JobStatus(state="failed", reason=_reason(error), key=key)
            with suppress(UserError):  # the disk may be what failed
                write_text(job.folder / TRACE_FILE, traceback.format_exc())
        write_json(job.folder / STATUS_FILE, status.model_dump(mode="json"))
        return status

    def _open(self, job: Job, progress: Progress | None) -> Run:
        run = Run.open(job.folder, job.settings, progress)
        if self._last is not None:
            run.reuse_loaded(self._last)
        self._last = run
        return run


def _withstand(run: Run, names: Iterable[str]) -> None:
    """Put a trained run through these checks, in short; if one fails, the arm has, and is tried again."""
    result = run_battery(run, Adapter.open(run.adapter_folder), [CHECKS[name] for name in names], quick=True)
    if failed := next((check for check in result.checks if check.check in names and check.failed), None):
        raise UserError(f"check {failed.check}: {failed.failed}")


def _reason(error: Exception) -> str:
    """One line. Of an unexpected error only its kind and place, because its message may quote a prompt."""
    if isinstance(error, UserError):
        return error.line
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}; see {TRACE_FILE} in its folder"


def job_key(job: Job, evaluated: str | None = None) -> str:
    """Content key of what decides a run's result and its form.

    That is its settings, examples and checks, the original model's evaluation (`evaluated` is its key, where that was
    done elsewhere), the versions of its suites, of the built-in training data, of `scores.json` and of its method. The
    code of training is not part of it: the report of a study lists the commits of its runs.
    """
    examples = job.config.get("data", {}).get("examples")
    built_in = job.original is not None and examples is None
    if evaluated is None and job.original is not None:
        evaluated = evaluation_key(job.original)
    own = [] if examples is None else [examples_key(Path(examples))]
    data = [recipe_key()] if built_in else []
    if any(job.config.get("data", {}).get(role.value) for role in Role):
        data.append(content_key(sources_key(job.settings.data)))
    data += [content_key(BATTERY, name, CHECKS[name].version) for name in job.robustness]
    suites, method = suites_key(_suites(job)), _method_version(job)
    return content_key(portable_settings(job.config), evaluated or "none", suites, SCHEMA_VERSION, *own, *method, *data)


def _suites(job: Job) -> list[Suite]:
    return requested_suites(job.config.get("evaluation", {}).get("suites", ()))


def _method_version(job: Job) -> tuple[str, ...]:
    """The version of the method that a run trains with; an original model has none."""
    if job.original is None:
        return ()
    settings = job.settings
    return (method_version(build_method(settings.method, settings.method_settings)),)


def evaluation_key(original: Path) -> str | None:
    """Content key of the evaluation of an original model; None if it was not evaluated yet."""
    record = original / "stages" / "evaluate-before.json"
    return str(read_json(record).get("key")) if record.exists() else None


def finished(job: Job, key: str) -> bool:
    """Whether a trained run is finished under this key, with all its files in place and readable."""
    status = read_status(job.folder)
    files = (*RESULT_FILES, ROBUSTNESS) if job.robustness else RESULT_FILES
    return (
        job.original is not None
        and status is not None
        and status.state == "finished"
        and status.key == key
        and all((job.folder / name).exists() for name in files)
        and _readable(job.folder)
    )


def _readable(folder: Path) -> bool:
    try:
        read_run(folder)
    except UserError:
        return False
    return True


def read_status(folder: Path) -> JobStatus | None:
    """How the run in a folder ended; None if it has not."""
    try:
        return JobStatus.model_validate(read_json(folder / STATUS_FILE))
    except (UserError, ValidationError):
        return None


def resolve_precision(config: RunConfig, folders: Iterable[Path], elsewhere: Fast | None) -> RunConfig:
    """The settings with `fastest` replaced by a precision, which decides the numbers and so belongs into a run's key.

    It is that of the first of `folders` with these settings, else `elsewhere` (`known_precision`), else it is measured.
    On an accelerator the settings are returned unchanged: a launcher's own machine may lack it.
    """
    if torch.device(config.device).type != "cpu":
        return config
    begun = next((dtype for folder in folders if (dtype := earlier_precision(folder, config)) is not None), None)
    if begun is not None:
        return config.model_copy(update={"model_settings": begun})
    if elsewhere is not None and config.model_settings.dtype == "fastest":
        return _with_precision(config, elsewhere)
    return config.model_copy(update={"model_settings": resolved(config.model_settings, config.device)})


def known_precision(config: RunConfig, is_known: Callable[[RunConfig], bool]) -> Fast | None:
    """The precision of a run from elsewhere; None if `fastest` is not set, or that run has other settings.

    Only the key of its settings is known, so every precision that `fastest` can become is tried.
    """
    if config.model_settings.dtype != "fastest" or torch.device(config.device).type != "cpu":
        return None
    return next((dtype for dtype in get_args(Fast) if is_known(_with_precision(config, dtype))), None)


def _with_precision(config: RunConfig, dtype: Fast) -> RunConfig:
    return config.model_copy(update={"model_settings": config.model_settings.model_copy(update={"dtype": dtype})})


def copy_shared_stages(original: Path, arm: Path) -> None:
    """Copy finished stages of the original model's run into an arm's, with their dates, so that they are reused there.

    A run compares the key of its own inputs with the stage's, and does the stage again where they differ. A stage is
    copied once only, because the arm may have had a reason to make it anew.
    """
    log = arm / "adopted.json"
    copied = _read_log(log)
    for name in SHARED_STAGES:
        record = _stage_record(original, name)
        if record is None or copied.get(name) == record.key:
            continue
        for path in (*record.outputs, f"stages/{name}.json"):
            if (original / path).is_file():
                with atomic_path(arm / path) as temporary:
                    shutil.copy2(original / path, temporary)
        cache = ANSWER_CACHES.get(name)
        if cache is not None and (original / cache).is_file():
            append_journal(arm / cache, original / cache)  # the arm's own answers stay
        copied[name] = record.key
        write_json(log, copied)


def _stage_record(run: Path, name: str) -> StageRecord | None:
    try:
        return StageRecord.model_validate(read_json(run / "stages" / f"{name}.json"))
    except (UserError, ValidationError):
        return None


def _read_log(path: Path) -> dict[str, str]:
    try:
        log = read_json(path)
    except UserError:
        return {}
    return {str(name): str(key) for name, key in log.items()} if isinstance(log, dict) else {}
