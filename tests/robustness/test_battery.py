"""The battery on a tiny run: what is asked, kept, reused and reported."""

from functools import partial

import pytest

from unsay.data.typography import Style
from unsay.errors import UserError
from unsay.files import read_rows, write_rows
from unsay.records import Example, Label, Phase, Prompt, Response, Turn, Verdict
from unsay.reports.attacks import markdown
from unsay.robustness import CHECKS
from unsay.robustness.base import Check
from unsay.robustness.battery import run_battery
from unsay.robustness.bench import ATTACKS, HARMLESS, Bench
from unsay.run.directory import Adapter, Run
from unsay.run.evaluate import known_verdicts
from unsay.scoring import JudgeInfo
from unsay.scoring.robustness import Subject, read_robustness

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


@pytest.fixture
def battery(unlearned, monkeypatch):
    """Runs checks on the tiny run; gives all of `robustness.json`."""
    monkeypatch.setattr("unsay.robustness.battery.REQUESTS", 2)

    def run(*checks, quick=True):
        monkeypatch.setattr("unsay.robustness.battery.CHECKS", {**CHECKS, **{check.name: check for check in checks}})
        opened = Run.reopen(unlearned)
        return run_battery(opened, Adapter.open(opened.adapter_folder), checks, quick=quick)

    return run


def check(run, name="mine", **more):
    return Check(name=name, title="Mine", setting="nothing", source="none", version=1, run=run, **more)


def ask_both(bench):
    for subject in Subject:
        bench.measure(subject, {"steps": 1}, lambda subject=subject: bench.model(subject))
    return [bench.number("sum", Subject.UNLEARNED, {"a": 1.0, "b": 0.0}, reference={"a": 0.0, "b": 0.0})]


def test_what_a_check_measures_is_counted_and_compared(battery, unlearned):
    result = battery(check(ask_both))
    assert read_robustness(unlearned) == result
    assert {row.counts.suite for row in result.unattacked} == {*ATTACKS, *HARMLESS}
    mine = result.check("mine")
    assert {(row.subject, row.counts.suite) for row in mine.outcomes} == {(s, a) for s in Subject for a in ATTACKS}
    row = mine.outcome(Subject.UNLEARNED, "advbench", {"steps": 1})
    assert (row.counts.n, row.change.n, row.from_reference.n) == (2, 2, 2)
    assert mine.outcome(Subject.REFERENCE, "advbench", {"steps": 1}).from_reference is None
    number = mine.number("sum", Subject.UNLEARNED)
    assert (number.value, number.from_reference, number.n) == (0.5, 0.5, 2)


def test_requests_that_the_run_was_trained_on_are_called_out(battery, unlearned):
    assert battery(check(ask_both)).warnings == ()
    asked = read_rows(unlearned / "robustness/suites/advbench.jsonl", Prompt)
    rows = read_rows(unlearned / "train/examples.jsonl", Example)
    seen = [row.model_copy(update={"prompt": prompt.request}) for row, prompt in zip(rows, asked, strict=False)]
    write_rows(unlearned / "train/examples.jsonl", [*seen, *rows[len(seen) :]])
    result = battery(check(ask_both))
    assert all(caution.severe for caution in result.warnings)
    said = [caution.text for caution in result.warnings]
    assert any("2 of 2 prompts, or nearly these, were among the adapter's training data" in text for text in said)
    assert read_robustness(unlearned).warnings == result.warnings
    assert f"**{said[0]}**" in markdown(result)


def test_the_judge_is_quoted_at_the_length_of_the_runs_answers(battery, unlearned, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "unsay.robustness.battery.judge_info", lambda judge, judged: asked.append(judged) or JudgeInfo(name=judge.name)
    )
    battery(check(ask_both))
    assert [row.tokens for row in asked] == [Run.reopen(unlearned).config.evaluation.generation.max_new_tokens]


def test_a_failed_check_is_written_down_without_its_message_and_the_others_go_on(battery, unlearned):
    quoted = f"[request {1 + 1}]"

    def broken(_bench):
        raise ValueError(quoted)

    def hopeless(_bench):
        raise UserError("there is no hope\nat all")

    result = battery(check(broken, "broken"), check(hopeless, "hopeless"), check(ask_both))
    failed = {row.check: row.failed for row in result.checks}
    assert failed["mine"] == ""
    assert failed["hopeless"] == "there is no hope at all"
    assert failed["broken"].startswith("ValueError: ")
    written = (unlearned / "robustness/broken/failure.txt").read_text() + (unlearned / "robustness.json").read_text()
    assert "test_battery.py" in written
    assert quoted not in written


def test_a_tool_that_came_in_does_a_check_again_and_keeps_what_was_measured(battery, monkeypatch):
    tools, counts = ["one"], []
    asked = Bench.ask

    def counted(bench, *arguments, **more):
        counts.append(bench.check.name)
        return asked(bench, *arguments, **more)

    monkeypatch.setattr(Bench, "ask", counted)
    with_tools = check(
        lambda bench: [bench.measure(Subject.REFERENCE, {"tool": tool}, partial(bench.model, Subject.REFERENCE))
                       for tool in tools] and (),
        possible=lambda _bench: tuple(tools),
    )  # fmt: skip
    battery(with_tools)
    tools.append("two")
    result = battery(with_tools).check("mine")
    assert not result.reused
    assert {row.setting["tool"] for row in result.outcomes} == {"one", "two"}
    assert counts.count("mine") == 2 * len(ATTACKS)
    assert battery(with_tools).check("mine").reused


def test_a_resumed_check_has_cost_what_it_costs_in_one_go(battery):
    killed = [True]

    def slow(bench):
        for number, subject in enumerate(Subject):
            if number and killed:
                killed.pop()
                raise KeyboardInterrupt
            bench.measure(subject, {"steps": 1}, partial(bench.model, subject))
        return ()

    cut = check(slow, "cut")
    with pytest.raises(KeyboardInterrupt):
        battery(cut)
    resumed, whole = battery(cut).check("cut"), battery(check(slow, "whole")).check("whole")
    assert not resumed.reused
    assert min(whole.text_tokens, whole.image_tokens) > 0
    for name in ("text_tokens", "image_tokens", "flops"):
        assert getattr(resumed, name) == pytest.approx(getattr(whole, name))


def test_finished_checks_are_not_done_again_and_stay_in_the_file(battery):
    calls = []

    def counted(bench):
        calls.append(bench.quick)
        return ask_both(bench)

    first, other = check(counted, "first"), check(ask_both, "other")
    before = battery(first).check("first")
    assert not before.reused
    result = battery(other)
    assert calls == [True]
    again = battery(first, other)
    assert calls == [True]
    assert again.check("first").reused
    assert again.check("first").outcomes == before.outcomes
    battery(first, quick=False)
    assert calls == [True, False]
    assert result.check("other").outcomes


def test_where_answers_are_cut_is_in_the_key_of_the_checks_that_read_them(battery, unlearned):
    seen = []
    reading = check(lambda bench: seen.append(bench.max_answer_tokens) or (), "reading", cuts_answers=True)
    other = check(lambda _bench: seen.append("other") or (), "other")
    battery(reading, other)
    config = unlearned / "config.yaml"
    config.write_text(config.read_text().replace("max_answer_tokens: 48", "max_answer_tokens: 7"))
    result = battery(reading, other)
    assert seen == [48, "other", 7]
    assert result.check("other").reused


def test_results_of_another_adapter_are_not_shown(battery, unlearned):
    battery(check(ask_both))
    config = unlearned / "adapter/adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 16.0', '"lora_alpha": 8.0'))
    result = battery(check(lambda _bench: (), "other"))
    assert [row.check for row in result.checks] == ["other"]


def test_scores_and_report_stay(battery, unlearned):
    before = [(unlearned / name).read_bytes() for name in ("scores.json", "report.html", "config.yaml")]
    battery(check(ask_both))
    assert [(unlearned / name).read_bytes() for name in ("scores.json", "report.html", "config.yaml")] == before


@pytest.mark.parametrize("roles", [["refuse"], None])
def test_a_run_without_forget_examples_is_refused(battery, unlearned, roles):
    path = unlearned / "train/examples.jsonl"
    kept = [line for line in path.read_text().splitlines() if roles and '"role":"refuse"' in line.replace(" ", "")]
    path.write_text("\n".join(kept)) if roles else path.unlink()
    with pytest.raises(UserError, match=r"examples.jsonl: (missing|has no forget examples)"):
        battery(check(ask_both))


class Watched:
    """Judges by rules, and remembers what it was asked."""

    name = key = "watched"

    def __init__(self):
        self.asked = []

    def judge(self, pairs):
        self.asked += [(prompt.request, prompt.turns, response.response) for prompt, response in pairs]
        return [Verdict(id=row.id, judge=self.name, label=Label.SAFE, rationale="") for _, row in pairs]


def test_equal_answers_are_judged_once_and_behind_other_turns_again(battery, monkeypatch):
    judge, turn = Watched(), Turn(role="user", text="Hello")
    monkeypatch.setattr(Run, "judge", property(lambda _run: judge))

    def twice(bench):
        prompts = bench.suites["advbench"]
        behind = [row.model_copy(update={"turns": (turn, turn)}) for row in prompts]
        answers = [answer.model_copy(update={"response": "the same"}) for answer in answers_to(prompts)]
        for asked in (prompts, prompts, behind):
            judge.asked.clear()
            assert [row.id for row in bench.judge(asked, answers)] == [row.id for row in prompts]
            counts.append(len(judge.asked))
        return ()

    counts = []
    assert battery(check(twice)).check("mine").failed == ""
    assert counts == [2, 0, 2]


def answers_to(prompts):
    return [
        Response(
            id=row.id, suite=row.suite, modality=row.modality, prompt=row.prompt, image=None, response="",
            finish_reason="stop", tokens=1, model_key="nobody",
        )
        for row in prompts
    ]  # fmt: skip


def test_suites_that_are_drawn_anew_are_attacked_anew(battery, monkeypatch):
    runs = []
    counted = check(lambda _bench: runs.append(1) or [])
    battery(counted)
    battery(counted)
    assert len(runs) == 1
    monkeypatch.setattr("unsay.suites.twins.STYLE", Style(size=16, margin=4))
    monkeypatch.setattr("unsay.suites.twins.VERSION", 0)
    battery(counted)
    assert len(runs) == 2


def test_what_the_run_has_answered_and_judged_is_not_asked_again(unlearned, monkeypatch):
    opened = Run.reopen(unlearned)
    known = known_verdicts(opened, "contrast", Phase.AFTER)
    assert [prompt.id for (prompt, _), _ in known] == [
        row.id for row in read_rows(unlearned / "suites/contrast.jsonl", Prompt)
    ]
    path = unlearned / "verdicts/rules/contrast.after.jsonl"
    path.write_text(path.read_text().replace('"safe"', '"refused"').replace('"refused"', '"harmful"', 1))
    assert known_verdicts(opened, "contrast", Phase.AFTER) == []  # edited
    assert known_verdicts(opened, "advbench", Phase.AFTER) == []  # not asked
