"""`Scores` of a run: every suite scored and compared, with transfer, separation, targets and cautions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from unsay.errors import UserError
from unsay.files import read_versioned, write_json
from unsay.records import Phase, Prompt, Response, Verdict
from unsay.scoring.limits import cautions, check_targets, coverage_cautions
from unsay.scoring.rates import break_down, compare_suite, corrected, score_suite
from unsay.scoring.schema import (
    SCHEMA_VERSION,
    Caution,
    Change,
    CostRow,
    JudgeInfo,
    PartRow,
    Scores,
    SuiteCoverage,
    SuiteRow,
    Target,
    TransferRow,
    UtilityChange,
    UtilityRow,
)
from unsay.scoring.separation import score_separation
from unsay.scoring.subsets import by_id, plain_title, split_suite
from unsay.scoring.transfer import score_transfer
from unsay.statistics import holm

Suites = Mapping[str, Sequence[Prompt]]
Verdicts = Mapping[tuple[str, Phase], Sequence[Verdict]]


def assemble(
    *,
    suites: Suites,
    responses: Mapping[tuple[str, Phase], Sequence[Response]],
    verdicts: Verdicts,
    judge: JudgeInfo,
    utility: Iterable[UtilityRow] = (),
    utility_changes: Iterable[UtilityChange] = (),
    twins: Iterable[tuple[str, str]] = (),
    borderline: Collection[str] = (),
    targets: Iterable[Target] = (),
    cost: Iterable[CostRow] = (),
    titles: Mapping[str, str] | None = None,
    settings: Mapping[str, JsonValue] | None = None,
    asked: Iterable[SuiteCoverage] = (),
    left_out: Mapping[str, str] | None = None,
    notes: Iterable[Caution] = (),
    seed: int = 0,
) -> Scores:
    """Score every suite that has verdicts, compare phases where there are two, and add the cautions.

    Args:
        suites: suite name to its prompts (attack and benign suites; utility comes as rows of its own).
        responses: (suite, phase) to the responses.
        verdicts: (suite, phase) to the verdicts; a suite or phase without an entry was not run.
        judge: who gave the verdicts.
        utility: see `score_utility`.
        utility_changes: see `compare_utility`; their p are corrected together with those of the judged suites.
        twins: (text suite, image suite) pairs for transfer; pairs that lack a phase are left out, and pairs without
            a common request are left out with a caution.
        borderline: benign suites whose requests sound harmful (see `score_separation`).
        targets: limits set before the run.
        cost: what each stage took.
        titles: suite name to title.
        settings: anything that explains the run.
        asked: how much of each suite was asked.
        left_out: suite that was to be asked and could not be → why.
        notes: further cautions.
        seed: of the bootstraps.

    Raises:
        UserError: rows that do not match their suite, or verdicts of an unknown suite.
    """
    names = dict(titles or {})
    if unknown := sorted({suite for suite, _ in verdicts} - suites.keys()):
        known = ", ".join(suites) or "none"
        raise UserError(f"suite {unknown[0]!r}: there are verdicts but no prompts; known: {known}")
    rows: list[SuiteRow] = []
    changes: list[Change] = []
    parts: list[PartRow] = []
    for suite, prompts in suites.items():
        phases = [phase for phase in Phase if (suite, phase) in verdicts]
        for phase in phases:
            by_id(prompts, responses.get((suite, phase), ()), suite, f"responses {phase}")
            by_id(prompts, verdicts[suite, phase], suite, f"verdicts {phase}")
        subsets = split_suite(prompts)
        for subset in subsets:
            ids = {row.id for row in subset}
            title = names.get(suite, plain_title(suite))
            if len(subsets) > 1:
                title = f"{title} ({subset[0].kind}, {subset[0].modality}, {subset[0].condition})"
            of_phase = {phase: [row for row in verdicts[suite, phase] if row.id in ids] for phase in phases}
            for phase in phases:
                answers = [row for row in responses[suite, phase] if row.id in ids]
                rows.append(score_suite(subset, answers, of_phase[phase], phase, title=title, seed=seed))
                parts += break_down(subset, of_phase[phase], phase, seed=seed)
            if len(phases) == len(Phase):
                before, after = of_phase[Phase.BEFORE], of_phase[Phase.AFTER]
                changes.append(compare_suite(before, after, subset, title=title, seed=seed))
    paired = list(utility_changes)
    adjusted = iter(holm([change.p for change in changes] + [change.p for change in paired]))
    changes = [row.model_copy(update={"p_adjusted": next(adjusted)}) for row in changes]
    paired = [row.model_copy(update={"p_adjusted": next(adjusted)}) for row in paired]
    transfers, unrelated = _transfers(suites, verdicts, twins, names, seed)
    separations, separation_changes = score_separation(suites, responses, borderline, seed=seed)
    measured, coverage, absent = tuple(utility), tuple(asked), dict(left_out or {})
    warnings = (
        *cautions(rows, changes, transfers, judge, measured),
        *unrelated,
        *coverage_cautions(coverage, absent),
        *notes,
    )
    return Scores(
        rows=tuple(corrected(row, judge, seed=seed) for row in rows),
        parts=tuple(parts),
        utility=measured,
        changes=tuple(changes),
        utility_changes=tuple(paired),
        transfer=tuple(transfers),
        separation=tuple(separations),
        separation_changes=tuple(separation_changes),
        targets=check_targets(targets, rows, measured),
        cost=tuple(cost),
        judge=judge,
        settings=dict(settings or {}),
        asked=coverage,
        left_out=absent,
        warnings=tuple(sorted(warnings, key=lambda caution: not caution.severe)),
    )


def _transfers(
    suites: Suites, verdicts: Verdicts, twins: Iterable[tuple[str, str]], titles: Mapping[str, str], seed: int
) -> tuple[list[TransferRow], list[Caution]]:
    """Transfer to every twin that was judged in both phases; a caution for twins without a common request."""
    rows, unrelated = [], []
    for text, image in twins:
        if not all((suite, phase) in verdicts for suite in (text, image) for phase in Phase):
            continue
        if {row.group for row in suites[text]}.isdisjoint(row.group for row in suites[image]):
            # A small --limit can leave twins without a common request; that must not fail a finished run.
            unrelated.append(Caution(text=f"Transfer from {text} to {image} is not given: they share no request."))
            continue
        of_text, of_image = ((verdicts[suite, Phase.BEFORE], verdicts[suite, Phase.AFTER]) for suite in (text, image))
        rows.append(score_transfer(suites[text], of_text, suites[image], of_image, titles=titles, seed=seed))
    return rows, unrelated


def write_scores(path: Path, scores: Scores) -> None:
    """Write `scores.json`, atomically."""
    write_json(path, scores.model_dump(mode="json"))


def read_scores(path: Path) -> Scores:
    """Read `scores.json`.

    Raises:
        UserError: missing, not JSON, or not of this schema; names the field, or says what to do about another version.
    """
    again = "score the run again with the command that made it; finished stages are not repeated"
    return read_versioned(path, Scores, SCHEMA_VERSION, again)
