"""From finished runs to `study.json`."""

from collections.abc import Sequence

from unsay.errors import UserError
from unsay.records import Modality
from unsay.run.finished import MADE_WITH, MeasuredRun, public_name
from unsay.scoring import Scores
from unsay.studies.compare import Outcomes, compare, mean_cost, rank, relative
from unsay.studies.known import Finder
from unsay.studies.plan import Plan, Variant, modality_name
from unsay.studies.pool import pool_rows
from unsay.studies.schema import (
    ASR,
    COHERENT,
    REFUSAL,
    ArmRow,
    CategoryRow,
    Comparison,
    FailedSeed,
    Ranking,
    StudyResult,
)
from unsay.studies.settings import ORIGINAL

TITLES = {COHERENT: "Coherent safety", ASR: "Attack success", REFUSAL: "Over-refusal"}


def collect(planned: Plan, finder: Finder, *, command: str = "") -> StudyResult:
    """Read every run of a study and compare its arms; runs that are missing or failed are said to be.

    Args:
        planned: the study's plan.
        finder: finds its runs.
        command: how to do it again.

    Raises:
        UserError: there is no evaluation of any untrained model.
    """
    originals = {model: found.run for model in planned.study.models if (found := finder.original(model)) is not None}
    if not originals:
        raise UserError(f"{finder.folders.root}: the untrained model was not evaluated; run the study first")
    first = next(iter(originals.values()))
    arms, answers = _arms(planned, finder, originals)
    known = {measure for found in answers.values() for measure in found.measures}
    paired = [row for row in first.scores.utility if row.suite in known]
    rankings, comparisons = _compared(planned, arms, answers, _higher(first.scores))
    return StudyResult(
        title=planned.study.title,
        about=" ".join(planned.study.about.split()),
        command=command,
        models=tuple(public_name(model) for model in planned.study.models),
        seeds=planned.study.seeds,
        reference=planned.reference,
        judge=first.scores.judge,
        environment={name: first.environment[name] for name in MADE_WITH if name in first.environment},
        commits=tuple(dict.fromkeys(found.run.environment.get("commit") for _, found in finder.every(planned))),
        measures={**TITLES, **{row.suite: row.title for row in paired}},
        units={row.suite: row.unit for row in paired},
        higher_is_better=_higher(first.scores),
        arms=tuple(arms),
        rankings=rankings,
        comparisons=comparisons,
        categories=_categories(arms, answers),
    )


def _higher(scores: Scores) -> tuple[str, ...]:
    return (COHERENT, *dict.fromkeys(row.suite for row in scores.utility if row.higher_is_better))


def _arms(planned: Plan, finder: Finder, originals: dict[str, MeasuredRun]) -> tuple[list[ArmRow], dict[str, Outcomes]]:
    rows: list[ArmRow] = []
    answers: dict[str, Outcomes] = {}
    for model in planned.study.models:
        prefix = f"{public_name(model)}/" if len(planned.study.models) > 1 else ""
        if model in originals:
            name = prefix + ORIGINAL
            answers[name] = Outcomes()
            answers[name].add(originals[model], planned.study.seeds)
            rows.append(_original(name, public_name(model), planned, originals[model], answers[name]))
        trained = []
        for variant in planned.variants:
            if variant.model == model:
                name = prefix + variant.name
                answers[name] = Outcomes()
                trained.append(_arm(name, variant, planned, finder, answers[name]))
        rows += relative(trained, planned.reference)
    return rows, answers


def _original(name: str, model: str, planned: Plan, run: MeasuredRun, answers: Outcomes) -> ArmRow:
    return ArmRow(
        name=name,
        title="Untrained",
        model=model,
        arm=ORIGINAL,
        rules=planned.study.budget.equal,
        method=None,
        modality="",
        state="finished",
        seeds=planned.study.seeds,
        **_numbers(answers),
        suites=run.scores.rows,
        utility=run.scores.utility,
    )


def _arm(name: str, variant: Variant, planned: Plan, finder: Finder, answers: Outcomes) -> ArmRow:
    runs: list[MeasuredRun] = []
    failed: list[FailedSeed] = []
    for seed in planned.study.seeds:
        found = finder.run(variant.model, variant.name, seed)
        if isinstance(found, str):
            failed.append(FailedSeed(seed=seed, reason=found))
        else:
            runs.append(found.run)
            answers.add(found.run, [seed])
    suites, utility = pool_rows(runs) if runs else ((), ())
    config = planned.config(variant, planned.study.seeds[0], 1)
    data = config.data.model_dump(mode="json")
    return ArmRow(
        name=name,
        title=variant.title,
        model=public_name(variant.model),
        arm=variant.arm,
        rules=variant.rules,
        method=config.method,
        modality=modality_name(data.get("modality", Modality.TEXT.value)),
        state=("partial" if failed else "finished") if runs else "failed",
        seeds=tuple(run.seed for run in runs),
        failed=tuple(failed),
        notes=tuple(note for run in runs if (note := _ended(run, variant.rule))),
        **_numbers(answers),
        suites=suites,
        utility=utility,
        cost=mean_cost(runs) if runs else None,
        categories=config.data.recipe.categories,
    )


def _numbers(answers: Outcomes) -> dict[str, object]:
    measures = {name: found for name, cells in answers.measures.items() if (found := answers.mean(cells)) is not None}
    return {
        "measures": measures,
        "text_attacks": answers.mean(answers.attacks(Modality.TEXT)),
        "image_attacks": answers.mean(answers.attacks(Modality.TYPOGRAPHIC, Modality.IMAGE)),
        "degenerate": answers.mean(answers.babble),
    }


def _ended(run: MeasuredRun, rule: str) -> str | None:
    """Why training ended before its budget was used; None if it did not."""
    if run.stopped != "finished":
        return f"seed {run.seed}: {run.stopped or 'why its training ended is not known'}"
    if rule != "steps" and len(run.steps) == run.asked_steps:
        return f"seed {run.seed}: ended at {len(run.steps)} steps, before its {rule} were used (train.steps)"
    return None


def _compared(
    planned: Plan, arms: Sequence[ArmRow], answers: dict[str, Outcomes], higher: Sequence[str]
) -> tuple[tuple[Ranking, ...], tuple[Comparison, ...]]:
    rankings, comparisons = [], []
    for model in dict.fromkeys(arm.model for arm in arms):
        for rule in planned.study.budget.equal:
            names = [arm.name for arm in arms if arm.model == model and rule in arm.rules and arm.state != "failed"]
            chosen = {name: answers[name] for name in names}
            measures = dict.fromkeys(measure for name in names for measure in answers[name].measures)
            found = [
                pair
                for measure in measures
                for pair in compare(model, rule, measure, chosen, higher_is_better=measure in higher)
            ]
            comparisons += found
            rankings.append(rank(model, rule, _limit_words(planned, rule), chosen, found))
    return tuple(rankings), tuple(comparisons)


def _limit_words(planned: Plan, rule: str) -> str:
    budget = planned.study.budget
    if rule == "steps":
        steps = budget.steps or planned.config(planned.variants[0], planned.study.seeds[0]).train.steps
        return f"{steps:,} steps"
    given = budget.tokens if rule == "tokens" else budget.seconds
    if given is not None:
        return f"{given:,.0f} training {rule}"
    after = f" after {budget.at_steps} steps" if budget.at_steps is not None else ""
    return f"the training {rule} of {planned.reference}{after}"


def _categories(arms: Sequence[ArmRow], answers: dict[str, Outcomes]) -> tuple[CategoryRow, ...]:
    """Only where arms differ in the categories that they learn from."""
    if len({arm.categories for arm in arms if arm.arm != ORIGINAL}) < 2:
        return ()
    rows = []
    for arm in arms:
        for category, cells in sorted(answers[arm.name].by_category().items()):
            measure = answers[arm.name].mean(cells)
            assert measure is not None, "a category stands there because it has answers"
            covered = arm.arm != ORIGINAL and (arm.categories is None or category in arm.categories)
            rows.append(CategoryRow(arm=arm.name, category=category, covered=covered, asr=measure))
    return tuple(rows)
