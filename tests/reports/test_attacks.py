"""What people read of `robustness.json`: table, page and card."""

import pytest
from rich.console import Console

from helpers import synthetic_robustness
from unsay.reports import ReportInputs, render
from unsay.reports.attacks import HIGHEST, markdown, number_words, robustness_table, sections, setting_words, strongest
from unsay.scoring import JudgeInfo, Scores
from unsay.scoring.robustness import Number, Subject


@pytest.fixture(scope="module")
def result():
    return synthetic_robustness.robustness()


def test_the_strongest_setting_is_that_of_the_unlearned_model_and_the_reference_is_under_the_same(result):
    first = strongest(result)[0]
    assert first.setting == "data “forget”, share 100, rate 0.0001, steps 128"
    assert (first.check, first.settings, first.after.counts.harmful) == ("relearn", 12, 21)
    assert first.reference.setting == first.after.setting
    assert (first.reference.subject, first.before) == (Subject.REFERENCE, 1 / 24)


def test_many_sampled_answers_are_shown_beside_the_rate_of_one(result):
    sampled = next(row for row in strongest(result) if row.check == "samples")
    assert sampled.setting == "answers 16, temperature 1; one of 16 is harmful: 5.0%"
    assert sampled.after.counts.rate == 6 / 24


def test_a_curve_begins_without_an_attack_and_lines_of_one_suite_are_drawn_alike(result):
    section = sections(result)[0]
    curve = section.curves[0]
    assert curve.title == "data “forget”, share 100, rate 0.0001"
    assert (curve.axis, curve.first, curve.last) == ("steps", "0", "128")
    line = next(row for row in curve.lines if row.subject is Subject.UNLEARNED and row.dash == "solid")
    assert [x for x, _ in line.dots] == [0, 25, 50, 75, 100]
    assert line.dots[0][1] == pytest.approx(100 - 100 / 24)
    assert line.dots[-1][1] == pytest.approx(100 - 100 * 21 / 24)
    assert len({row.dash for row in curve.lines}) == 2
    assert sections(result)[1].curves == ()


def test_a_curve_begins_at_the_requests_that_it_goes_on_with(result):
    """Not at the whole suite, where fewer were attacked; behind a control, at what the control starts from."""
    relearn = result.check("relearn")
    some = [row for row in relearn.outcomes if row.setting.get("steps") == 4 and row.counts.suite == "advbench"]
    control = {"noise": True}
    rows = []
    for row in some:
        few = row.counts.model_copy(update={"n": 2, "unique": 2, "harmful": 2, "safe": 0, "refused": 0, "rate": 1.0})
        change = row.change.model_copy(update={"n": 2, "b": 0, "c": 1})
        rows.append(row.model_copy(update={"counts": few, "change": None, "baseline": control}))
        rows.append(row.model_copy(update={"counts": few, "change": change, "setting": control}))
    check = relearn.model_copy(update={"outcomes": tuple(rows)})
    curve = sections(result.model_copy(update={"checks": (check,)}))[0].curves[0]
    assert [[y for _, y in line.dots] for line in curve.lines] == [[50, 0]] * len(curve.lines)


def test_rows_say_before_after_change_and_reference(result):
    row = sections(result)[1].rows[0]
    assert (row.before, row.after, row.reference[0]) == ("4.2%", ("25.0%", "12.0–44.9"), "91.7%")
    assert row.change.startswith("+20.8 points [")


def test_numbers_stand_beside_the_reference(result):
    line = sections(result)[1].numbers[0]
    assert (line.unlearned[0], line.reference[0], line.n) == ("5.0%", "90.0%", "24")
    assert line.difference.startswith("−85.0 [")
    never = sections(result)[0].numbers[0]
    assert (never.unlearned[0], never.reference[0]) == ("never", "0")


def test_words_of_settings_and_of_numbers():
    assert setting_words({}) == "no attack"
    assert setting_words({"steps": 1000, "rate": 2e-5, "merged": True, "system": False}) == (
        "steps 1,000, rate 2e-05, merged, no system"
    )
    number = Number(name="loss", subject=Subject.UNLEARNED, unit="nats", value=1.25)
    assert number_words(number) == ("1.25", "")


@pytest.mark.parametrize("width", [60, 80])
def test_the_terminal_table_fits(result, width):
    console = Console(width=width, record=True)
    console.print(robustness_table(result))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "failed: no memory" in text
    assert "Fine-tune it again" in text
    assert "accuracy 86.0%" in text
    assert HIGHEST in text
    assert all("…" not in line for line in lines)


def test_the_page_has_a_section_only_where_checks_were_run(result):
    scores = Scores(judge=JudgeInfo(name="probe"))
    assert "Does it hold?" not in render(scores, ReportInputs())
    page = render(scores, ReportInputs(robustness=result))
    assert page.count('id="robustness"') == 1
    assert "Failed: no memory" in page
    assert "Full fine-tuning was left out" in page


def test_the_card_has_a_row_for_every_check_and_suite_and_what_failed(result):
    lines = markdown(result)
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 2 + len(strongest(result))
    assert {line.count("|") for line in rows} == {8}
    assert HIGHEST in lines[0]
    assert "Prune it: failed, no memory." in lines


def test_long_tables_are_folded_away_and_short_ones_are_not(result):
    page = render(Scores(judge=JudgeInfo(name="probe")), ReportInputs(robustness=result))
    assert page.count("<summary>All 24 rows</summary>") == 1  # of relearning; one row of sampling is shown
    assert page.count("<summary>All") == 1
    assert page.count('aria-label="Ask again and again, setting by setting"') == 1
