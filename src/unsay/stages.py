"""Stages of a run: each has a key of all its inputs, and is done again when that key or a file it wrote changes.

A stage's result is handed on as an object. Its files are for people and for resuming: only a reused stage reads them.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

import torch

from unsay.errors import UserError
from unsay.files import content_key, read_json, write_json
from unsay.records import Record

ABSENT = "absent"
"""The stamp of a missing file."""

Value = TypeVar("Value")
"""The result of a stage."""
Outputs: TypeAlias = Sequence[Path] | Callable[[Value], Iterable[Path]]


class Progress(Protocol):
    """A display of what a run is doing."""

    def start(self, title: str, total: int | None) -> None:
        """A stage begins; `total` is None where its size is unknown."""
        ...

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` items of the current stage are done."""
        ...

    def finish(self, note: str) -> None:
        """The current stage is done, or was reused."""
        ...


class Silent:
    """A progress display that shows nothing."""

    def start(self, title: str, total: int | None) -> None:
        """Nothing to show."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Nothing to show."""

    def finish(self, note: str) -> None:
        """Nothing to show."""


@dataclass
class Spent:
    """The cost of a stage, filled in while it runs."""

    text_tokens: int = 0
    image_tokens: int = 0
    flops: float = 0.0
    judge_requests: int = 0
    judge_tokens: int = 0  # of a judge behind a server: read and written
    judge_price: float = 0.0  # in the currency of the settings
    # Set by work that knows better than the clock: a training that was killed and resumed adds up its parts.
    seconds: float | None = None

    def add_answers(self, other: "Spent") -> None:
        """Add the tokens and operations of answers that were counted apart."""
        self.text_tokens += other.text_tokens
        self.image_tokens += other.image_tokens
        self.flops += other.flops


class StageRecord(Record):
    """`stages/<name>.json`: the inputs, outputs and cost of a finished stage."""

    name: str
    key: str
    outputs: dict[str, str]  # path under the run directory → size and time of the file when the stage ended
    seconds: float
    text_tokens: int = 0
    image_tokens: int = 0
    flops: float = 0.0
    peak_memory_bytes: int = 0
    peak_accelerator_bytes: int = 0
    judge_requests: int = 0
    judge_tokens: int = 0
    judge_price: float = 0.0


@dataclass
class Stages:
    """The stages of one run directory, in the order in which they were run."""

    run_dir: Path
    progress: Progress = field(default_factory=Silent)
    # Finished stages, and whether each was reused.
    records: list[tuple[StageRecord, bool]] = field(default_factory=list)
    before_work: Callable[[], None] | None = None  # called before the first stage that is not reused

    def run(
        self,
        name: str,
        title: str,
        inputs: object,
        outputs: Outputs[Value],
        work: Callable[[Spent], Value],
        *,
        load: Callable[[], Value],
        total: int | None = None,
        note: Callable[[Value], str] | None = None,
    ) -> Value:
        """Return the result of `work`, or load it where the same inputs have already made the same files.

        Args:
            name: short name, also of the record file.
            title: for people.
            inputs: anything JSON-serialisable that decides the result; keys of earlier stages included.
            outputs: files under the run directory that the work writes, or a function of the result that lists them.
            work: does the work, writes the files, and notes the cost.
            load: reads the same result from the files; a `UserError` means that they must be made again.
            total: size of the work, for the progress display.
            note: a few words about the result, for the progress display.
        """
        key = content_key(name, inputs)
        self.progress.start(title, total)
        if (found := self._reused(name, key, outputs, load)) is not None:
            record, result = found
            self.records.append((record, True))
            self.progress.finish(_with_note("unchanged, reused", note, result))
            return result
        if self.before_work is not None:
            self.before_work()
            self.before_work = None
        forget_peak_memory()
        began, spent = time.monotonic(), Spent()
        result = work(spent)
        seconds = time.monotonic() - began if spent.seconds is None else spent.seconds
        stamps = self._stamps(outputs, result)
        if absent := [path for path, stamp in stamps.items() if stamp == ABSENT]:
            raise RuntimeError(f"stage {name} ended without writing {absent[0]}")
        record = StageRecord(
            name=name,
            key=key,
            outputs=stamps,
            peak_memory_bytes=peak_memory(),
            peak_accelerator_bytes=peak_accelerator_memory(),
            **asdict(spent) | {"seconds": round(seconds, 3)},
        )
        write_json(self._path(name), record.model_dump(mode="json"))
        self.records.append((record, False))
        self.progress.finish(_with_note(f"{record.seconds:.0f} s", note, result))
        return result

    def finished(
        self, name: str, inputs: object, outputs: Outputs[Value], *, load: Callable[[], Value]
    ) -> tuple[StageRecord, Value] | None:
        """Record and result of a stage that `run` would reuse; None if it would be done again. Nothing is shown."""
        return self._reused(name, content_key(name, inputs), outputs, load)

    def _path(self, name: str) -> Path:
        return self.run_dir / "stages" / f"{name}.json"

    def _reused(
        self, name: str, key: str, outputs: Outputs[Value], load: Callable[[], Value]
    ) -> tuple[StageRecord, Value] | None:
        """The record and the result of a finished stage; None if its inputs or its files have changed."""
        try:
            record = StageRecord.model_validate(read_json(self._path(name)))
            if record.key != key:
                return None
            result = load()
        except (UserError, ValueError, LookupError, TypeError):
            return None  # missing, damaged, of another version, or files that do not belong together
        return (record, result) if record.outputs == self._stamps(outputs, result) else None

    def _stamps(self, outputs: Outputs[Value], result: Value) -> dict[str, str]:
        """Size and time of every output: a file that has been edited or removed since has another stamp."""
        stamps = {}
        for path in outputs(result) if callable(outputs) else outputs:
            status = path.stat() if path.exists() else None
            name = path.relative_to(self.run_dir).as_posix()
            stamps[name] = f"{status.st_size}/{status.st_mtime_ns}" if status else ABSENT
        return stamps


def _with_note(ending: str, note: Callable[[Value], str] | None, result: Value) -> str:
    """The note, then how the stage ended: a narrow terminal cuts the end of the line."""
    return "; ".join(filter(None, [note(result) if note is not None else "", ending]))


def peak_memory() -> int:
    """This process's peak resident memory in bytes, since `forget_peak_memory` where the system can reset it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_accelerator_memory() -> int:
    """Peak bytes of this process's tensors on the fullest CUDA device, since `forget_peak_memory`; 0 without one."""
    return max(map(torch.cuda.max_memory_allocated, _accelerators()), default=0)


def forget_peak_memory() -> None:
    """Reset the peaks to what is in use now: an accelerator's, and the host's on Linux, where it is allowed.

    Otherwise a stage would report the peak of an earlier, larger one, perhaps of another run in the same process.
    """
    for device in _accelerators():
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _accelerators() -> range:
    """CUDA devices that may hold tensors. None before first use: querying CUDA allocates memory."""
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return range(torch.cuda.device_count() if begun else 0)
