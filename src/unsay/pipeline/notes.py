"""What suites and judge, rather than numbers, call for saying beside the numbers."""

from collections.abc import Iterable, Sequence

from unsay.scoring import AskedRow, Caution, JudgeInfo, unseen
from unsay.suites import find_suite


def notes(judged: Iterable[str], asked: Sequence[AskedRow], judge: JudgeInfo) -> list[Caution]:
    """Every such caution.

    Args:
        judged: names of the attack and benign suites.
        asked: how much of each suite was asked.
        judge: who judged.
    """
    return [*parts_of_sums(asked), *out_of_sight(judged, judge)]


def out_of_sight(judged: Iterable[str], judge: JudgeInfo) -> tuple[Caution, ...]:
    """Suites whose harm lies in their pictures, where the judge sees none."""
    if judge.reads_pictures:
        return ()
    found = [suite for name in dict.fromkeys(judged) if (suite := find_suite(name)) is not None]
    return unseen([suite.title for suite in found if suite.harm_in_picture], judge.name)


def parts_of_sums(asked: Sequence[AskedRow]) -> list[Caution]:
    """Official numbers that are sums, of suites that were asked in part: their scale is another one then."""
    return [
        Caution(
            text=f"{row.title}: only {row.asked:,} items were asked. It adds up subtasks, so that few items of each, "
            "or none, make it no number to compare with published ones; ask all of them (`--limit all`).",
            severe=True,
        )
        for row in asked
        if row.cut and _is_sum(row.suite)
    ]


def _is_sum(name: str) -> bool:
    suite = find_suite(name)
    return suite is not None and suite.measure is not None and suite.measure.total is not None
