"""A run directory in use: its lock, its settings, its model and its stages.

One process at a time works in a run directory, and it never shows results of settings that it no longer has.
"""

import gc
from collections.abc import Iterable
from dataclasses import dataclass, field
from errno import EACCES, ENOLCK, ENOSYS, EOPNOTSUPP, EPERM, EROFS
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from unsay.config import RunConfig, parse_config, read_run_config, write_config
from unsay.errors import UserError
from unsay.files import file_key, read_json, read_text, write_json
from unsay.judges import Judge, build_judge, reads_original
from unsay.judges.base import Original
from unsay.models import VLM, detach, load, load_adapter, model_key, resolved
from unsay.models.loading import load_skeleton
from unsay.models.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_key, weight_names
from unsay.models.precision import ModelSettings
from unsay.processes import ALONE, Processes
from unsay.records import Example, Prompt
from unsay.run.environment import FORMAT, check_device, environment
from unsay.run.live_report import LiveReport
from unsay.scoring.robustness import FILE as ROBUSTNESS
from unsay.stages import Progress, Silent, Stages

ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
RESULTS = ("scores.json", "report.html", ROBUSTNESS)
TRAINED = "stages/unlearn.json"
"""The record that the adapter in the directory belongs to its settings."""
READ_TIMEOUT = 10.0
"""Seconds that a reader waits for a lock: another reader is done by then, a writer is not."""
NO_LOCKS = frozenset({ENOSYS, ENOLCK, EOPNOTSUPP})
"""Errors of a network disk without locks."""
READ_ONLY = frozenset({EACCES, EPERM, EROFS})
"""Errors of a directory that cannot be written."""

Row = TypeVar("Row", Example, Prompt)


def lock_directory(folder: Path, *, reading: bool = False) -> FileLock | None:
    """Keep other processes out of a directory while the returned lock is referenced; a killed process holds none.

    The directory is created if it does not exist, unless it is only read. Another process may then only read, too, and
    is given `READ_TIMEOUT` seconds; release the lock as soon as everything is read.

    Returns None if the disk has no locks (a file in place of one would outlive a killed run), or if a directory that is
    only read cannot be written.
    """
    # One lock for all runs of this process: it may open the same directory again.
    lock = FileLock(folder / ".lock", is_singleton=True, fallback_to_soft=False)
    try:
        if not reading:
            folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=READ_TIMEOUT if reading else 0)
    except Timeout:
        advice = "wait for it" if reading else "wait for it, or choose another --out"
        raise UserError(f"{folder}: another unsay process is using it; {advice}") from None
    except OSError as error:
        if error.errno in (NO_LOCKS | READ_ONLY if reading else NO_LOCKS):
            return None
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    return lock


def in_use(folder: Path) -> bool:
    """Whether a process works in a directory now; nothing is waited for, and none is kept out."""
    if not (folder / ".lock").exists():
        return False
    lock = FileLock(folder / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False  # nobody can lock it here
    lock.release()
    return False


def check_format(folder: Path) -> None:
    """Assert that a directory holds no study, and that its finished stages, if any, can be reused by this version.

    Those of a version with other stage keys would all be done again, which takes hours: a `UserError`.
    """
    if (folder / "study.yaml").exists():
        raise UserError(f"{folder}: holds a study; choose another --out")
    path = folder / "environment.json"
    if not path.exists() or not any((folder / "stages").glob("*.json")):
        return
    try:
        made_with = read_json(path)
    except UserError:
        return  # damaged, and written anew with the next stage
    if isinstance(made_with, dict) and (made := made_with.get("format", 1)) != FORMAT:
        age = "a later" if isinstance(made, int) and made > FORMAT else "an earlier"
        commit = f", commit {str(made_with['commit'])[:7]}" if made_with.get("commit") else ""
        raise UserError(
            f"{folder}: made by {age} version of unsay ({made_with.get('unsay', 'unknown')}{commit}): finish it with "
            "that version, or choose another --out"
        )


def begin_work(folder: Path, config: RunConfig, made_with: dict[str, Any]) -> None:
    """Remove earlier results, and write down what the work in the directory is done with from now on.

    Called before the first stage that is not reused: a run that only reads, or that is refused, keeps its results, and
    a killed one does not look finished. Answers, checkpoints and the adapter stay, for a return to the earlier
    settings; but the record of training goes if the new settings would train another adapter.
    """
    for name in RESULTS:
        (folder / name).unlink(missing_ok=True)
    if (earlier := stored_config(folder)) is None or _decisive(earlier) != _decisive(config):
        (folder / TRAINED).unlink(missing_ok=True)
    write_config(folder / "config.yaml", config)
    write_json(folder / "environment.json", made_with)


def stored_config(folder: Path) -> RunConfig | None:
    """The settings in a directory's `config.yaml`, paths as written there; None if it is missing or malformed."""
    path = folder / "config.yaml"
    try:
        return parse_config(read_text(path), str(path))
    except UserError:
        return None


def _decisive(config: RunConfig) -> object:
    """The settings that decide what is learned."""
    original = config.model, config.model_settings
    return *original, config.method, config.method_settings, config.data, config.seed, config.train.decisive()


def relative_image(folder: Path, row: Row) -> Row:
    """The row with its image path relative to the run directory if the image is in there, absolute otherwise."""
    if row.image is None:
        return row
    path = Path(row.image)
    path = path.relative_to(folder) if path.is_relative_to(folder) else path.absolute()
    return row.model_copy(update={"image": path.as_posix()})


def absolute_image(folder: Path, row: Row) -> Row:
    """The row with an image path that opens from here; an absolute path stays as it is."""
    return row if row.image is None else row.model_copy(update={"image": str(folder / row.image)})


def image_keys(folder: Path, rows: Iterable[Prompt]) -> dict[str, str]:
    """Path, as in `relative_image` → content key of every image: other pixels may come under the same path.

    A missing image has no key; opening it raises the error.
    """
    paths = {path for row in rows if (path := relative_image(folder, row).image) is not None}
    return {path: file_key(folder / path) for path in sorted(paths) if (folder / path).is_file()}


@dataclass(frozen=True)
class Adapter:
    """The folder of a trained adapter in PEFT format, and its content key."""

    folder: Path
    key: str

    @classmethod
    def open(cls, folder: Path) -> "Adapter":
        """Compute the key of an adapter's files; a `UserError` if one is missing."""
        if missing := [name for name in ADAPTER_FILES if not (folder / name).is_file()]:
            raise UserError(f"{folder}: no PEFT adapter there ({missing[0]} is missing)")
        return cls(folder, adapter_key(folder))

    @classmethod
    def of_run(cls, run_dir: Path) -> "Adapter":
        """The adapter that a run has trained with the settings in its directory; a `UserError` if there is none."""
        if not (run_dir / "adapter").is_dir():
            raise UserError(f"{run_dir}: has no adapter: run the same `unsay unlearn` again, or name the one that has")
        adapter = cls.open(run_dir / "adapter")
        if not (run_dir / TRAINED).is_file():
            raise UserError(
                f"{adapter.folder}: the adapter there belongs to earlier settings: run the same `unsay unlearn` again"
            )
        weight_names(adapter.folder)  # damaged, it would be handed out as it is
        return adapter


@dataclass
class Run:
    """A run directory in use: what every stage of a run is given.

    It has the settings, runs the stages (`stages.run` reuses those whose inputs have not changed), and keeps the one
    loaded model, as the original or with an adapter on, and the judge. The directory is locked while the run exists.
    """

    folder: Path  # the run directory
    config: RunConfig
    stages: Stages  # the stages so far
    live: LiveReport  # its page until it has scores
    processes: Processes = ALONE  # those that train together; the first of them does everything else
    left_out: dict[str, str] = field(default_factory=dict)  # suites that were chosen and cannot be asked here → why
    _vlm: VLM | None = field(default=None, repr=False)
    _judge: Judge | None = field(default=None, repr=False)
    _lock: FileLock | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls, folder: Path, config: RunConfig, progress: Progress | None = None, processes: Processes = ALONE
    ) -> "Run":
        """Create or reopen a run directory; writes `config.yaml` and `environment.json`.

        The files of a directory with a run in it change with the first stage that is not reused (`begin_work`), or when
        the run is scored.
        """
        check_device(config.device)
        device = device_of(config, processes)
        if processes.world > 1:
            check_device(str(device))
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file, not a run directory")
        check_format(folder)
        # Settled before anything is keyed or written: results say which precision they were made in.
        precision = earlier_precision(folder, config) or resolved(config.model_settings, config.device)
        config = config.model_copy(update={"model_settings": precision})
        live = LiveReport(progress or Silent(), folder, {"model": Path(config.model).name, "seed": str(config.seed)})
        stages = Stages(folder, live)
        lock = None
        if processes.first:
            lock = lock_directory(folder)

            def begin() -> None:
                begin_work(folder, config, made_with)
                live.begin()

            made_with = environment(processes.world)
            if (folder / "config.yaml").exists() and (folder / "environment.json").exists():
                stages.before_work = begin
            else:
                begin()
        return cls(folder, config, stages, live, processes, _lock=lock)

    @classmethod
    def reopen(cls, folder: Path, progress: Progress | None = None) -> "Run":
        """A run directory with its own settings, for stages that add to what is in it: they remove none of its results.

        Raises:
            UserError: no run there, or one of another version.
        """
        run = cls.open(folder, read_run_config(folder), progress)
        run.stages.before_work = None
        return run

    @property
    def adapter_folder(self) -> Path:
        """The folder of the adapter that this run trains."""
        return self.folder / "adapter"

    @property
    def examples_path(self) -> Path:
        """The file of the training examples."""
        return self.folder / "train" / "examples.jsonl"

    @property
    def model_key(self) -> str:
        """Content key of the original model; needs no loading."""
        return model_key(self.config.model, self.config.model_settings)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return device_of(self.config, self.processes)

    def original(self) -> VLM:
        """The original model, loaded at first use; an adapter that is on it is removed."""
        if self._vlm is None:
            settings = self.config.model_settings
            if self.processes.sharded and self.device.type == "cuda":
                # One device may be too small for the model; the others are free while the first process evaluates.
                settings = settings.model_copy(update={"device_map": "auto"})
            self._vlm = load(self.config.model, device=str(self.device), settings=settings)
        if self._vlm.adapter_key is not None:
            self._vlm = detach(self._vlm)
        return self._vlm

    def tokenizing(self) -> VLM:
        """A model for encoding prompts and answers: the loaded one, or else one without weights."""
        return self._vlm if self._vlm is not None else load_skeleton(self.config.model, processor=True)

    def _reading(self) -> VLM:
        """The loaded model with whatever is on it, or else the original: for who switches an adapter off."""
        return self._vlm if self._vlm is not None else self.original()

    def adapted(self, adapter: Adapter) -> VLM:
        """The model with an adapter on; nothing is loaded if it is that one already."""
        if self._vlm is None or self._vlm.adapter_key != adapter.key:
            self._vlm = load_adapter(self.original(), adapter.folder)
        return self._vlm

    def training_model(self) -> VLM:
        """The original model for training: where its layers will be split, a new one on the CPU."""
        if not self.processes.sharded:
            return self.original()
        self.unload()
        return load(self.config.model, device="cpu", settings=self.config.model_settings)

    def use_trained(self, trained: VLM) -> None:
        """Use this model from now on; one whose layers are split is loaded anew when it is needed."""
        self._vlm = None if self.processes.sharded else trained

    def unload(self) -> None:
        """Free the memory of the loaded model."""
        self._vlm = None
        gc.collect()  # a model that stands in a cycle of references would keep its memory
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def reuse_loaded(self, earlier: "Run") -> None:
        """Take over the model and the judge of an earlier run of this process, where this run would load the same.

        A judge that reads with the original model is built anew: it switches the adapter of its own run off, not this
        one's.
        """
        mine, theirs = self.config, earlier.config
        if all(getattr(mine, name) == getattr(theirs, name) for name in ("model", "device", "model_settings")):
            self._vlm = earlier._vlm
        judge, settings = mine.evaluation.judge, mine.evaluation.judge_settings
        same = (judge, settings) == (theirs.evaluation.judge, theirs.evaluation.judge_settings)
        if same and not reads_original(judge, settings):
            self._judge = earlier._judge

    @property
    def judge(self) -> Judge:
        """The run's judge, built at first use."""
        if self._judge is None:
            evaluation = self.config.evaluation
            here = evaluation.responder is None  # a server's answers say nothing of a model that could read them
            original = Original(self.model_key, self._reading) if here else None
            self._judge = build_judge(evaluation.judge, evaluation.judge_settings, original)
        return self._judge


def original_of(config: RunConfig) -> Original | None:
    """The original model of a run's settings, loaded at first use; None where a server answers instead."""
    if config.evaluation.responder is not None:
        return None
    check_device(config.device)
    settings = resolved(config.model_settings, config.device)

    @cache
    def opened() -> VLM:
        return load(config.model, device=config.device, settings=settings)

    return Original(model_key(config.model, settings), opened)


def device_of(config: RunConfig, processes: Processes) -> torch.device:
    """The device of a process: of several processes, each has the accelerator of its local rank.

    Settings that would put several processes on one device are a `UserError`.
    """
    if processes.world == 1:
        return torch.device(config.device)
    if config.model_settings.device_map is not None:
        raise UserError("model_settings.device_map: each of several processes has its own device: set it to null")
    device = torch.device(config.device)
    if device.type == "cpu":
        return device
    if ":" in config.device:
        raise UserError(
            f"device: each of several processes takes its own: write {device.type} instead of {config.device}"
        )
    return torch.device(device.type, processes.local)


def earlier_precision(folder: Path, config: RunConfig) -> ModelSettings | None:
    """The precision that `fastest` resolved to when the run directory was begun; None if it has none.

    Timing it again on a busy or another machine could give another precision, and every stage and checkpoint would be
    made anew.
    """
    if config.model_settings.dtype != "fastest" or (begun := stored_config(folder)) is None:
        return None
    settings = begun.model_settings.model_copy(update={"dtype": "fastest"})
    theirs = begun.model, settings, begun.device.partition(":")[0]  # `cuda`, of `cuda:1`
    mine = config.model, config.model_settings, config.device.partition(":")[0]
    return begun.model_settings if theirs == mine else None
