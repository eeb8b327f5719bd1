"""What a run did not ask: the rest of a suite that a limit cut, and suites that were not available."""

from collections.abc import Iterable, Mapping, Sequence

from unsay.scoring.schema import AskedRow, Caution


def unasked(asked: Iterable[AskedRow], left_out: Mapping[str, str]) -> tuple[Caution, ...]:
    """One caution for all suites that were cut, and one for all that were left out; none where nothing was.

    Args:
        asked: how much of each suite was asked.
        left_out: suite that the run's choice named and that could not be asked → why, or how to get it.
    """
    found = []
    if cut := [row for row in asked if row.cut]:
        each = [f"{row.title} {row.asked:,} of {'?' if row.size is None else f'{row.size:,}'}" for row in cut]
        limit = f" (limit {cut[0].limit:,})" if cut[0].limit is not None else ""
        said = f"Asked in part{limit}, {_suites(len(cut))}: {', '.join(each)}."
        found.append(Caution(text=f"{said} `--limit all` asks them whole."))
    if left_out:
        said = f"Not asked, for they cannot be here, {_suites(len(left_out))}: {', '.join(left_out)}."
        found.append(Caution(text=f"{said} `unsay suites` says how to get them."))
    return tuple(found)


def unseen(titles: Sequence[str], judge: str) -> tuple[Caution, ...]:
    """A severe caution where the harm of a suite lies in its pictures, and the judge reads words alone.

    Args:
        titles: of such suites, as far as they were judged.
        judge: its name.
    """
    if not titles:
        return ()
    said = f"The judge ({judge}) sees no pictures, and in {', '.join(titles)} the harm lies in the picture"
    advice = "it may take harmful answers for safe ones; a judge that sees them is `llama-guard-4`"
    return (Caution(text=f"{said}: {advice}.", severe=True),)


def _suites(count: int) -> str:
    return "1 suite" if count == 1 else f"{count} suites"
