"""Tables for a paper: every number with its interval, places as ties, nothing that LaTeX would stumble over."""

import csv
import io
import re
from functools import partial
from pathlib import Path

import pytest

from helpers import synthetic_study
from tools.study_page import markdown
from unsay.errors import UserError
from unsay.files import write_json
from unsay.studies import words
from unsay.studies.schema import COHERENT, StudyResult, read_result, write_result
from unsay.studies.settings import ORIGINAL
from unsay.studies.tables import FORMS, SPELLED, markdown_ranking, table
from unsay.studies.words import frame_of

RESULTS = Path(__file__).parents[2] / "docs/results"


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return synthetic_study.study(rules=("steps", "tokens"), seeds=(0, 1))


@pytest.fixture(scope="module")
def rows(result):
    return list(csv.DictReader(io.StringIO(table(result, "csv"))))


def chosen(rows, **wanted):
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_the_csv_has_every_number_of_every_arm_at_full_precision(result, rows):
    for ranking in result.rankings:
        for place in ranking.places:
            arm = result.find(place.arm)
            mine = {row["measure"]: row for row in chosen(rows, budget=ranking.rule, arm=arm.arm)}
            for name, found in {
                **arm.measures,
                "text_attacks": arm.text_attacks,
                "image_attacks": arm.image_attacks,
                "degenerate": arm.degenerate,
            }.items():
                row = mine.pop(name)
                assert [float(row[key]) for key in ("value", "low", "high")] == [
                    found.value, found.interval.low, found.interval.high,
                ]  # fmt: skip
                assert [int(row[key]) for key in ("n", "requests")] == [found.n, found.requests]
                assert [int(row[key]) for key in ("place", "worst_place")] == [place.best, place.worst]
            if arm.arm == ORIGINAL:
                assert not mine
            else:
                assert float(mine["seconds"]["value"]) == arm.cost.seconds
                assert float(mine["flops_ratio"]["value"]) == arm.cost.ratios["flops"]
                assert len(mine) == 6 + 4


def test_the_csv_compares_each_arm_with_the_reference(result, rows):
    for ranking in result.rankings:
        for place in ranking.places:
            arm = result.find(place.arm)
            for name in result.measures:
                (row,) = chosen(rows, budget=ranking.rule, arm=arm.arm, measure=name)
                pair = words.against(result, ranking, arm.name, name)
                if pair is None:
                    assert arm.arm == result.reference
                    assert row["p"] == row["difference"] == row["verdict"] == ""
                    continue
                mine, theirs = (result.find(one).measures[name].value for one in (arm.name, "textual-unlearning@steps"))
                assert float(row["difference"]) == pytest.approx(mine - theirs)
                assert float(row["difference_low"]) <= float(row["difference"]) <= float(row["difference_high"])
                assert (float(row["p"]), float(row["p_holm"])) == (pair.p, pair.p_holm)
                assert row["verdict"] == words.verdict(pair, arm.name)


def test_an_arm_that_failed_is_in_the_csv_without_numbers(rows):
    (row,) = chosen(rows, arm="rmu")
    assert (row["budget"], row["state"], row["measure"], row["value"], row["place"]) == (
        "steps", "failed", COHERENT, "", "",
    )  # fmt: skip


def test_markdown_is_the_tables_of_the_page_and_what_a_reader_must_know(result):
    text = table(result, "markdown")
    for ranking in result.rankings:
        assert f"**{words.heading(result, ranking)}**\n\n{markdown_ranking(frame_of(result, ranking))}" in text
        assert markdown_ranking(frame_of(result, ranking)) in markdown(result, "page")
    assert "- RMU, equal steps, seed 0: failed: collapse at step 4" in text


def body(text):
    """The lines of a LaTeX table between its rules."""
    return [line for line in text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines() if line]


def test_latex_has_a_line_for_each_place_and_a_cell_for_each_column(result):
    made = table(result, "latex").split(r"\begin{table*}")
    assert len(made) == 1 + 2
    for text, ranking in zip(made[1:], result.rankings, strict=True):
        columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
        lines = body(text)
        assert len(lines) == len(ranking.places)
        for line, place in zip(lines, ranking.places, strict=True):
            cells = line.removesuffix(r" \\").split(" & ")
            arm = result.find(place.arm)
            assert len(cells) == columns == 2 + 4 + 2 + 3
            dagger = r"$^{\dagger}$" if arm.arm == "collapsed" else ""
            assert cells[:2] == [words.place_words(place).replace("–", "--"), arm.title + dagger]
            pair = words.against(result, ranking, arm.name, COHERENT)
            mark = {"better": "$^{+}$", "worse": "$^{-}$"}.get(pair and words.verdict(pair, arm.name), "")
            value, span = (
                f"{arm.measures[COHERENT].value:.1%}"[:-1],
                words.span(result, COHERENT, arm.measures[COHERENT]),
            )
            assert cells[2] == rf"{value}{mark} {{\scriptsize {span.replace('–', '--')}}}"
            assert cells[-3:] == (["--"] * 3 if arm.arm == ORIGINAL else [f"{arm.cost.ratios['tokens']:.2f}"] * 3)
        assert text.count(r"\label{tab:study-" + ranking.rule) == 1
    assert r"Without a result: RMU." in made[1]
    assert r"$\dagger$: its answers to attacks are babble over 5 points more often" in made[1]
    assert r"accuracy 86.0\% against 394 human labels" in made[1]
    assert made[0].startswith("% \\usepackage{booktabs}\n% RMU, equal steps, seed 0: failed")


def test_latex_is_escaped_whatever_an_arm_is_called(result):
    nasty = "".join(SPELLED) + '50 % of A&B_c "d"\n\\input{x}'
    arms = tuple(arm.model_copy(update={"title": nasty}) if arm.arm == "text-sft" else arm for arm in result.arms)
    text = table(result.model_copy(update={"arms": arms, "title": nasty}), "latex", "steps")
    assert text.isascii()
    plain = re.sub(r"\\[{}$%&#_\\]", "", text)  # what is escaped
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert r"\input" not in text
    lines = [re.sub(r"\\[&\\]", "", line) for line in body(text)]
    assert {line.count("&") for line in lines} == {10}
    comments = [line for line in text.splitlines() if "%" in re.sub(r"\\[\\%]", "", line)]
    assert comments
    assert all(line.startswith("% ") for line in comments)


def test_no_arm_and_a_missing_number_are_tables_too(result):
    bare = tuple(arm.model_copy(update={"image_attacks": None, "cost": None}) for arm in result.arms)
    cells = body(table(result.model_copy(update={"arms": bare}), "latex", "steps"))[0].removesuffix(r" \\").split(" & ")
    assert cells[4] == cells[-1] == "--"
    empty = tuple(ranking.model_copy(update={"places": ()}) for ranking in result.rankings)
    for form in FORMS:
        assert table(result.model_copy(update={"rankings": empty}), form)


def test_one_budget_or_all(result):
    assert {row["budget"] for row in csv.DictReader(io.StringIO(table(result, "csv", "tokens")))} == {"tokens"}
    assert table(result, "latex", "tokens").count(r"\begin{tabular}") == 1
    with pytest.raises(UserError, match="no arms at equal 'seconds'; it has steps, tokens"):
        table(result, "csv", "seconds")
    with pytest.raises(UserError, match="unknown 'word'; known are latex, csv, markdown"):
        table(result, "word")


@pytest.mark.parametrize(
    "path", [path for name in ("paper", "methods") for path in RESULTS.rglob(f"{name}.json")], ids=str
)
def test_committed_results_are_tables(path):
    found = read_result(path)
    for form in FORMS:
        assert table(found, form).count(found.find(found.rankings[0].places[0].arm).title) >= len(found.rankings)


def test_several_models_are_told_apart(result):
    both = result.model_copy(update={"models": ("pocket", "org/Other_1B")})
    text = table(both, "latex", "steps")
    assert r"\label{tab:study-steps-pocket}" in text
    assert ", pocket." in text


@pytest.fixture
def run(unsay):
    return partial(unsay, "study-table")


@pytest.mark.parametrize("form", FORMS)
def test_the_command_prints_the_table_and_nothing_else(run, result, tmp_path, form):
    """Its lines are far longer than the terminal that tests are in."""
    write_result(tmp_path / "study.json", result)
    write_result(tmp_path / "paper.json", result)
    assert run(tmp_path, "--format", form) == (0, table(result, form), "")
    assert run(tmp_path / "paper.json", "--format", form, "--budget", "steps") == (0, table(result, form, "steps"), "")


def test_what_is_no_study_is_one_line(run, tmp_path):
    write_json(tmp_path / "runs.jsonl", {})
    for path, needle in (
        (tmp_path, "no study there (study.json is missing)"),
        (tmp_path / "runs.jsonl", "give its study.json"),
    ):
        code, out, err = run(path)
        assert (code, out) == (2, "")
        assert needle in err
        assert err.strip().count("\n") == 0
