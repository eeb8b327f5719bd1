"""Ready requests for the playground: of the run's own suites, or of packaged ones; harmless first.

None is stored here. Harmful ones are rows of public suites, taken by their ids when the page is made.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

from unsay.errors import UserError
from unsay.files import content_key, read_rows
from unsay.records import Kind, Modality, Prompt
from unsay.run.directory import absolute_image
from unsay.suites import find_suite
from unsay.suites.base import Setting

HARMLESS = 12
HARMFUL = 8
PACKAGED = ("benign", "contrast", "shapes", "advbench", "advbench-typographic")
"""Suites of a playground without a run."""
LONGEST = 160
"""Characters of a request that fits on a button."""
DRAWN = 24
"""Rows of each packaged suite that are made, to choose from."""


def of_folder(run_dir: Path) -> list[Prompt]:
    """Examples from the suites of a run directory, or from packaged ones if it has none that will do."""
    suites = []
    for path in sorted((run_dir / "suites").glob("*.jsonl")):
        try:
            suites.append([absolute_image(run_dir, row) for row in read_rows(path, Prompt)])
        except UserError:
            continue  # of another version, or cut off: the others will do
    return chosen(suites)


def packaged(images: Path) -> list[Prompt]:
    """Examples from packaged suites; those whose data cannot be fetched are left out. `images` takes their pictures."""
    suites = []
    for name in PACKAGED:
        suite = find_suite(name)
        try:
            suites.append(suite.prompts(Setting(images, DRAWN)) if suite is not None else [])
        except UserError:
            continue
    return chosen(suites)


def chosen(suites: Iterable[Sequence[Prompt]]) -> list[Prompt]:
    """Twelve harmless and eight harmful requests, of each suite in turn in the order of their hashed ids.

    A question about a picture from a utility suite is a harmless request.
    """
    harmless: dict[str, list[Prompt]] = {}
    harmful: dict[str, list[Prompt]] = {}
    for row in sorted(chain.from_iterable(suites), key=lambda row: content_key(row.id)):
        if not _fits(row):
            continue
        of_kind = harmful if row.kind is Kind.ATTACK else harmless
        benign = row if row.kind is Kind.ATTACK else row.model_copy(update={"kind": Kind.BENIGN})
        of_kind.setdefault(row.suite, []).append(benign)
    return [*islice(_in_turn(harmless), HARMLESS), *islice(_in_turn(harmful), HARMFUL)]


def _fits(row: Prompt) -> bool:
    if row.turns or row.system or row.choices or len(row.request) > LONGEST:
        return False
    return row.kind is not Kind.UTILITY or row.modality is Modality.IMAGE


def _in_turn(suites: dict[str, list[Prompt]]) -> Iterator[Prompt]:
    """One request of each suite, then a second of each, and so on; the same words once, whatever picture they have."""
    seen: set[str] = set()
    for row in chain.from_iterable(zip_longest(*(suites[name] for name in sorted(suites)))):
        if row is not None and row.request not in seen:
            seen.add(row.request)
            yield row
