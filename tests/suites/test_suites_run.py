"""Suites of every sort through a whole run of a tiny model: likelihood, conversations, conditions, grades, imports."""

import json
from types import SimpleNamespace

import pytest
import torch

from helpers import published
from unsay import api
from unsay.config import parse_config
from unsay.endpoint import EndpointError
from unsay.errors import UserError
from unsay.files import read_json, read_rows
from unsay.generation import GenerationSettings
from unsay.generation.responses import generate
from unsay.records import Condition, Kind, Modality, Prompt, Response, Turn
from unsay.reports import write_report
from unsay.reports.imports import import_results, imported, read_results
from unsay.run.evaluate import Value, grade_answers
from unsay.run.suites import select_suites
from unsay.suites import SUITES
from unsay.training.likelihood import choice_scores


@pytest.fixture(autouse=True)
def _quiet(unmeasured_judge, monkeypatch, tmp_path):
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()


def prompt(number, **more):
    about = {"prompt": "Say one.", "request": "Say one.", "group": str(number), **more}
    return Prompt(id=str(number), suite="s", kind=Kind.UTILITY, modality=Modality.TEXT, **about)


def test_choice_scores_are_sums_over_the_choices_own_tokens(any_vlm):
    rows = [prompt(0, choices=("A", "two words"), reference="A"), prompt(1, choices=("B",), prompt="Say two, please.")]
    scores, tokens = choice_scores(any_vlm, rows)
    assert [len(row) for row in scores] == [2, 1]
    assert tokens > 0
    ids = any_vlm.encode_prompt("Say one.")
    answer = any_vlm.tokenizer("two words", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = any_vlm.model(input_ids=torch.tensor([ids + answer])).logits[0].float().log_softmax(-1)
    by_hand = sum(logits[len(ids) - 1 + place, token].item() for place, token in enumerate(answer))
    assert scores[0][1] == pytest.approx(by_hand, abs=1e-3)


def test_a_conversation_and_a_system_prompt_reach_the_model(tiny_vlm):
    turns = (Turn(role="user", text="[first]"), Turn(role="assistant", text="[answer]"))
    said = tiny_vlm.render("[second]", system="[system]", turns=turns)
    places = [said.index(text) for text in ("[system]", "[first]", "[answer]", "[second]")]
    assert places == sorted(places)
    settings = GenerationSettings(max_new_tokens=4)
    plain = prompt(0, prompt="Hello")
    spoken = prompt(1, prompt="Hello", system="Be brief.", turns=turns)
    found = {row.id: row for rows in generate(tiny_vlm, [plain, spoken], settings) for row in rows}
    assert found["1"].prompt_tokens > found["0"].prompt_tokens


def test_other_words_before_a_prompt_are_another_answer_in_the_cache(tmp_path):
    from unsay.generation.responses import ResponseCache

    cache = ResponseCache(tmp_path / "cache.jsonl")
    row = prompt(0)
    said = Response(
        id="0", suite="s", modality=Modality.TEXT, prompt=row.prompt, image=None, response="[a]", finish_reason="stop",
        tokens=1, model_key="k",
    )  # fmt: skip
    cache.add([(row, said)])
    assert cache.get(row, "k") is not None
    assert cache.get(row.model_copy(update={"system": "Be brief."}), "k") is None
    assert cache.get(row.model_copy(update={"turns": (Turn(role="user", text="Hi"),)}), "k") is None


def settings_of(folder, *suites):
    return parse_config(
        f"model: {folder}\nevaluation: {{judge: rules, suites: [{', '.join(suites)}], limit: 4, "
        "generation: {max_new_tokens: 4, system: Be brief.}}\n",
        "test",
    )


def test_suites_of_every_sort_in_one_run(tiny_folder, tmp_path):
    for make in (published.mmlu, published.mme, published.jailbreakv, published.vqav2, published.in_the_wild):
        make(tmp_path / "data")
    names = ("mmlu", "mme", "vqav2", "jailbreakv-28k", "in-the-wild-system", "contrast", "contrast+blank")
    scores = api.evaluate(settings_of(tiny_folder, *names), tmp_path / "run")
    utility = {row.suite: row for row in scores.utility}
    assert set(utility) == {"mmlu", "mme", "vqav2"}
    assert (utility["mme"].unit, utility["mme"].n, utility["mme"].unique) == ("points of 2,800", 4, 2)
    assert set(utility["mme"].parts) > {"perception", "cognition"}
    assert len(utility["mme"].parts) == 4  # and the two subtasks of two pictures
    assert {row.suite: (row.asked, row.size, row.limit) for row in scores.asked}["mmlu"] == (4, 14_042, 4)
    assert scores.left_out == {}
    assert 0 <= utility["mmlu"].value <= 1
    rows = {row.suite: row for row in scores.rows}
    assert rows["contrast+blank"].condition is Condition.BLANK
    assert rows["contrast"].condition is Condition.NO_IMAGE
    assert {part.by for part in scores.parts if part.suite == "jailbreakv-28k"} >= {"image type"}
    assert scores.settings["generation"]["system"] == "Be brief."
    assert len(scores.settings["chat_template"]) == 16
    assert scores.settings["transformers"] == read_json(tmp_path / "run/environment.json")["libraries"]["transformers"]
    page = (tmp_path / "run/report.html").read_text()
    assert "Suite by suite" in page
    assert "blank image" in page


def test_an_edited_benchmark_file_is_read_again(tiny_folder, tmp_path):
    published.oktest(tmp_path / "data")
    first = api.evaluate(settings_of(tiny_folder, "oktest"), tmp_path / "run")
    published.table(tmp_path / "data/oktest/OKTest.csv", "prompt", ("[request 9]\n",))
    second = api.evaluate(settings_of(tiny_folder, "oktest"), tmp_path / "run")
    assert (first.rows[0].n, second.rows[0].n) == (2, 1)


def test_an_edit_deep_in_a_folder_of_a_benchmark_is_seen(tiny_folder, tmp_path):
    published.mme(tmp_path / "data")
    api.evaluate(settings_of(tiny_folder, "mme"), tmp_path / "run")
    for path in (tmp_path / "data").rglob("*.txt"):
        path.write_text(path.read_text().replace("[question", "[Question"))  # as long as before
    api.evaluate(settings_of(tiny_folder, "mme"), tmp_path / "run")
    assert all("[Question" in row.prompt for row in read_rows(tmp_path / "run/suites/mme.jsonl", Prompt))


def test_what_cannot_be_here_is_named_in_the_scores(tiny_folder, tmp_path):
    scores = api.evaluate(settings_of(tiny_folder), tmp_path / "run")
    assert set(scores.left_out) == {"figstep-original", "xstest-safe"}
    assert "github.com" in scores.left_out["xstest-safe"]
    assert any(caution.text.startswith("Not asked") for caution in scores.warnings)
    page = (tmp_path / "run/report.html").read_text()
    assert "4 of 255" in page


def test_harm_that_the_judge_cannot_see_is_said_in_red(tiny_folder, tmp_path):
    published.siuo(tmp_path / "data")
    scores = api.evaluate(settings_of(tiny_folder, "siuo"), tmp_path / "run")
    assert any(caution.severe and "sees no pictures, and in SIUO" in caution.text for caution in scores.warnings)


def test_all_available_is_what_is_here(tmp_path):
    before = {suite.name for suite in select_suites(["all-available"], "rules")}
    published.mm_vet(tmp_path / "data")
    published.oktest(tmp_path / "data")
    assert {suite.name for suite in select_suites(["all-available"], "rules")} - before == {"oktest"}
    assert {suite.name for suite in select_suites(["all-available"], "endpoint")} - before == {"oktest", "mm-vet"}
    with pytest.raises(UserError, match=r"evaluation\.judge: endpoint"):
        select_suites(["mm-vet"], "rules")


def test_a_judge_model_that_fails_gives_no_grade():
    cut = 'The form is {"correctness": 1.0}, and'
    replies = iter(['{"correctness": 1.0}', "nonsense", RuntimeError("500"), '{"correctness": 3}', cut])
    down = None

    class Client:
        def begin(self):
            """A new round."""

        def trouble(self):
            return down

        def complete(self, messages, **_):
            assert "Reference answer: x" in messages[0]["content"]
            reply = next(replies)
            if isinstance(reply, Exception):
                raise reply
            return SimpleNamespace(text=reply, finish_reason="length" if reply is cut else "stop")

    said = Response(
        id="0", suite="s", modality=Modality.IMAGE, prompt="p", image=None, response="[a]", finish_reason="stop",
        tokens=1, model_key="k",
    )  # fmt: skip
    pairs = [(prompt(number, reference="x"), said) for number in range(5)]
    judge = SimpleNamespace(name="endpoint", client=Client())
    found = grade_answers(judge, SUITES["mm-vet"].grade, pairs)
    assert found == [Value(id="0", value=1.0), *(Value(id=str(number), value=None) for number in (1, 2, 3, 4))]
    replies, down = iter([RuntimeError("401")] * 4), EndpointError("HTTP 401: check the key")
    with pytest.raises(UserError, match=r"judge 'endpoint': HTTP 401: check the key\. Then run the same command again"):
        grade_answers(judge, SUITES["mm-vet"].grade, pairs)
    with pytest.raises(UserError, match="cannot grade"):
        grade_answers(SimpleNamespace(name="rules"), SUITES["mm-vet"].grade, pairs)


LM_EVAL = {
    "results": {
        "truthfulqa_mc2": {"alias": "truthfulqa_mc2", "acc,none": 0.41, "acc_stderr,none": 0.014},
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 12.5, "word_perplexity_stderr,none": "N/A"},
    },
    "group_subtasks": {}, "configs": {"truthfulqa_mc2": {"task": "truthfulqa_mc2"}}, "versions": {"wikitext": 2.0},
    "n-shot": {"truthfulqa_mc2": 0}, "higher_is_better": {"truthfulqa_mc2": {"acc": True}},
    "n-samples": {"truthfulqa_mc2": {"original": 817, "effective": 64}},
    "config": {"model": "hf", "model_args": "pretrained=x,peft=adapter", "batch_size": "8"},
    "git_hash": "abc", "date": 1790000000.0, "lm_eval_version": "0.4.9", "model_name": "x",
}  # fmt: skip
LMMS_EVAL = {
    "results": {
        "mme": {
            "alias": "mme", "mme_perception_score,none": 1510.7, "mme_perception_score_stderr,none": "N/A",
            "mme_perception_score_stderr_clustered,none": "N/A",
        },
    },
    "higher_is_better": {"mme": {"mme_perception_score": True}},
    "n-samples": {"mme": {"original": 2374, "effective": 2374}},
    "n-shot": {"mme": 0}, "lmms_eval_version": "0.7.2", "model_name": "llava",
}  # fmt: skip


def test_results_of_other_harnesses_are_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(LM_EVAL))
    (tmp_path / "b.json").write_text(json.dumps(LMMS_EVAL))
    rows = {(row.task, row.metric): row for row in read_results(tmp_path / "a.json")}
    accuracy = rows["truthfulqa_mc2", "acc"]
    assert (accuracy.value, accuracy.stderr, accuracy.n, accuracy.shots, accuracy.higher_is_better) == (
        0.41,
        0.014,
        64,
        0,
        True,
    )
    assert (accuracy.harness, accuracy.model) == ("lm-eval 0.4.9", "x")
    assert rows["wikitext", "word_perplexity"].stderr is None
    assert [(row.metric, row.value) for row in read_results(tmp_path / "b.json")] == [("mme_perception_score", 1510.7)]


def test_an_import_is_in_the_report_once(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "scores.json").write_text('{"judge": {"name": "rules"}}')
    (tmp_path / "a.json").write_text(json.dumps(LM_EVAL))
    for _ in range(2):
        assert import_results(run, tmp_path / "a.json") == 2
    assert len(imported(run)) == 2
    page = write_report(run).read_text()
    assert "Other harnesses" in page
    assert page.count("truthfulqa_mc2") == 1


@pytest.mark.parametrize("content", ["[]", "{}", '{"results": {"a": {"alias": "a"}}}', '{"results": 3}', "{"])
def test_what_is_no_results_file_is_one_line(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json"):
        read_results(tmp_path / "a.json")


def test_values_are_kept_with_what_failed(tmp_path):
    (tmp_path / "v.jsonl").write_text('{"id": "a", "value": null}\n{"id": "b", "value": 0.5}\n')
    assert [row.weight for row in read_rows(tmp_path / "v.jsonl", Value)] == [1.0, 1.0]


def test_the_list_of_suites_fits_80_columns(monkeypatch, capsys):
    import sys

    from unsay import cli

    monkeypatch.setattr(sys, "argv", ["unsay", "suites"])
    monkeypatch.setattr(cli.console, "width", 80)
    with pytest.raises(SystemExit):
        cli.main()
    table, _, rest = capsys.readouterr().out.partition("can be run here")
    assert all(len(line.rstrip()) <= 80 for line in table.split("\n"))
    assert all(name in table for name in SUITES)  # no name is cut
    assert "vlguard-safe: vlguard/test.json: gated: accept the terms" in rest
