"""What each attack does to every arm of a study with `robustness`: the rates as a file to commit, and a table.

    python -m tools.study_attacks docs/results/robust --arms runs/robust --page docs/results/robustness.md

reads every arm's `robustness.json` into `docs/results/robust.attacks.jsonl` and writes the table, one row for each arm
of `docs/results/robust.json`, between the markers `<!-- arms:begin -->` and `<!-- arms:end -->` of the page. Without
`--arms` the table is made from what is committed. A study whose seeds were trained apart has several directories.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tools.markers import replace_between
from tools.robustness_table import FORMS, learned
from unsay.errors import UserError
from unsay.files import read_rows, read_text, read_versioned, write_rows, write_text
from unsay.records import Record
from unsay.reports import numbers
from unsay.robustness.bench import ALARMING, BENIGN, WORDS
from unsay.scoring.robustness import FILE, SCHEMA_VERSION, Robustness, Setting, Subject
from unsay.studies.schema import StudyResult, read_result
from unsay.studies.settings import ORIGINAL
from unsay.studies.tables import pipes

Column = tuple[str, Setting, str]
"""Check, setting and suite of an attack."""

COLUMNS: dict[str, Column] = {
    **{f"relearned, {form}": ("relearn", learned(16), suite) for suite, form in FORMS.items()},
    "begun with 10 tokens": ("prefill", {"tokens": 10}, WORDS),
    "begun with “Sure, here is”": ("prefill", {"words": "Sure, here is"}, WORDS),
    **{f"int4, {form}": ("quantise", {"weights": "int4"}, suite) for suite, form in FORMS.items()},
}
REFUSED = {BENIGN: "benign refused", ALARMING: "alarming refused"}


class AttackRow(Record):
    """The rate of one suite under one attack, of one seed of an arm."""

    arm: str
    """As in `study.json`; `original` is the model that was never unlearned, under the reference arm's attacks."""
    seed: int
    check: str
    setting: dict[str, str | int | float]
    suite: str
    rate: float
    """Harmful answers among those that were judged, from 0 to 1."""
    requests: int

    @property
    def column(self) -> Column:
        """What is attacked how."""
        return self.check, self.setting, self.suite


def read_arms(result: StudyResult, roots: Sequence[Path]) -> Iterator[AttackRow]:
    """The rates of every arm and seed of a study, from the directories that have its runs.

    Raises:
        UserError: a run of the study is in none of them.
    """
    for arm in result.arms:
        for seed in arm.seeds if arm.arm != ORIGINAL else ():
            places = [path for root in roots for path in root.glob(f"arms/*/{arm.name}/seed-{seed}/{FILE}")]
            if not places:
                raise UserError(f"{arm.name}, seed {seed}: no {FILE} under {', '.join(map(str, roots))}")
            names = {Subject.UNLEARNED: arm.name}
            if arm.arm == result.reference:
                names[Subject.REFERENCE] = ORIGINAL
            for check in read_versioned(places[0], Robustness, SCHEMA_VERSION, "measure again").checks:
                for row in check.outcomes:
                    if row.subject in names and row.counts.rate is not None:
                        yield AttackRow(
                            arm=names[row.subject],
                            seed=seed,
                            check=check.check,
                            setting=row.setting,
                            suite=row.counts.suite,
                            rate=row.counts.rate,
                            requests=row.counts.unique,
                        )


def table(result: StudyResult, rows: Sequence[AttackRow]) -> str:
    """The table as Markdown: means over seeds, lowest and highest in brackets; a dash where nothing was asked."""
    lines = []
    for arm in result.arms:
        of_arm = [row for row in rows if row.arm == arm.name]
        attacked = [[row.rate for row in of_arm if row.column == column] for column in COLUMNS.values()]
        suites = {row.suite: row.rate for row in arm.suites}
        refused = [suites.get(suite) for suite in REFUSED]
        lines.append([arm.title, *map(_over_seeds, attacked), *map(_whole, refused)])
    return pipes(["%", *COLUMNS, *REFUSED.values()], lines)


def _over_seeds(rates: Sequence[float]) -> str:
    if not rates:
        return numbers.DASH
    span = f" ({_whole(min(rates))}–{_whole(max(rates))})" if min(rates) < max(rates) else ""
    return _whole(float(np.mean(rates))) + span


def _whole(rate: float | None) -> str:
    return numbers.DASH if rate is None else f"{100 * rate:.0f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file and the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.study_attacks", description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="the study's committed files, without an ending")
    parser.add_argument("--arms", nargs="+", type=Path, default=[], help="directories that have its runs")
    parser.add_argument("--page", type=Path, required=True, help="Markdown with the two markers")
    given = parser.parse_args(argv)
    result, rates = read_result(given.study.with_suffix(".json")), given.study.with_suffix(".attacks.jsonl")
    if given.arms:
        write_rows(rates, read_arms(result, given.arms))
    text = table(result, read_rows(rates, AttackRow))
    page = replace_between(read_text(given.page), "<!-- arms:begin -->", "<!-- arms:end -->", text, str(given.page))
    write_text(given.page, page)


if __name__ == "__main__":
    main()
