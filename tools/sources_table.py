"""Writes the table of training sources into docs/data.md; `tools.golden` calls it."""

from pathlib import Path

from tools.markers import replace_between
from unsay.data.sources import SOURCES, Source, Split
from unsay.files import read_text, write_text

PAGE = Path(__file__).parents[1] / "docs/data.md"
BEGIN, END = "<!-- sources:begin -->", "<!-- sources:end -->"
HEAD = ("source", "splits: requests", "teaches", "licence", "forbids", "fixed by", "from")


def table() -> str:
    """The table as Markdown; it says nothing of this machine."""
    lines = [HEAD, ("---",) * len(HEAD), *map(_row, SOURCES.values())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(source: Source) -> tuple[str, ...]:
    splits = "; ".join(_described(name, split) for name, split in source.splits.items())
    forbids = ", ".join(source.licence.forbids)
    roles = ", ".join(source.roles)
    return f"`{source.name}`", splits, roles, source.licence.name, forbids, _pins(source), source.origin


def _described(name: str, split: Split) -> str:
    rows = "" if split.rows is None else f" {split.rows:,}"
    return f"`{name}`{rows}" + ("" if split.modality == "text" else f" ({split.modality})")


def _pins(source: Source) -> str:
    """What fixes the content of its files; `not pinned` and the reason where nothing does."""
    pins = dict.fromkeys(file.pin for split in source.splits.values() for file in split.files)
    return "; ".join(pins) or ("sha256" if "wheel" in source.origin else "part of unsay")


def write() -> None:
    """Write the page."""
    write_text(PAGE, replace_between(read_text(PAGE), BEGIN, END, table(), PAGE.name))
