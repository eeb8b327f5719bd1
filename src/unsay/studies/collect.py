"""The numbers of a study, `study.json`, from its finished runs."""

from collections.abc import Mapping, Sequence

from unsay.errors import UserError
from unsay.records import Modality
from unsay.run.finished import MADE_WITH, MeasuredRun, public_name
from unsay.scoring import Scores
from unsay.scoring.robustness import Subject
from unsay.scoring.withstanding import HEADLINES
from unsay.studies.known import StudyRuns
from unsay.studies.ranking import ArmAnswers, compare, pool_rows, rank
from unsay.studies.schema import (
    COHERENT,
    FORMS,
    SEPARATIONS,
    TITLES,
    ArmRow,
    CategoryRow,
    Comparison,
    Cost,
    FailedSeed,
    PublishedRow,
    Ranking,
    StudyResult,
)
from unsay.studies.settings import ORIGINAL, Published
from unsay.studies.study_plan import Plan, Variant, modality_name


def collect(plan: Plan, runs: StudyRuns, *, command: str = "") -> StudyResult:
    """Read every run of a study and compare its arms; missing and failed runs are listed with their reasons.

    `command` says how to do the study again. A study without an evaluated original model is a `UserError`.
    """
    originals = {model: keyed.run for model in plan.study.models if (keyed := runs.original(model)) is not None}
    if not originals:
        raise UserError(f"{runs.folders.root}: the original model was not evaluated; run the study first")
    first = next(iter(originals.values()))
    arms, answers = _arms(plan, runs, originals)
    measures = {measure for arm in answers.values() for measure in arm.measures}
    paired = [row for row in first.scores.utility if row.suite in measures]
    attacked = {name: row.title for name, row in HEADLINES.items() if any(name in arm.measures for arm in arms)}
    separations = {name: title for name, title in SEPARATIONS.items() if any(name in arm.measures for arm in arms)}
    higher = (*_higher(first.scores), *separations)
    rankings, comparisons = _compared(plan, arms, answers, higher)
    return StudyResult(
        title=plan.study.title,
        about=" ".join(plan.study.about.split()),
        command=command,
        models=tuple(public_name(model) for model in plan.study.models),
        seeds=plan.study.seeds,
        reference=plan.reference,
        judge=first.scores.judge,
        environment={name: first.environment[name] for name in MADE_WITH if name in first.environment},
        commits=tuple(dict.fromkeys(keyed.run.environment.get("commit") for _, keyed in runs.every(plan))),
        measures={**TITLES, **attacked, **separations, **{row.suite: row.title for row in paired}},
        units={
            **dict.fromkeys(attacked, "rate"),
            **dict.fromkeys(separations, "AUROC"),
            **{row.suite: row.unit for row in paired},
        },
        higher_is_better=higher,
        arms=tuple(arms),
        rankings=rankings,
        comparisons=comparisons,
        categories=_categories(arms, answers),
        published=published_rows(plan.study.published, arms, {**TITLES, **{row.suite: row.title for row in paired}}),
    )


def published_rows(
    published: Sequence[Published], arms: Sequence[ArmRow], titles: Mapping[str, str]
) -> tuple[PublishedRow, ...]:
    """The published numbers beside those of the same arm, at equal steps; one row for each model that has the arm."""
    rows = []
    for known in published:
        for arm in arms:
            if arm.arm == known.arm and (arm.arm == ORIGINAL or "steps" in arm.rules):
                forms = {"text_attacks": arm.text_attacks, "image_attacks": arm.image_attacks}
                rows.append(
                    PublishedRow(
                        measure=known.measure,
                        title={**FORMS, **titles}.get(known.measure, known.measure),
                        published=known.value,
                        about=known.about,
                        source=known.source,
                        arm=arm.name,
                        measured=forms.get(known.measure, arm.measures.get(known.measure)),
                    )
                )
    return tuple(rows)


def _higher(scores: Scores) -> tuple[str, ...]:
    return (COHERENT, *dict.fromkeys(row.suite for row in scores.utility if row.higher_is_better))


def _arms(plan: Plan, runs: StudyRuns, originals: dict[str, MeasuredRun]) -> tuple[list[ArmRow], dict[str, ArmAnswers]]:
    rows: list[ArmRow] = []
    answers: dict[str, ArmAnswers] = {}
    for model in plan.study.models:
        prefix = f"{public_name(model)}/" if len(plan.study.models) > 1 else ""
        if model in originals:
            name = prefix + ORIGINAL
            answers[name] = ArmAnswers()
            answers[name].add(originals[model], plan.study.seeds)
            _add_reference(answers[name], model, plan, runs)
            rows.append(_original(name, public_name(model), plan, originals[model], answers[name]))
        trained = []
        for variant in plan.variants:
            if variant.model == model:
                name = prefix + variant.name
                answers[name] = ArmAnswers()
                trained.append(_arm(name, variant, plan, runs, answers[name]))
        rows += with_cost_ratios(trained, plan.reference)
    return rows, answers


def _add_reference(answers: ArmAnswers, model: str, plan: Plan, runs: StudyRuns) -> None:
    """Add the attacks on the model that was never unlearned, as the reference arm's runs made them."""
    names = [variant.name for variant in plan.variants if (variant.model, variant.arm) == (model, plan.reference)]
    for seed in plan.study.seeds:
        if names and not isinstance(keyed := runs.trained(model, names[0], seed), str):
            answers.add_withstood(keyed.run, Subject.REFERENCE, [seed])


def _original(name: str, model: str, plan: Plan, run: MeasuredRun, answers: ArmAnswers) -> ArmRow:
    return ArmRow(
        name=name,
        title="Original model",
        model=model,
        arm=ORIGINAL,
        rules=plan.study.budget.equal,
        method=None,
        modality="",
        state="finished",
        seeds=plan.study.seeds,
        **_numbers(answers),
        suites=run.scores.rows,
        utility=run.scores.utility,
    )


def _arm(name: str, variant: Variant, plan: Plan, runs: StudyRuns, answers: ArmAnswers) -> ArmRow:
    finished: list[MeasuredRun] = []
    failed: list[FailedSeed] = []
    for seed in plan.study.seeds:
        keyed = runs.trained(variant.model, variant.name, seed)
        if isinstance(keyed, str):
            failed.append(FailedSeed(seed=seed, reason=keyed))
        else:
            finished.append(keyed.run)
            answers.add(keyed.run, [seed])
            answers.add_withstood(keyed.run, Subject.UNLEARNED, [seed])
    suites, utility = pool_rows(finished) if finished else ((), ())
    config = plan.config(variant, plan.study.seeds[0], 1)
    data = config.data.model_dump(mode="json")
    return ArmRow(
        name=name,
        title=variant.title,
        model=public_name(variant.model),
        arm=variant.arm,
        rules=variant.rules,
        method=config.method,
        modality=modality_name(data.get("modality", Modality.TEXT.value)),
        state=("partial" if failed else "finished") if finished else "failed",
        seeds=tuple(run.seed for run in finished),
        failed=tuple(failed),
        notes=tuple(note for run in finished if (note := _early_end(run, variant.rule))),
        **_numbers(answers),
        suites=suites,
        utility=utility,
        cost=_mean_cost(finished) if finished else None,
        categories=config.data.recipe.categories,
    )


def _numbers(answers: ArmAnswers) -> dict[str, object]:
    means = {
        name: answers.mean(numbers, shares=name not in answers.no_shares) for name, numbers in answers.measures.items()
    }
    means |= {name: answers.separation(name) for name in answers.separable}
    return {
        "measures": {name: mean for name, mean in means.items() if mean is not None},
        "text_attacks": answers.mean(answers.attacks(Modality.TEXT)),
        "image_attacks": answers.mean(answers.attacks(Modality.TYPOGRAPHIC, Modality.IMAGE)),
        "degenerate": answers.mean(answers.babble),
    }


def _early_end(run: MeasuredRun, rule: str) -> str | None:
    """Why training ended before its budget was used; None if it did not."""
    if run.stopped != "finished":
        return f"seed {run.seed}: {run.stopped or 'why its training ended is not known'}"
    if rule != "steps" and len(run.steps) == run.asked_steps:
        return f"seed {run.seed}: ended at {len(run.steps)} steps, before its {rule} were used (train.steps)"
    return None


def _mean_cost(runs: Sequence[MeasuredRun]) -> Cost:
    """Means over at least one run, and the largest peak memory."""
    rows = [row for run in runs for row in run.scores.cost]
    steps = [len(run.steps) for run in runs]
    return Cost(
        steps=sum(steps) / len(steps),
        tokens=sum(row.text_tokens for row in rows) / len(rows),
        image_tokens=sum(row.image_tokens for row in rows) / len(rows),
        flops=sum(row.flops for row in rows) / len(rows),
        seconds=sum(row.seconds for row in rows) / len(rows),
        peak_memory_bytes=max(row.peak_memory_bytes for row in rows),
    )


def with_cost_ratios(rows: Sequence[ArmRow], reference: str) -> list[ArmRow]:
    """The trained arms of one model, with `ratios` of their costs to the reference's under the same rule.

    The reference has a cost for each rule where its budget is a number, or what it used half-way, because it is then
    trained for each rule anew. Where it failed there are no ratios.
    """
    costs = {rule: row.cost for row in rows if row.arm == reference and row.cost is not None for rule in row.rules}
    return [_with_ratios(row, next((costs[rule] for rule in row.rules if rule in costs), None)) for row in rows]


def _with_ratios(row: ArmRow, reference: Cost | None) -> ArmRow:
    if row.cost is None or reference is None:
        return row
    own, other = _totals(row.cost), _totals(reference)
    ratios = {name: own[name] / other[name] for name in own if other[name] > 0}
    return row.model_copy(update={"cost": row.cost.model_copy(update={"ratios": ratios})})


def _totals(cost: Cost) -> dict[str, float]:
    return {
        "tokens": cost.tokens + cost.image_tokens,
        "flops": cost.flops,
        "seconds": cost.seconds,
        "memory": float(cost.peak_memory_bytes),
    }


def _compared(
    plan: Plan, arms: Sequence[ArmRow], answers: dict[str, ArmAnswers], higher: Sequence[str]
) -> tuple[tuple[Ranking, ...], tuple[Comparison, ...]]:
    rankings: list[Ranking] = []
    comparisons: list[Comparison] = []
    for model in dict.fromkeys(arm.model for arm in arms):
        for rule in plan.study.budget.equal:
            names = [arm.name for arm in arms if arm.model == model and rule in arm.rules and arm.state != "failed"]
            ranked = {name: answers[name] for name in names}
            measures = dict.fromkeys(name for arm in ranked.values() for name in (*arm.measures, *arm.separable))
            pairs = [
                pair
                for measure in measures
                for pair in compare(model, rule, measure, ranked, higher_is_better=measure in higher)
            ]
            comparisons += pairs
            rankings.append(rank(model, rule, _limit_words(plan, rule), ranked, pairs))
    return tuple(rankings), tuple(comparisons)


def _limit_words(plan: Plan, rule: str) -> str:
    budget = plan.study.budget
    if rule == "steps":
        steps = budget.steps or plan.config(plan.variants[0], plan.study.seeds[0]).train.steps
        return f"{steps:,} steps"
    given = budget.tokens if rule == "tokens" else budget.seconds
    if given is not None:
        return f"{given:,.0f} training {rule}"
    after = f" after {budget.at_steps} steps" if budget.at_steps is not None else ""
    return f"the training {rule} of {plan.reference}{after}"


def _categories(arms: Sequence[ArmRow], answers: dict[str, ArmAnswers]) -> tuple[CategoryRow, ...]:
    """Attack success by harm category; none unless arms differ in the categories that they learn from."""
    if len({arm.categories for arm in arms if arm.arm != ORIGINAL}) < 2:
        return ()
    rows = []
    for arm in arms:
        for category, numbers in sorted(answers[arm.name].by_category().items()):
            measure = answers[arm.name].mean(numbers)
            assert measure is not None, "by_category has no empty category"
            covered = arm.arm != ORIGINAL and (arm.categories is None or category in arm.categories)
            rows.append(CategoryRow(arm=arm.name, category=category, covered=covered, asr=measure))
    return tuple(rows)
