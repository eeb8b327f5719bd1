"""Two finished evaluations as before and after: the numbers of one run, honest names, and no pair of unlike things."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers import tiny
from tests.run.test_directory import HOLDS, tried
from unsay import api, cli
from unsay.config import RunConfig, write_config
from unsay.errors import UserError
from unsay.files import read_rows, write_json, write_rows, write_text
from unsay.records import Kind, Label, Modality, Phase, Prompt, Response, Verdict
from unsay.reports import write_report
from unsay.reports.headline import headline
from unsay.run.evaluate import Value, read_phase
from unsay.run.overlap import contamination_cautions
from unsay.run.score import score_phases
from unsay.scoring import Accuracy, Caution, CostRow, JudgeInfo, SuiteCoverage, read_scores, write_scores

BEFORE, AFTER = Phase
N = 20
KINDS = {
    "advbench": (Kind.ATTACK, Modality.TEXT),
    "advbench-typographic": (Kind.ATTACK, Modality.TYPOGRAPHIC),
    "benign": (Kind.BENIGN, Modality.TEXT),
    "shapes": (Kind.UTILITY, Modality.TEXT),
}
RIGHT = {BEFORE: 15, AFTER: 9}
HARMFUL = {"advbench": {BEFORE: 16, AFTER: 1}, "advbench-typographic": {BEFORE: 14, AFTER: 6}}
JUDGE = JudgeInfo(
    name="rules", key="k", accuracy={"accuracy": Accuracy(value=0.9, low=0.8, high=0.95, n=100, dataset="[labels]")}
)


def make_run(
    folder: Path,
    phases: dict[Phase, Phase],
    *,
    suites: tuple[str, ...] = tuple(KINDS),
    judge: JudgeInfo = JUDGE,
    colour: str = "red",
    prompt: str = "[words]",
    backwards: bool = False,
    torch: str = "2.9.0",
    settings: dict | None = None,
    about: dict | None = None,
    cautions: tuple[Caution, ...] = (),
    sent: dict[str, str] | None = None,
) -> Path:
    """A finished run; each of its phases says what the models BEFORE and AFTER say (`phases`: own → of what)."""
    rows = {}
    for suite in suites:
        kind, modality = KINDS[suite]
        drawn = f"suites/images/{suite}.png" if modality is Modality.TYPOGRAPHIC else None
        if drawn is not None:
            (folder / drawn).parent.mkdir(parents=True)
            Image.new("RGB", (9, 9), colour).save(folder / drawn)
        rows[suite] = [
            Prompt(
                id=f"{suite}-{i}", suite=suite, kind=kind, modality=modality, prompt=prompt if i == 0 else "[words]",
                request=f"[request {i}]", group=f"{kind}-{i}", image=drawn,
            )
            for i in range(N)
        ]  # fmt: skip
        if backwards:
            rows[suite].reverse()
        write_rows(folder / "suites" / f"{suite}.jsonl", rows[suite])
        for own, of in phases.items():
            said = _said(suite, rows[suite], of)
            for part, what in said.items():
                write_rows(folder / part / f"{suite}.{own.value}.jsonl", what)
    for own in phases:
        write_json(folder / f"template.{own.value}.json", {"chat_template": folder.name, **(sent or {})})
    scores = score_phases(
        rows,
        [read_phase(folder, rows, own, judge.name) for own in phases],
        judge,
        3,
        asked=[SuiteCoverage(suite=suite, title=suite, asked=N, size=N) for suite in suites],
        settings=about or {},
        cost=[CostRow(stage=f"evaluate-{own.value}", seconds=10) for own in phases],
        cautions=cautions,
    )
    write_scores(folder / "scores.json", scores)
    config = RunConfig.model_validate(
        {"model": "org/model", "evaluation": {"judge": "rules"}, "seed": 3, **(settings or {})}
    )
    write_config(folder / "config.yaml", config)
    write_json(folder / "environment.json", {"unsay": "0.1.0", "libraries": {"torch": torch}})
    return folder


def _said(suite: str, rows: list[Prompt], phase: Phase) -> dict[str, list]:
    number = {row.id: int(row.id.rpartition("-")[2]) for row in rows}
    responses = [
        Response(
            id=row.id, suite=suite, modality=row.modality, prompt=row.prompt, image=row.image,
            response=f"[answer {phase.value}]", finish_reason="stop", tokens=3, model_key="k",
        )
        for row in rows
    ]  # fmt: skip
    if suite == "shapes":
        values = [Value(id=row.id, value=float(number[row.id] < RIGHT[phase])) for row in rows]
        return {"responses": responses, "values": values}
    bad = HARMFUL.get(suite, {BEFORE: 0, AFTER: 0})[phase]
    good = Label.SAFE if suite == "benign" else Label.REFUSED
    labels = {row.id: Label.HARMFUL if number[row.id] < bad else good for row in rows}
    verdicts = [Verdict(id=row.id, judge="rules", label=labels[row.id], rationale="") for row in rows]
    return {"responses": responses, "verdicts/rules": verdicts}


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return make_run(tmp_path / "one", {BEFORE: BEFORE})


def other(tmp_path: Path, **more) -> Path:
    return make_run(tmp_path / "other", {BEFORE: AFTER}, **more)


def test_two_evaluations_come_to_the_numbers_of_one_run_that_asked_both(one, tmp_path):
    """Whatever the order of the rows."""
    both = read_scores(make_run(tmp_path / "both", {BEFORE: BEFORE, AFTER: AFTER}) / "scores.json")
    found = api.compare(one, other(tmp_path, backwards=True), tmp_path / "out")
    assert both.changes
    assert both.utility_changes
    assert [row.transfer for row in both.transfer] == [pytest.approx(8 / 15)]
    for part in ("rows", "parts", "changes", "utility", "utility_changes", "transfer", "asked", "judge", "warnings"):
        assert getattr(found, part) == getattr(both, part), part
    assert read_scores(tmp_path / "out" / "scores.json") == found
    assert found.targets == ()
    assert [(row.stage, row.seconds, row.reused) for row in found.cost] == [
        ("evaluate-before", 10, True), ("evaluate-after", 10, True),
    ]  # fmt: skip
    assert found.settings["chat_template"] == "one, then other"


def test_the_report_names_both_and_says_nothing_of_training(one, tmp_path):
    found = api.compare(one, other(tmp_path, settings=served()), tmp_path / "out")
    assert found.settings["after"] == {
        "name": "served", "run": str(tmp_path / "other"), "phase": "before", "model": "served",
        "server": "http://localhost:1/v1", "seed": 3,
    }  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert "From org/model to served, harmful answers fell from 80% to 5.0% on text attacks" in page
    assert "Nothing here says that one was made from the other" in page
    assert not any(word in page for word in ("fter unlearning", "efore unlearning", 'id="training"', 'id="targets"'))
    assert "[answer before]" in page  # samples, side by side
    assert "[answer after]" in page
    assert "data:image/" in page
    write_report(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text() == page


def test_little_to_lower_is_said_of_the_first(tmp_path):
    first = make_run(tmp_path / "first", {BEFORE: AFTER}, suites=("advbench",))
    second = make_run(tmp_path / "second", {BEFORE: BEFORE}, suites=("advbench",))
    said = [finding.text for finding in headline(api.compare(first, second, tmp_path / "out")).findings]
    assert (
        f"org/model ({first}) already complied with only 5.0% of text attacks: there was little to lower there." in said
    )


def test_alike_names_are_told_apart_by_their_runs(one, tmp_path):
    second = other(tmp_path)
    settings = api.compare(one, second, tmp_path / "out").settings
    assert [settings[phase]["name"] for phase in Phase] == [f"org/model ({one})", f"org/model ({second})"]


def test_a_phase_is_named_after_a_colon_and_the_last_is_taken_else(one, tmp_path):
    trained = make_run(tmp_path / "trained", {BEFORE: BEFORE, AFTER: AFTER}, about={"method": "npo"})
    adapted = make_run(
        tmp_path / "adapted", {BEFORE: BEFORE, AFTER: AFTER}, about={"adapter": "/far/away/lora/adapter"}
    )
    settings = api.compare(trained, adapted, tmp_path / "last").settings
    assert [settings[phase]["name"] for phase in Phase] == ["org/model after npo", "org/model with lora/adapter"]
    assert [settings[phase]["phase"] for phase in Phase] == ["after", "after"]
    within = api.compare(f"{trained}:before", f"{trained}:after", tmp_path / "within")
    assert [within.settings[phase]["name"] for phase in Phase] == ["org/model", "org/model after npo"]
    assert within.changes == read_scores(trained / "scores.json").changes
    with pytest.raises(UserError, match="its phase 'after' is given twice"):
        api.compare(trained, f"{trained}:after", tmp_path / "out")
    with pytest.raises(UserError, match="has no phase 'after', only 'before'"):
        api.compare(f"{one}:after", trained, tmp_path / "out")


ROWS = "of 20 items differ"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "[other words]"}, rf"'advbench' \(1 {ROWS}\); 'advbench-typographic' \(1 {ROWS}\)"),
        ({"colour": "blue"}, rf"not asked the same: 'advbench-typographic' \(20 {ROWS}\); --common leaves them out"),
        ({"suites": ("advbench", "shapes")}, r"'benign' \(not asked in .*other, before\); --common"),
        ({"judge": JUDGE.model_copy(update={"key": "l"})}, "their judges differ, 'rules' with other settings"),
        (
            {"settings": {"evaluation": {"judge": "rules", "generation": {"max_new_tokens": 9, "system": "[system]"}}}},
            "their generation settings differ in max_new_tokens, system; evaluate",
        ),
    ],
)
def test_what_was_not_asked_alike_is_refused_and_nothing_is_written(one, tmp_path, change, said):
    with pytest.raises(UserError, match=said) as found:
        api.compare(one, other(tmp_path, **change), tmp_path / "out")
    assert "[" not in str(found.value)  # no prompt is told
    assert not (tmp_path / "out").exists()


def test_the_packaged_judge_is_the_same_under_its_key_of_an_earlier_version(one, tmp_path, monkeypatch):
    second = other(tmp_path, judge=JUDGE.model_copy(update={"key": "earlier"}))
    monkeypatch.setattr("unsay.run.compare.EARLIER_JUDGES", {"earlier": JUDGE.key})
    assert api.compare(one, second, tmp_path / "out").changes


def test_a_batch_of_another_size_asks_the_same(one, tmp_path):
    settings = {"evaluation": {"judge": "rules", "generation": {"batch_tokens": 9}}}
    assert api.compare(one, other(tmp_path, settings=settings), tmp_path / "out").changes


def test_pictures_of_another_machine_are_known_by_name(one, tmp_path):
    second = other(tmp_path, colour="blue")
    (second / "suites/images/advbench-typographic.png").unlink()
    assert api.compare(one, second, tmp_path / "out").transfer


def test_common_suites_alone_are_compared_where_that_is_asked_for(one, tmp_path):
    found = api.compare(
        one, other(tmp_path, suites=("advbench", "shapes"), torch="2.8.0"), tmp_path / "out", common=True
    )
    assert {row.suite for row in (*found.rows, *found.utility, *found.asked)} == {"advbench", "shapes"}
    (severe,) = [caution.text for caution in found.warnings if caution.severe]
    assert "'advbench-typographic' (not asked in" in severe
    assert "'benign' (not asked in" in severe
    assert any("different versions" in row.text and "torch 2.9.0 and 2.8.0" in row.text for row in found.warnings)
    third = make_run(tmp_path / "third", {BEFORE: AFTER}, suites=("benign",))
    with pytest.raises(UserError, match="were not asked the same") as told:
        api.compare(tmp_path / "other", third, tmp_path / "none", common=True)
    assert "--common" not in str(told.value)


LEARNED = Caution(text="Learned by heart.", severe=True, phase=AFTER)
SEEN = Caution(text="The vision side is another.", phase=AFTER)
COUNTED = Caution(text="Few were asked.")


def test_what_a_run_was_cautioned_of_is_said_of_its_side(one, tmp_path):
    """Beside the numbers, which say again themselves what they call for; and of the model that it tells of alone."""
    about = {"method": "npo"}
    trained = make_run(
        tmp_path / "trained", {BEFORE: BEFORE, AFTER: AFTER}, about=about, cautions=(LEARNED, SEEN, COUNTED)
    )
    found = api.compare(trained, one, tmp_path / "out")
    # Of what was trained, which is the first of the two here.
    carried = [row for row in found.warnings if row.phase is not None]
    assert [(row.text, row.severe, row.phase) for row in carried] == [
        ("org/model after npo: Learned by heart.", True, BEFORE),
        ("org/model after npo: The vision side is another.", False, BEFORE),
    ]
    assert found.warnings[0] == carried[0]  # what is severe comes first
    assert not any("Few were asked" in row.text for row in found.warnings)
    assert "org/model after npo: Learned by heart." in (tmp_path / "out" / "report.html").read_text()
    untrained = api.compare(f"{trained}:before", one, tmp_path / "untrained")
    assert not any(row.text.endswith((LEARNED.text, SEEN.text)) for row in untrained.warnings)


def test_what_an_adapter_had_learned_is_said_once(tmp_path):
    """Whether its run still lies where it was or not."""
    rows = [row.model_copy(update={"prompt": f"[request {i}]"}) for i, row in enumerate(tiny.examples(2))]
    write_rows(tmp_path / "lora" / "train" / "examples.jsonl", rows)
    first = make_run(tmp_path / "first", {BEFORE: BEFORE}, suites=("advbench",))
    asked = {"advbench": read_rows(first / "suites" / "advbench.jsonl", Prompt)}
    (known,) = [
        row.model_copy(update={"phase": AFTER}) for row in contamination_cautions(tmp_path / "lora" / "adapter", asked)
    ]
    for place in (tmp_path / "lora", tmp_path / "gone"):
        about = {"adapter": str(place / "adapter")}
        second = make_run(
            tmp_path / f"of-{place.name}", {BEFORE: BEFORE, AFTER: AFTER}, suites=("advbench",), about=about,
            cautions=(known,),
        )  # fmt: skip
        warnings = api.compare(first, second, tmp_path / f"with-{place.name}").warnings
        assert [row for row in warnings if known.text in row.text] == [
            known.model_copy(update={"text": f"org/model with {place.name}/adapter: {known.text}"})
        ]


def test_cautions_that_numbers_call_for_are_written_as_ever():
    assert COUNTED.model_dump(mode="json") == {"text": COUNTED.text, "severe": False}
    assert Caution.model_validate(LEARNED.model_dump(mode="json")) == LEARNED


def served(**more) -> dict:
    responder = {"url": "http://localhost:1/v1", "model": "served"} | more
    return {"evaluation": {"judge": "rules", "responder": responder}}


def test_servers_that_were_asked_with_other_extras_are_told_apart_by_them(tmp_path):
    secret = {"thinking": False, "api_key": "[secret]", "tools": [{"authorization": "[secret]"}]}
    first = make_run(tmp_path / "first", {BEFORE: BEFORE}, settings=served())
    second = make_run(tmp_path / "second", {BEFORE: AFTER}, settings=served(extra=secret))
    settings = api.compare(first, second, tmp_path / "out").settings
    assert "extra" not in settings["before"]
    assert settings["after"]["extra"] == {
        "thinking": False, "api_key": "(hidden)", "tools": [{"authorization": "(hidden)"}],
    }  # fmt: skip
    assert not any("[secret]" in path.read_text() for path in (tmp_path / "out").glob("*.*"))


def test_the_server_that_drew_its_answers_is_named(tmp_path):
    kept = {"answers.temperature": "left to the server"}
    first = make_run(tmp_path / "first", {BEFORE: BEFORE}, settings=served(model="one"))
    second = make_run(tmp_path / "second", {BEFORE: AFTER}, settings=served(model="two"), sent=kept)
    found = api.compare(first, second, tmp_path / "out")
    (said,) = [row.text for row in found.warnings if "takes no temperature" in row.text]
    assert said.startswith("two: The server that answered takes no temperature")
    assert "answers.temperature" not in found.settings.keys() | found.settings["before"].keys()
    assert found.settings["after"]["answers.temperature"] == "left to the server"
    third = make_run(tmp_path / "third", {BEFORE: BEFORE}, settings=served(model="three"), sent=kept)
    both = api.compare(third, second, tmp_path / "both")
    assert both.settings["answers.temperature"] == "left to the server"
    assert [row.text[:6] for row in both.warnings if "takes no temperature" in row.text] == ["three:", "two: T"]


def test_what_was_read_is_others_again_before_anything_is_scored(one, tmp_path, monkeypatch):
    second, seen = other(tmp_path), {}

    def scored(*args, **more):
        seen.update({name: tried(tmp_path / name) for name in ("one", "other", "out")})
        return score_phases(*args, **more)

    monkeypatch.setattr("unsay.run.compare.score_phases", scored)
    api.compare(one, second, tmp_path / "out")
    assert seen == {"one": "taken", "other": "taken", "out": "refused"}


def test_a_run_that_is_being_written_is_refused(one, tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.run.directory.READ_TIMEOUT", 0)
    second = other(tmp_path)
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(second / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"other: another unsay process is using it; wait for it$"):
            api.compare(one, second, tmp_path / "out")
    finally:
        writer.kill()
        writer.wait()
    assert api.compare(one, second, tmp_path / "out").changes


def test_a_run_is_not_written_over(one, tmp_path):
    second = other(tmp_path)
    study = tmp_path / "study"
    write_text(study / "study.yaml", "title: x")
    with pytest.raises(UserError, match="holds a study, whose scores would be lost; choose another --out"):
        api.compare(one, second, study)
    for out in (one, second):
        with pytest.raises(UserError, match="holds a run, whose scores would be lost; choose another --out"):
            api.compare(one, second, out)
    assert len(read_rows(one / "verdicts/rules/advbench.before.jsonl", Verdict)) == N


def test_the_command_ends_with_the_table(one, tmp_path):
    done = CliRunner().invoke(cli.app, ["compare", str(one), str(other(tmp_path)), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    for words in ("before: org/model", "after:  org/model", "80.0%", "* changed, p < 0.05", "report.html"):
        assert words in done.output
