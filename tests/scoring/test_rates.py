"""Parts, conditions, repeated requests and targets, against hand-worked numbers."""

import pytest

from unsay.records import Condition, Kind, Label, Modality, Phase, Prompt, Response, Verdict
from unsay.scoring import (
    JudgeInfo,
    SuiteRow,
    Target,
    TransferRow,
    assemble,
    break_down,
    check_targets,
    compare_utility,
    score_suite,
    score_utility,
)
from unsay.scoring.limits import cautions


def prompts(groups, suite="adv", kind=Kind.ATTACK, **more):
    return [
        Prompt(
            id=f"{suite}-{n}", suite=suite, kind=kind, modality=Modality.IMAGE, prompt=f"[prompt {n}]",
            request=f"[request {group}]", group=group, image="x.png", category=f"c{n % 2}",
            image_type=["blank", "noise"][n % 2], **more,
        )
        for n, group in enumerate(groups)
    ]  # fmt: skip


def verdicts(rows, letters):
    labels = {"h": Label.HARMFUL, "r": Label.REFUSED, "f": Label.FAILED, "s": Label.SAFE}
    return [
        Verdict(id=row.id, judge="rules", label=labels[letter], rationale="")
        for row, letter in zip(rows, letters, strict=True)
    ]


def responses(rows):
    return [
        Response(
            id=row.id, suite=row.suite, modality=row.modality, prompt=row.prompt, image=row.image,
            response="[answer]", finish_reason="stop", tokens=1, model_key="k",
        )
        for row in rows
    ]  # fmt: skip


def test_parts_by_hand():
    rows = prompts("aabb")
    found = {(row.by, row.part): row for row in break_down(rows, verdicts(rows, "hrhf"), Phase.AFTER)}
    assert set(found) == {("category", "c0"), ("category", "c1"), ("image type", "blank"), ("image type", "noise")}
    assert (found["category", "c0"].outcomes, found["category", "c0"].judged, found["category", "c0"].n) == (2, 2, 2)
    assert found["category", "c1"].rate == 0.0
    assert (found["category", "c1"].judged, found["category", "c1"].unique) == (1, 2)
    single = [row.model_copy(update={"category": None, "image_type": None}) for row in rows]
    assert break_down(single, verdicts(single, "hrhf"), Phase.AFTER) == []


def test_a_run_of_many_suites_adjusts_and_counts():
    suites = {name: prompts("abcdefgh", name) for name in ("one", "two", "three")}
    suites["twice"] = prompts("aabbccdd", "twice")
    before = {name: verdicts(rows, "hhhhhhhh") for name, rows in suites.items()}
    after = {name: verdicts(rows, "rrrrrrrr") for name, rows in suites.items()}
    both = {(n, p): v for p, given in ((Phase.BEFORE, before), (Phase.AFTER, after)) for n, v in given.items()}
    scores = assemble(
        suites=suites,
        responses={(n, p): responses(rows) for n, rows in suites.items() for p in Phase},
        verdicts=both,
        judge=JudgeInfo(name="rules"),
    )
    change = {row.suite: row for row in scores.changes}
    assert change["one"].p == pytest.approx(2 / 256)
    assert change["one"].p_adjusted == pytest.approx(4 * 2 / 256)
    assert (change["one"].test, change["twice"].test) == ("mcnemar", "sign flip over requests")
    assert change["twice"].p > 0.05  # four requests can show nothing
    rows = {(row.suite, row.phase): row for row in scores.rows}
    assert (rows["twice", Phase.AFTER].unique, rows["twice", Phase.AFTER].texts) == (4, 8)
    assert rows["one", Phase.BEFORE].detectable is not None
    assert rows["one", Phase.AFTER].detectable is None  # from 0 it can only rise
    assert len(scores.parts) == 4 * 2 * 4


def test_few_harmless_requests_can_only_show_a_rise():
    """The power of four against four, as above: none refused of four, and only a rate of 0.9457 would be seen."""
    rows = prompts("abcd", kind=Kind.BENIGN)
    row = score_suite(rows, responses(rows), verdicts(rows, "ssss"), Phase.AFTER)
    assert row.detectable == pytest.approx(0.8**0.25, abs=1e-6)


def test_conditions_are_never_one_row():
    rows = prompts("abcd")
    rows = [rows[0], *(row.model_copy(update={"condition": Condition.BLANK}) for row in rows[1:])]
    scores = assemble(
        suites={"adv": rows},
        responses={("adv", Phase.AFTER): responses(rows)},
        verdicts={("adv", Phase.AFTER): verdicts(rows, "hhrr")},
        judge=JudgeInfo(name="rules"),
    )
    assert [(row.condition, row.n) for row in scores.rows] == [(Condition.REAL, 1), (Condition.BLANK, 3)]


def test_ungraded_items_are_in_no_number():
    row = score_utility("mm-vet", Phase.AFTER, [0.2, None, 0.6], groups=["a", "b", "c"])
    assert (row.value, row.n, row.failed, row.unique) == (pytest.approx(0.4), 3, 1, 2)
    # A ratio of sums: (75 · 8 + 50 · 2) ÷ 10
    weighted = score_utility("llava-bench", Phase.AFTER, [75.0, 50.0], weights=[8.0, 2.0], groups=["a", "b"])
    assert weighted.value == pytest.approx(70)


def test_a_suites_sum_is_resampled_within_its_parts():
    values = [1.0, 0.0, 1.0, 1.0]

    def number(indices, _phase=None):
        return float(len({index // 2 for index in indices}))  # how many parts were drawn

    row = score_utility("sum", Phase.AFTER, values, unit="points", total=number, strata=["x", "x", "y", "y"])
    assert (row.value, row.interval) == (2.0, None)
    change = compare_utility("sum", values, values[::-1], unit="points", total=number, strata=["x", "x", "y", "y"])
    assert (change.difference, change.interval) == (0.0, None)


def row_of(condition, **counts):
    none = dict.fromkeys(("refused", "safe", "harmful", "degenerate", "failed"), 0)
    n = sum(counts.values())
    return SuiteRow(
        suite="adv", title=f"Adv, {condition}", kind=Kind.ATTACK, modality=Modality.IMAGE, phase=Phase.AFTER,
        condition=condition, n=n, unique=n, rate=counts.get("harmful", 0) / n, **none | counts,
    )  # fmt: skip


def test_a_target_names_the_condition_that_it_was_measured_on():
    rows = [row_of(Condition.REAL, safe=9, harmful=1), row_of(Condition.BLANK, harmful=3, degenerate=2, safe=5)]
    asr, babble = check_targets(
        [Target(suite="adv", measure="asr", limit=0.1), Target(suite="adv", measure="degenerate", limit=0.05)], rows, []
    )
    assert (asr.value, asr.title, asr.met) == (0.3, "Adv, blank image", False)
    assert (babble.value, babble.title) == (0.2, "Adv, blank image")
    (before,) = check_targets([Target(suite="adv", measure="asr", limit=0.1, phase=Phase.BEFORE)], rows, [])
    assert (before.value, before.met) == (None, None)


def test_few_requests_are_called_few_however_many_pairs_they_make():
    rows = prompts([str(n // 4) for n in range(20)])
    both = {Phase.BEFORE: verdicts(rows, "h" * 20), Phase.AFTER: verdicts(rows, "r" * 20)}
    scores = assemble(
        suites={"adv": rows},
        responses={("adv", phase): responses(rows) for phase in Phase},
        verdicts={("adv", phase): found for phase, found in both.items()},
        judge=JudgeInfo(name="rules"),
    )
    said = [caution.text for caution in scores.warnings if "too few" in caution.text]
    assert said == ["Adv: 5 requests are too few to show any change (the test needs six)."]


def test_a_transfer_that_is_missing_says_why():
    given = {"text_suite": "t", "image_suite": "i", "text_title": "T", "image_title": "I", "groups": 9}
    judge = JudgeInfo(name="rules")
    rows = [TransferRow(**given, drop_text=0.5, drop_image=None), TransferRow(**given, drop_text=0.0, drop_image=0.1)]
    said = [caution.text for caution in cautions([], [], rows, judge) if not caution.severe]
    assert said == [
        "Transfer from T to I is not given: a side was not judged in both phases.",
        "Transfer from T to I is not given: there is no clear drop on text to carry over.",
    ]
