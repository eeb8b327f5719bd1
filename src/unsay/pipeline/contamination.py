"""Has an adapter been trained on what it is now asked?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unsay.data.splits import OverlapIndex, request_of
from unsay.errors import UserError
from unsay.files import read_rows
from unsay.records import Example, Kind, Prompt
from unsay.scoring import Caution
from unsay.suites import find_suite


def trained_on(adapter: Path, suites: Mapping[str, Sequence[Prompt]]) -> list[Caution]:
    """A severe caution for each suite that asks, or nearly asks, what the adapter's own run trained on.

    A run keeps its training clear of the suites that it asks itself. It cannot know those that are asked later.

    Args:
        adapter: its folder; what it learned from is known where that still lies in its run directory.
        suites: prompts by suite. Those that ask one and the same question of many pictures are left out.
    """
    try:
        learned = read_rows(adapter.parent / "train" / "examples.jsonl", Example)
    except UserError:
        return []
    index = OverlapIndex(request_of(row) for row in learned)
    found = []
    for name, prompts in suites.items():
        suite = find_suite(name)
        if not prompts or (prompts[0].kind is Kind.UTILITY and not (suite is not None and suite.likely)):
            continue
        if count := sum(index.overlaps(request_of(prompt)) for prompt in prompts):
            title = suite.title if suite is not None else name
            share = f"{count} of {len(prompts)} prompts, or nearly these"
            text = f"{title}: {share}, were among the adapter's training data"
            advice = "a run that trains with the suite among its own (evaluation.suites) keeps clear of it"
            found.append(Caution(text=f"{text}, and say little of new ones; {advice}.", severe=True))
    return found
