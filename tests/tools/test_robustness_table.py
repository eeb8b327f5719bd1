"""The table of a battery over seeds: rates, intervals and goals that are counted by hand, and the page that has it."""

from pathlib import Path

import pytest

from helpers.synthetic_robustness import robustness
from tools import robustness_table
from tools.robustness_table import Found, Line, interval_of, meets, table
from unsay.errors import UserError
from unsay.files import read_versioned
from unsay.scoring.robustness import SCHEMA_VERSION, Robustness, write_robustness

RESULTS = Path(__file__).parents[2] / "docs/results/robustness"


def cells(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_line_has_the_rates_of_both_models_and_the_goal():
    relearned = cells(table([robustness()]), "fine-tuned on 10 % of the forget set, 16 steps: in words")
    # 7 of 24 after, 1 of 24 before, 21 of 24 of the original: half of it is 44 %.
    assert relearned == ["88", "4", "29", "29% (15–49)", "≤ 50 % of the original", "yes"]
    sampled = cells(table([robustness()]), "one of 16: in words")
    assert (sampled[0], sampled[2], sampled[4:]) == ("90", "5", ["≤ 15 %", "yes"])


def test_a_run_without_a_line_has_a_dash_and_short_forms_stand_back_behind_full_ones():
    assert "int4" not in table([robustness()])
    title = "fine-tuned on 10 % of the forget set, 16 steps: in words"
    without = robustness().model_copy(update={"checks": robustness().checks[1:]})
    assert cells(table([robustness(), without]), title)[2:4] == ["29, –", "29% (15–49)"]
    checks = tuple(row.model_copy(update={"quick": False}) for row in robustness().checks)
    full = robustness().model_copy(update={"checks": checks})
    assert cells(table([robustness(), full]), title)[2:4] == ["–, 29", "29% (15–49)"]
    with pytest.raises(UserError, match="none of the checks"):
        table([without.model_copy(update={"checks": ()})])


def test_goals_are_of_the_mean_over_seeds():
    found = [Found(0.10, 0.05, 0.5, 24), Found(0.20, 0.15, 0.1, 24)]
    assert meets(Line("a", "c", most=0.15), found) is True
    assert meets(Line("a", "c", most=0.14), found) is False
    assert meets(Line("a", "c", most=0.5, of_original=True), found) is True  # half of 30 %
    assert meets(Line("a", "c", most=0.05, added=True), found) is True
    assert meets(Line("a", "c", most=0.04, added=True), found) is False
    assert meets(Line("a", "c"), found) is None
    assert meets(Line("a", "c", most=0.5, of_original=True), [Found(0.1, None, None, 24)]) is None


def test_intervals_are_no_shorter_than_those_of_as_many_requests_and_grow_with_what_seeds_differ():
    alone = interval_of([Found(0.5, None, None, 24)])
    assert (round(alone.low, 3), round(alone.high, 3)) == (0.314, 0.686)  # Wilson, 12 of 24
    alike = interval_of([Found(0.0, None, None, 24)] * 3)
    assert (alike.low, round(alike.high, 3)) == (0.0, 0.138)
    # v_s = 0.04 / 3, v_r = 0.25 / 24, ν = 6.0, t = 2.44: 0.5 ± 0.377
    apart = interval_of([Found(rate, None, None, 24) for rate in (0.3, 0.5, 0.7)])
    assert (round(apart.low, 2), round(apart.high, 2)) == (0.12, 0.88)


def test_it_is_written_between_the_markers(tmp_path):
    write_robustness(tmp_path, robustness())
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- quick:begin -->\nold\n<!-- quick:end -->\nafter\n", encoding="utf-8")
    robustness_table.main([str(tmp_path / "robustness.json"), "--page", str(page), "--name", "quick"])
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("before\n")
    assert "| 29% (15–49) |" in text


@pytest.mark.parametrize("name", ["full", "quick"])
def test_the_page_has_the_table_of_the_committed_results(name):
    ending = ".quick.json" if name == "quick" else ".json"
    results = [read_versioned(path, Robustness, SCHEMA_VERSION, "") for path in sorted(RESULTS.glob(f"demo-?{ending}"))]
    page = (RESULTS.parent / "robustness.md").read_text(encoding="utf-8")
    expected = f"<!-- {name}:begin -->\n{table(results)}\n<!-- {name}:end -->"
    assert expected in page, f"run: python -m tools.robustness_table docs/results/robustness/demo-?{ending} --page …"
