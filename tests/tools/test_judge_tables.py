import shutil
from pathlib import Path
from typing import Any

import pytest

from tools.judge_tables import BEGIN, END, LISTED, QUOTED, STUDIED, main, tables, written
from unsay.errors import UserError
from unsay.judges import JUDGES

ESTIMATE = [0.5, 0.25, 0.75]
ROW = dict.fromkeys(("auc", "balanced_accuracy", "precision", "recall", "specificity", "kappa"), ESTIMATE) | {"n": 7}
RESULTS: dict[str, Any] = {
    "probe": {"threshold": 0.5, "rows": 9, "sources": {"a": 4, "b": 5}},
    "harm": {"probe, a": ROW, "rules, a": ROW | {"auc": None}},
    "refusal": {"x": ROW},
    "xstest partial refusals": {"held out": {"n": 3, "refused": 2}},
    "word salad": {"made": {"n": 2, "flagged": 1, "nats a token": [1.0, 2.0, 3.0]}},
}


def test_every_number_is_in_its_row() -> None:
    text = tables(RESULTS)
    cell = "0.50 [0.25, 0.75]"
    assert f"| probe, a | 7 | {' | '.join([cell] * 5)} |" in text
    assert f"| rules, a | 7 |  | {' | '.join([cell] * 4)} |" in text
    assert f"| x | 7 | {' | '.join([cell] * 4)} |" in text
    assert "4 of a, 5 of b" in text
    assert "2 of 3 (held out)" in text
    assert "| made | 2 | 1 | 1.0, 2.0, 3.0 |" in text


def test_only_what_stands_between_the_markers_changes() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = written(page, RESULTS)
    assert new == f"before\n{BEGIN}\n\n{tables(RESULTS)}\n\n{END}\nafter\n"
    assert written(new, RESULTS) == new
    with pytest.raises(UserError, match="no place"):
        written("nothing", RESULTS)


def test_the_page_of_limits_quotes_what_was_never_fitted_on() -> None:
    harm = dict.fromkeys(
        ("probe, gptfuzz (never fitted on), 256 tokens", "probe, pku (never fitted on), 48 tokens"), ROW
    )
    harm |= dict.fromkeys(
        ("probe, gptfuzz (fitted on, out of fold), 48 tokens", "rules, pyrit (fitted on), 48 tokens"), ROW
    )
    results = RESULTS | {"harm": harm, "refusal": {"xstest held out": ROW, "xstest development": ROW}}
    text = written("{}\n{}\n".format(*QUOTED), results)
    rows = [line.split(" | ")[:3] for line in text.splitlines() if line.startswith(("| harm", "| refusals"))]
    assert rows == [
        ["| harm, `probe`", "gptfuzz (never fitted on), 256 tokens", "7"],
        ["| harm, `rules`", "pyrit (fitted on), 48 tokens", "7"],
        ["| refusals, the rules", "xstest held out", "7"],
    ]
    assert text.count("0.50 [0.25, 0.75]") == 9


def test_the_study_of_collapsed_models() -> None:
    models = [
        {"steps": 0, "n": 5, "loss": 1.5, "flagged": 0, "reasons": {}},
        {"steps": 8, "n": 5, "loss": 9.0, "flagged": 4, "reasons": {"loop": 3, "word salad": 1}},
    ]
    page = "{}\n{}\n".format(*STUDIED)
    text = written(page, {"models": models, "collapsed": [8], "degenerate": ROW | {"n": 10}})
    assert "| 8 (collapsed) | 5 | 9.0 | 4 | loop 3, word salad 1 |" in text
    assert "10 answers: precision 0.50 [0.25, 0.75], recall 0.50" in text
    with pytest.raises(UserError, match="degeneration_study"):
        written(page, {"models": models})


def test_sound_answers_have_a_table() -> None:
    sound = {"made": {"n": 9, "called broken": {"loop": 1}, "called unrelated to another request": 6}}
    assert "| made | 9 | loop 1 | 6 |" in tables(RESULTS | {"soundness": sound})


def test_results_that_lack_something_are_named() -> None:
    with pytest.raises(UserError, match="harm"):
        tables({name: value for name, value in RESULTS.items() if name != "harm"})


def test_every_judge_is_listed_whatever_is_written() -> None:
    text = written("{}\n{}\n".format(*LISTED) + f"{BEGIN}\n{END}\n", RESULTS)
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}`" for name in JUDGES]


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("results", "page"), [("judge", "docs/judges.md"), ("judge", "docs/limits.md"), ("degeneration", "docs/judges.md")]
)
def test_the_committed_pages_are_what_the_command_writes(results: str, page: str, tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    shutil.copy(ROOT / page, copy)
    main([str(ROOT / f"docs/results/{results}.json"), str(copy)])
    assert copy.read_text() == (ROOT / page).read_text(), (
        f"python -m tools.judge_tables docs/results/{results}.json {page}"
    )
