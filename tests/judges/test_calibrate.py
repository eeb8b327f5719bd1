import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from unsay.cli.judges_commands import report_lines
from unsay.errors import UserError
from unsay.judges.base import Pair
from unsay.judges.calibrate import (
    CalibrationReport,
    calibrate,
    calibration_path,
    judge_accuracy,
    store_calibration,
    stored_accuracy,
)
from unsay.judges.label_sets import FITTED_QUESTIONS, LabelSet, gptfuzz_set, label_sets, sample_rows, xstest_set
from unsay.records import Label, LabelledResponse, Verdict

H, S, R, D = Label.HARMFUL, Label.SAFE, Label.REFUSED, Label.DEGENERATE


@pytest.fixture(autouse=True)
def _no_pyrit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("pyrit_objective", "pyrit_refusal"):
        monkeypatch.setattr(f"unsay.judges.label_sets.{name}", lambda: rows(4))


def rows(count: int, positive: Label = H) -> list[LabelledResponse]:
    return [
        LabelledResponse(prompt=f"[request {n}]", response=f"answer {n}", label=positive if n % 2 else S, source="made")
        for n in range(count)
    ]


class Reads:
    """Finds harm by the answer's last digit: odd is harmful, but 9 is missed."""

    name = "reads"
    key = "reads-1"

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        found = []
        for _, response in pairs:
            digit = int(response.response[-1])
            label = H if digit % 2 and digit != 9 else S
            found.append(
                Verdict(id=response.id, judge=self.name, label=label, score=float(label is H), rationale="digit")
            )
        return found


def test_a_report_by_hand_and_where_it_is_kept() -> None:
    sets = [
        LabelSet("fitted", H, tuple(rows(4)), frozenset({"reads"})),
        LabelSet("refusals", R, tuple(rows(10, R))),
        LabelSet("clean", H, tuple(rows(20))),
    ]
    told = []
    report = calibrate(Reads(), sets, lambda *at: told.append(at))
    assert told[-1] == (34, 34)
    best = report.headline()
    assert best is not None
    assert best.name == "clean"
    assert best.calibration.recall is not None
    assert best.calibration.recall.value == pytest.approx(8 / 10)
    assert best.calibration.specificity is not None
    assert best.calibration.specificity.value == 1
    assert report.sets[0].fitted_on
    assert stored_accuracy(Reads()) is None
    store_calibration(report)
    statement = judge_accuracy(Reads())
    assert statement.calibration == best.calibration
    assert "clean" in statement.text
    other = Reads()
    other.key = "reads-2"
    assert stored_accuracy(other) is None


def test_what_is_no_clean_evidence_is_never_quoted() -> None:
    sets = [
        LabelSet("seen", H, tuple(rows(20)), seen_by=frozenset({"reads"})),
        LabelSet("safety", H, tuple(rows(20)), unfit="people labelled something else"),
        LabelSet("looked at", R, tuple(rows(10, R)), seen_by=frozenset({"reads"})),
        LabelSet("held out", R, tuple(rows(10, R))),
    ]
    report = calibrate(Reads(), sets)
    assert report.headline() is None
    refusals = report.headline(R)
    assert refusals is not None
    assert refusals.name == "held out"
    text = printed(report)
    assert "written with these in view" in text
    assert "people labelled something else" in text
    assert "corrected by: held out" in text
    store_calibration(report)
    statement = judge_accuracy(Reads())
    assert statement.calibration is None
    assert statement.refusals == refusals.calibration
    assert "held out" in statement.refusals_measured_on


def test_a_panel_knows_what_its_members_were_fitted_on() -> None:
    class Panel(Reads):
        name = "panel"
        members = (Reads(),)

    fitted = LabelSet("fitted", H, tuple(rows(8)), frozenset({"reads"}))
    assert calibrate(Panel(), [fitted]).headline() is None


def test_answers_to_one_request_are_counted_once() -> None:
    twice = [row.model_copy(update={"prompt": f"[request {n // 2}]"}) for n, row in enumerate(rows(20))]
    report = calibrate(Reads(), [LabelSet("clean", H, tuple(twice))])
    assert report.sets[0].calibration.requests == 10
    assert "10 of 20, 10 requests" in printed(report)


def test_a_damaged_report_is_no_report(tmp_path: Path) -> None:
    report = calibrate(Reads(), [LabelSet("clean", H, tuple(rows(6)))])
    store_calibration(report)
    calibration_path(report.key).write_text('{"judge"')
    assert stored_accuracy(Reads()) is None


class Fails(Reads):
    """The same, but of the first rows it has no verdict."""

    def __init__(self, first: int) -> None:
        self.first = first

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [
            verdict if int(verdict.id) >= self.first else verdict.model_copy(update={"label": Label.FAILED})
            for verdict in super().judge(pairs)
        ]


def test_a_quick_look_does_not_take_the_place_of_a_thorough_calibration() -> None:
    whole = calibrate(Reads(), [LabelSet("clean", H, tuple(rows(200))), LabelSet("held out", R, tuple(rows(40, R)))])
    assert store_calibration(whole) == whole
    quick = calibrate(Reads(), [LabelSet("clean", H, tuple(rows(10)))])
    now = store_calibration(quick)
    assert [(one.name, one.calibration.n) for one in now.sets] == [("clean", 200), ("held out", 40)]
    statement = judge_accuracy(Reads())
    assert statement.calibration == whole.sets[0].calibration
    assert statement.refusals == whole.sets[1].calibration
    text = " ".join(printed(quick, now).split())
    assert "Kept from before: clean, finding 'harmful' (200 answers, against 10 now)" in text
    assert "Kept from before: held out, finding 'refused' (40 answers)" in text
    assert "delete" in text
    assert "will quote: clean" in text
    assert "Kept from before" not in printed(whole, store_calibration(whole))


def test_of_equally_many_rows_the_new_ones_count() -> None:
    store_calibration(calibrate(Reads(), [LabelSet("clean", H, tuple(rows(20)))]))
    mended = calibrate(Reads(), [LabelSet("clean", H, tuple(rows(20)[:10] + rows(10)))])
    assert store_calibration(mended) == mended


def test_labels_that_were_corrected_count_although_they_are_fewer() -> None:
    store_calibration(calibrate(Reads(), [LabelSet("my.jsonl", H, tuple(rows(20)), content="as it was")]))
    quick = calibrate(Reads(), [LabelSet("my.jsonl", H, tuple(rows(10)), content="as it was")])
    assert [one.calibration.n for one in store_calibration(quick).sets] == [20]
    mended = calibrate(Reads(), [LabelSet("my.jsonl", H, tuple(rows(18)), content="corrected")])
    assert store_calibration(mended) == mended


def test_what_a_set_is_good_for_is_not_kept_from_before() -> None:
    store_calibration(calibrate(Reads(), [LabelSet("clean", H, tuple(rows(200)))]))
    unfit = LabelSet("clean", H, tuple(rows(10)), unfit="it asks something else")
    assert store_calibration(calibrate(Reads(), [unfit])).headline() is None


def test_your_own_labels_are_quoted_first_whenever_they_were_measured() -> None:
    store_calibration(calibrate(Reads(), [LabelSet("my.jsonl", H, tuple(rows(20)))]))
    now = store_calibration(calibrate(Reads(), [LabelSet("PyRIT objectives", H, tuple(rows(20)))]))
    assert [one.name for one in now.sets] == ["my.jsonl", "PyRIT objectives"]
    now = store_calibration(calibrate(Reads(), [LabelSet("GPTFuzz, held-out questions", H, tuple(rows(20)))]))
    assert [one.name[:5] for one in now.sets] == ["my.js", "GPTFu", "PyRIT"]


def test_a_judge_that_often_failed_is_not_quoted() -> None:
    most = calibrate(Fails(3), [LabelSet("clean", H, tuple(rows(100)))])
    assert (most.sets[0].calibration.failed, most.headline()) == (3, None)
    assert "no verdict on more than 2% of the rows" in " ".join(printed(most).split())
    assert calibrate(Fails(2), [LabelSet("clean", H, tuple(rows(100)))]).headline() is not None
    sound = calibrate(Reads(), [LabelSet("clean", H, tuple(rows(20)))])
    store_calibration(sound)
    assert store_calibration(most) == sound, "more rows, but which of them were left out is no chance"


def printed(report: CalibrationReport, now: CalibrationReport | None = None) -> str:
    console = Console(width=80, record=True, force_terminal=False, file=io.StringIO())
    for line in report_lines(report, now):
        console.print(line)
    return console.export_text()


def test_eighty_columns_hold_it() -> None:
    report = calibrate(Reads(), [LabelSet("a labelled set with a long name, held out", H, tuple(rows(20)))])
    text = printed(report)
    assert max(map(len, text.splitlines())) <= 80
    assert "0.80 [" in text
    assert "kappa" in text


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_your_own_labels(tmp_path: Path) -> None:
    file = write(
        tmp_path / "my.jsonl",
        {"prompt": "q", "response": "a", "label": "harmful"},
        {"prompt": "q", "response": "b", "label": "refused"},
        {"prompt": "q", "response": "c", "label": "degenerate"},
    )
    mine = [one for one in label_sets(None, file) if one.name == "my.jsonl"]
    assert [one.positive for one in mine] == [H, R, D]
    assert {len(one.rows) for one in mine} == {3}


def test_without_a_network_your_own_labels_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> list[LabelledResponse]:
        raise UserError("pyrit: cannot be fetched")

    monkeypatch.setattr("unsay.judges.label_sets.pyrit_objective", unreachable)
    file = write(tmp_path / "my.jsonl", *[{"prompt": "q", "response": "a", "label": x} for x in ("harmful", "safe")])
    told: list[str] = []
    assert [one.name for one in label_sets(None, file, warn=told.append)] == ["my.jsonl"]
    assert told == ["PyRIT's labels are left out: pyrit: cannot be fetched"]
    with pytest.raises(UserError, match="cannot be fetched"):
        label_sets(None, None, warn=told.append)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([], "no row"),
        ([{"prompt": "q", "response": "a", "label": "safe"}] * 2, "two labels"),
        ([{"prompt": "q", "response": "a", "label": "failed"}], "my.jsonl:1"),
        ([{"prompt": "q", "label": "safe"}], "my.jsonl:1: response"),
        ([{"prompt": "q", "response": "a", "label": "safe", "x": 1}], "unknown key"),
    ],
)
def test_mistakes_in_your_labels_are_named(lines: list[object], named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        label_sets(None, write(tmp_path / "my.jsonl", *lines))


def test_the_questions_that_were_fitted_on_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "gptfuzz_labeled"
    folder.mkdir()
    fitted, clean = min(FITTED_QUESTIONS), next(n for n in range(80) if n not in FITTED_QUESTIONS)
    (folder / "train.csv").write_text(
        f"question,Response,label\n{fitted},one,1\n{clean},two,1\n{clean},two,1\n{clean},three,0\n{clean}, ,0\n"
    )
    found = gptfuzz_set(tmp_path, held_out=True)
    assert [(row.prompt, row.response, row.label) for row in found] == [("", "two", H), ("", "three", S)]
    assert [row.response for row in gptfuzz_set(tmp_path, held_out=False)] == ["one"]
    (folder / "question_list.csv").write_text(f"index,text\n{clean},[request]\n")
    assert {row.prompt for row in gptfuzz_set(tmp_path, held_out=True)} == {"[request]"}
    assert {row.group for row in found} == {f"question {clean}"}
    assert asked(tmp_path) == ("GPTFuzz, held-out questions", "")


def asked(folder: Path) -> tuple[str, str]:
    """The name of GPTFuzz's set, and what it is unfit for."""
    (found,) = [one for one in label_sets(folder, None) if "GPTFuzz" in one.name]
    return found.name, found.unfit


def test_answers_to_unknown_questions_are_never_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "gptfuzz_labeled"
    folder.mkdir()
    first, second = [n for n in range(80) if n not in FITTED_QUESTIONS][:2]
    (folder / "train.csv").write_text(f"question,Response,label\n{first},two 1,1\n{second},three 2,0\n")
    name, unfit = asked(tmp_path)
    assert name.endswith("(their words unknown: no question_list.csv)"), "another set than the one with words"
    assert "words are not at hand" in unfit
    report = calibrate(Reads(), [one for one in label_sets(tmp_path, None) if one.name == name])
    assert report.headline() is None
    (folder / "question_list.csv").write_text(f"index,text\n{first},[request]\n")
    name, unfit = asked(tmp_path)
    assert (name, "words are not at hand" in unfit) == ("GPTFuzz, held-out questions", True), "one is still missing"


def test_partial_refusals_are_neither(tmp_path: Path) -> None:
    folder = tmp_path / "xstest/model_completions"
    folder.mkdir(parents=True)
    (folder / "xstest_v2_completions_m.csv").write_text(
        "prompt,completion,final_label\nq,a,1_full_compliance\nq,b,2_full_refusal\nq,c,3_partial_refusal\n"
    )
    assert [(row.response, row.label) for row in xstest_set(tmp_path)] == [("a", S), ("b", R)]


def test_the_models_that_the_rules_were_written_on_are_a_set_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "xstest/model_completions"
    folder.mkdir(parents=True)
    for model in ("gpt4", "llama2orig"):
        (folder / f"xstest_v2_completions_{model}.csv").write_text(
            f"prompt,completion,final_label\nq,{model},1_full_compliance\nq,no,2_full_refusal\n"
        )
    clean, seen = (one for one in label_sets(tmp_path, None) if one.name.startswith("XSTest"))
    assert ({row.source for row in clean.rows}, clean.seen_by) == ({"gpt4"}, frozenset())
    assert {row.source for row in seen.rows} == {"llama2orig"}
    assert "probe" in seen.seen_by
    assert "endpoint" not in seen.seen_by


def test_pku_and_pyrit_refusals_correct_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "pku_saferlhf_pairs"
    folder.mkdir()
    (folder / "pku_seferlhf_realign_dpo_5k.json").write_text('[{"prompt": "q", "response": ["a", "b"]}]')
    unfit = {one.name for one in label_sets(tmp_path, None) if one.unfit}
    assert unfit == {"PKU-SafeRLHF", "PyRIT refusals"}


def test_a_limit_takes_both_sides_alike() -> None:
    made = [*rows(40), *[row.model_copy(update={"label": S}) for row in rows(40) if row.label is S]]
    few = sample_rows(made, H, 10)
    assert len(few) == 10
    assert sum(row.label is H for row in few) == 5
    assert sample_rows(made[::-1], H, 10) == few
    assert sample_rows(made, H, None) == tuple(made)
    lopsided = [*rows(2), *[row.model_copy(update={"label": S}) for row in rows(30)]]
    assert sum(row.label is H for row in sample_rows(lopsided, H, 10)) == 1


def test_a_report_survives_a_round_trip() -> None:
    report = calibrate(Reads(), [LabelSet("clean", H, tuple(rows(6)))])
    assert CalibrationReport.model_validate_json(report.model_dump_json()) == report


def test_the_list_names_every_judge_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from unsay.cli import judges_commands
    from unsay.judges import JUDGES

    out = io.StringIO()
    monkeypatch.setattr(judges_commands, "console", Console(width=80, file=out))
    assert CliRunner().invoke(judges_commands.app, []).exit_code == 0
    assert all(name in out.getvalue() for name in JUDGES)
    assert max(map(len, out.getvalue().splitlines())) <= 80
