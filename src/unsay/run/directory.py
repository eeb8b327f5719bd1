"""A run directory in use: its lock, its configuration, its model and its stages.

One run directory: its configuration, its model and its stages.

A run directory is one process's at a time, and shows no results of settings that it no longer has.
"""

from dataclasses import dataclass, field
from errno import EACCES, ENOLCK, ENOSYS, EOPNOTSUPP, EPERM, EROFS
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from unsay.config import RunConfig, config_text, parse_config, write_config
from unsay.errors import UserError
from unsay.files import read_text, write_json
from unsay.judges import Judge, build_judge
from unsay.models import VLM, detach, load, load_adapter, model_key, settled
from unsay.models.load import reader
from unsay.models.lora import adapter_key
from unsay.models.precision import ModelSettings
from unsay.processes import ALONE, Processes
from unsay.run.environment import environment
from unsay.stages import Progress, Silent, Stages

RESULTS = ("scores.json", "report.html")
"""What a run comes to, under any settings."""
LEARNED = "stages/unlearn.json"
"""What says that the adapter is that of the settings."""
READ_TIMEOUT = 10.0
"""Seconds that whoever only reads waits: another that reads, too, is gone by then, and one that writes is not."""
NO_LOCKS = frozenset({ENOSYS, ENOLCK, EOPNOTSUPP})
"""What a network disk says that knows no locks."""
CLOSED = frozenset({EACCES, EPERM, EROFS})
"""What a directory says that cannot be written."""


def lock_directory(folder: Path, *, reading: bool = False) -> FileLock | None:
    """Keep other processes out of a directory for as long as the lock is referred to; a killed one holds nothing.

    Args:
        folder: the directory; made if it is not there, unless it is only read.
        reading: nothing is written there, so that it may be a directory that cannot be. Another process that has it is
            waited for a little, for it may only read, too; release the lock as soon as all is read.

    Returns:
        None where the disk knows no locks, or where it is only read and cannot be written. A file that stands for a
        lock would outlive a killed run.

    Raises:
        UserError: another process has it, or the folder cannot be written.
    """
    # One lock for all runs of this process: it may open the same directory again.
    lock = FileLock(folder / ".lock", is_singleton=True, fallback_to_soft=False)
    try:
        if not reading:
            folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=READ_TIMEOUT if reading else 0)
    except Timeout:
        help = "wait for it" if reading else "wait for it, or choose another --out"
        raise UserError(f"{folder}: another unsay is at work there; {help}") from None
    except OSError as error:
        if error.errno in (NO_LOCKS | CLOSED if reading else NO_LOCKS):
            return None
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    return lock


def begin_work(folder: Path, config: RunConfig, made_with: dict[str, Any]) -> None:
    """Take away what earlier work came to, and say what the directory's work is made with from now on.

    Called before anything in it is done anew: a run that is only read, or refused, keeps what it has, and one that is
    killed does not look finished. Answers, checkpoints and the adapter stay, for whoever goes back to the earlier
    settings; but the adapter is no longer said to be that of the settings if these would train another.
    """
    for name in RESULTS:
        (folder / name).unlink(missing_ok=True)
    if (earlier := stored_config(folder)) is None or _taught(earlier) != _taught(config):
        (folder / LEARNED).unlink(missing_ok=True)
    write_config(folder / "config.yaml", config)
    write_json(folder / "environment.json", made_with)


def has_config(folder: Path, config: RunConfig) -> bool:
    """Whether a directory has these settings already."""
    try:
        return read_text(folder / "config.yaml") == config_text(config)
    except UserError:
        return False


def stored_config(folder: Path) -> RunConfig | None:
    """The settings that a directory has, paths as they stand there; None where there are none that can be read."""
    path = folder / "config.yaml"
    try:
        return parse_config(read_text(path), str(path))
    except UserError:
        return None


def _taught(config: RunConfig) -> object:
    """The settings that decide what is learned."""
    return (
        config.model,
        config.model_settings,
        config.method,
        config.method_settings,
        config.data,
        config.seed,
        config.train.decisive(),
    )


@dataclass
class Run:
    """A run directory in use.

    Attributes:
        folder: the run directory.
        config: its settings.
        stages: what has been done so far.
        processes: those that train together; the first of them does everything else.
        left_out: suites that its choice names and that cannot be asked here → why.
    """

    folder: Path
    config: RunConfig
    stages: Stages
    processes: Processes = ALONE
    left_out: dict[str, str] = field(default_factory=dict)
    _vlm: VLM | None = field(default=None, repr=False)
    _judge: Judge | None = field(default=None, repr=False)
    _lock: FileLock | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls, folder: Path, config: RunConfig, progress: Progress | None = None, processes: Processes = ALONE
    ) -> "Run":
        """Make or reopen a run directory; writes `config.yaml` and `environment.json`.

        While the run is in use no other process gets the directory. One that holds a run already is changed by the
        first work that is done in it (`begin_work`), or when it has come to scores.

        Raises:
            UserError: the folder cannot be written or is in use, or there is no such device.
        """
        check_device(config.device)
        device = device_of(config, processes)
        if processes.world > 1:
            check_device(str(device))
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; a run directory was expected")
        # Settled before anything is keyed or written: what is kept says which precision it was made in.
        precision = earlier_precision(folder, config) or settled(config.model_settings, config.device)
        config = config.model_copy(update={"model_settings": precision})
        stages = Stages(folder, progress or Silent())
        lock = None
        if processes.first:
            lock = lock_directory(folder)
            start = partial(begin_work, folder, config, environment(processes.world))
            if (folder / "config.yaml").exists() and (folder / "environment.json").exists():
                stages.before_work = start
            else:
                start()
        return cls(folder, config, stages, processes, _lock=lock)

    @property
    def adapter_folder(self) -> Path:
        """Where this run's own adapter is."""
        return self.folder / "adapter"

    @property
    def model_key(self) -> str:
        """Content key of the original model; needs no loading."""
        return model_key(self.config.model, self.config.model_settings)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return device_of(self.config, self.processes)

    def original(self) -> VLM:
        """The original model, loaded at first use; an attached adapter is taken off."""
        if self._vlm is None:
            settings = self.config.model_settings
            if self.processes.sharded and self.device.type == "cuda":
                # Split because one device may not hold it; the others' are free while the first process evaluates.
                settings = settings.model_copy(update={"device_map": "auto"})
            self._vlm = load(self.config.model, device=str(self.device), settings=settings)
        if self._vlm.adapter_key is not None:
            self._vlm = detach(self._vlm)
        return self._vlm

    def reading(self) -> VLM:
        """What makes token ids of prompts and answers: the model, if it is loaded; else no weights are."""
        return self._vlm if self._vlm is not None else reader(self.config.model)

    def adapted(self, adapter: Path) -> VLM:
        """The model with an adapter from a folder; nothing is loaded if it has that one already.

        Raises:
            UserError: there is no adapter, or it does not fit.
        """
        if self._vlm is None or self._vlm.adapter_key is None or self._vlm.adapter_key != adapter_key(adapter):
            self._vlm = load_adapter(self.original(), adapter)
        return self._vlm

    def to_train(self) -> VLM:
        """The original model for training: where the layers will be split, one of its own on the CPU."""
        if not self.processes.sharded:
            return self.original()
        self.forget()
        return load(self.config.model, device="cpu", settings=self.config.model_settings)

    def keep(self, trained: VLM) -> None:
        """Use this model, just trained, from now on; one whose layers are split is loaded anew."""
        self._vlm = None if self.processes.sharded else trained

    def forget(self) -> None:
        """Give back the memory of the loaded model."""
        self._vlm = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def share(self, earlier: "Run") -> None:
        """Take over what an earlier run of this process has loaded, as far as it is what this run would load."""
        mine, theirs = self.config, earlier.config
        if _loads(mine) == _loads(theirs):
            self._vlm = earlier._vlm
        if _judges(mine) == _judges(theirs):
            self._judge = earlier._judge

    @property
    def judge(self) -> Judge:
        """The run's judge, built at first use."""
        if self._judge is None:
            evaluation = self.config.evaluation
            self._judge = build_judge(evaluation.judge, evaluation.judge_settings)
        return self._judge


def device_of(config: RunConfig, processes: Processes) -> torch.device:
    """Where a process computes: of several, each has the accelerator of its number.

    Raises:
        UserError: settings that would put the work of several processes onto the same device.
    """
    if processes.world == 1:
        return torch.device(config.device)
    if config.model_settings.device_map is not None:
        raise UserError("model_settings.device_map: of several processes each has a device of its own: set it to null")
    device = torch.device(config.device)
    if device.type == "cpu":
        return device
    if ":" in config.device:
        raise UserError(f"device: of several processes each takes its own: write {device.type} for {config.device}")
    return torch.device(device.type, processes.local)


def _loads(config: RunConfig) -> object:
    return config.model, config.device, config.model_settings


def _judges(config: RunConfig) -> object:
    return config.evaluation.judge, config.evaluation.judge_settings


def earlier_precision(folder: Path, config: RunConfig) -> ModelSettings | None:
    """What `fastest` came to when the run directory was begun; None if nothing is settled there.

    A stopwatch must not decide twice: on a busy or another machine the answer could differ, and every stage and
    checkpoint would be made anew.
    """
    if config.model_settings.dtype != "fastest" or (begun := stored_config(folder)) is None:
        return None
    same = begun.model_settings.model_copy(update={"dtype": "fastest"}) == config.model_settings
    same = same and begun.model == config.model and _kind(begun.device) == _kind(config.device)
    return begun.model_settings if same else None


def _kind(device: str) -> str:
    """`cuda` of `cuda:1`."""
    return device.partition(":")[0]


def check_device(name: str) -> None:
    """Assert that tensors can be put there.

    Raises:
        UserError: no such device, here or anywhere.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UserError(f"device: '{name}' cannot be used here: {reason}") from None
