"""Stages of a run: each has a key of all its inputs, and is done again when that key or a file it wrote changes."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import content_key, read_json, write_json
from unsay.records import Record

ABSENT = "absent"
"""The stamp of a file that is not there."""


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def start(self, title: str, total: int | None) -> None:
        """A stage begins; `total` is None where its size is unknown."""
        ...

    def update(self, done: int, total: int, note: str = "") -> None:
        """Work of the current stage is done up to here."""
        ...

    def finish(self, note: str) -> None:
        """The current stage is done (or was reused)."""
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
    """What a stage has used; filled in while it runs."""

    text_tokens: int = 0
    image_tokens: int = 0
    flops: float = 0.0
    judge_requests: int = 0
    judge_tokens: int = 0
    """Of a judge behind a server: read and written."""
    judge_price: float = 0.0
    """In the currency of the settings."""
    seconds: float | None = None
    """Where the work knows better than the clock: training that was killed and resumed adds up its parts."""


class StageRecord(Record):
    """`stages/<name>.json`: what a finished stage was made from, and what it took."""

    name: str
    key: str
    outputs: dict[str, str]
    """Path under the run directory → size and time of the file when the stage ended."""
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
    """The stages of one run directory, in the order they were asked for."""

    run_dir: Path
    progress: Progress = field(default_factory=Silent)
    records: list[tuple[StageRecord, bool]] = field(default_factory=list)
    """Finished stages, and whether each was reused."""
    before_work: Callable[[], None] | None = None
    """Called before the first stage that is not reused."""

    def run(
        self,
        name: str,
        title: str,
        inputs: object,
        outputs: Sequence[Path] | Callable[[], Sequence[Path]],
        work: Callable[[Spent], None],
        total: int | None = None,
        note: Callable[[], str] | None = None,
    ) -> str:
        """Do `work`, unless the same inputs have already made the same outputs here.

        Args:
            name: short name, also of its record file.
            title: for people.
            inputs: anything JSON-serialisable that decides the outputs; keys of earlier stages included.
            outputs: files under the run directory that the work writes; a function where their names are known only
                from what was written.
            work: does it, and notes what it used.
            total: size of the work, for the progress display.
            note: a few words on what came of it, for the same; asked when the outputs are there, reused or not.

        Returns:
            The stage's key, for the inputs of later stages.
        """
        key = content_key(name, inputs)
        record = self._finished(name)
        self.progress.start(title, total)
        if record is not None and record.key == key and record.outputs == self._stamps(outputs):
            self.records.append((record, True))
            self.progress.finish(_ended("unchanged, reused", note))
            return key
        if self.before_work is not None:
            self.before_work()
            self.before_work = None
        forget_peak_memory()
        began, spent = time.monotonic(), Spent()
        work(spent)
        seconds = time.monotonic() - began if spent.seconds is None else spent.seconds
        stamps = self._stamps(outputs)
        if absent := [path for path, stamp in stamps.items() if stamp == ABSENT]:
            raise RuntimeError(f"stage {name} ended without writing {absent[0]}")
        record = StageRecord(
            name=name,
            key=key,
            outputs=stamps,
            seconds=round(seconds, 3),
            text_tokens=spent.text_tokens,
            image_tokens=spent.image_tokens,
            flops=spent.flops,
            peak_memory_bytes=peak_memory(),
            peak_accelerator_bytes=peak_accelerator_memory(),
            judge_requests=spent.judge_requests,
            judge_tokens=spent.judge_tokens,
            judge_price=spent.judge_price,
        )
        write_json(self._path(name), record.model_dump(mode="json"))
        self.records.append((record, False))
        self.progress.finish(_ended(f"{record.seconds:.0f} s", note))
        return key

    def _path(self, name: str) -> Path:
        return self.run_dir / "stages" / f"{name}.json"

    def _finished(self, name: str) -> StageRecord | None:
        path = self._path(name)
        if not path.exists():
            return None
        try:
            return StageRecord.model_validate(read_json(path))
        except (ValidationError, UserError):
            return None  # of another version, or damaged: the stage is done again

    def _stamps(self, outputs: Sequence[Path] | Callable[[], Sequence[Path]]) -> dict[str, str]:
        """A file that was edited or removed since is made again."""
        stamps = {}
        for path in outputs() if callable(outputs) else outputs:
            status = path.stat() if path.exists() else None
            name = path.relative_to(self.run_dir).as_posix()
            stamps[name] = f"{status.st_size}/{status.st_mtime_ns}" if status else ABSENT
        return stamps


def _ended(how: str, note: Callable[[], str] | None) -> str:
    """What is said of a stage at its end; the note first, for a narrow terminal cuts the rest."""
    return "; ".join(filter(None, [note() if note is not None else "", how]))


def peak_memory() -> int:
    """This process's peak resident memory in bytes, since `forget_peak_memory` where that can be forgotten."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_accelerator_memory() -> int:
    """Most bytes that this process's tensors took at once on one CUDA device, the fullest, since `forget_peak_memory`.

    0 where no such device is in use.
    """
    return max(map(torch.cuda.max_memory_allocated, _accelerators()), default=0)


def forget_peak_memory() -> None:
    """Start the peaks again from what is in use now: an accelerator's, and the host's on Linux, where it is allowed.

    Without it, a stage that follows a larger one, perhaps of another run in the same process, would be said to have
    needed as much.
    """
    for device in _accelerators():
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _accelerators() -> range:
    """CUDA devices that may hold tensors; none before the first use, for to ask would take memory on them."""
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return range(torch.cuda.device_count() if begun else 0)
