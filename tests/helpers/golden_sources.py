"""What the sources with files give on small copies of their published formats, for `tests/data/golden.json`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from helpers.golden import Output
from helpers.published_sources import EXPECTED
from unsay.data.sources import SOURCES


@contextmanager
def _folders(root: Path) -> Iterator[Path]:
    """Benchmark data and cache in a folder of their own."""
    ours = {"UNSAY_DATA_DIR": str(root / "data"), "UNSAY_CACHE_DIR": str(root / "cache")}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield root / "data"
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _output(name: str) -> tuple[int, Any]:
    """(version, rows of each split)."""
    rows = {}
    with TemporaryDirectory() as root, _folders(Path(root)) as data:
        parts = {part: make for (source, part), (make, *_) in EXPECTED.items() if source == name}
        for make in set(parts.values()):
            make(data)
        for part in parts:
            rows[part] = [_content(row.model_dump(mode="json")) for row in SOURCES[name].splits[part].read()]
    return SOURCES[name].version, rows


def _content(row: dict[str, Any]) -> dict[str, Any]:
    """A row, its picture by its name."""
    return row if row["image"] is None else {**row, "image": Path(row["image"]).name}


OUTPUTS: dict[str, Output] = {name: partial(_output, name) for name in dict.fromkeys(source for source, _ in EXPECTED)}
