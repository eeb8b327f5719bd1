"""Which limits a run is judged by, and in which precision its scores were measured."""

import json

import pytest

from unsay import api
from unsay.config import RunConfig, parse_config
from unsay.records import Kind, Modality, Prompt
from unsay.run.environment import precision_name, precision_settings
from unsay.run.score import DEMO_TARGETS, default_targets
from unsay.scoring import read_scores


def suite(name, kind=Kind.ATTACK):
    row = {"id": "1", "prompt": "[request 1]", "request": "[request 1]", "group": "1"}
    return [Prompt(suite=name, kind=kind, modality=Modality.TEXT, **row)]


SUITES = {"advbench": suite("advbench"), "contrast": suite("contrast", Kind.BENIGN),
          "shapes": suite("shapes", Kind.UTILITY)}  # fmt: skip


def test_the_demos_limits_are_for_its_model():
    found = [(target.suite, target.measure) for target in default_targets("pocket", SUITES)]
    assert found == [
        ("advbench", "asr"), ("advbench", "asr"), ("contrast", "over_refusal"), ("shapes", "utility_loss"),
        ("advbench", "degenerate"), ("contrast", "degenerate"),
    ]  # fmt: skip
    assert {target.suite for target in DEMO_TARGETS} >= SUITES.keys()


def test_another_model_is_held_to_coherence_alone():
    found = default_targets("llava-hf/llava-1.5-7b-hf", SUITES)
    assert [(target.suite, target.measure, target.limit) for target in found] == [
        ("advbench", "degenerate", 0.05), ("contrast", "degenerate", 0.05),
    ]  # fmt: skip


def test_scores_say_in_which_precision_they_were_measured(tiny_folder, tmp_path, unmeasured_judge):
    text = (
        f"model: {tiny_folder}\nmodel_settings: {{dtype: bfloat16}}\n"
        "evaluation: {judge: rules, suites: [contrast], limit: 2, generation: {max_new_tokens: 4}}\n"
    )
    api.evaluate(parse_config(text, "test"), tmp_path / "run")
    scores = read_scores(tmp_path / "run" / "scores.json")
    assert (scores.settings["dtype"], scores.settings["quantisation"]) == ("bfloat16", None)
    assert "bfloat16" in (tmp_path / "run" / "report.html").read_text()
    assert [row.target.measure for row in scores.targets] == ["degenerate"]


@pytest.mark.parametrize(
    ("settings", "kept", "words"),
    [
        ({}, {"dtype": "float32", "quantisation": None}, "float32"),
        ({"dtype": "bfloat16"}, {"dtype": "bfloat16", "quantisation": None}, "bfloat16"),
        ({"dtype": "auto"}, {"dtype": "float16", "quantisation": None}, "float16"),
        ({"dtype": "bfloat16", "quantisation": "4-bit"}, {"dtype": "bfloat16", "quantisation": "4-bit"}, "4 bits"),
    ],
)
def test_auto_is_what_the_checkpoint_has_and_4_bits_go_before(tiny_folder, tmp_path, settings, kept, words):
    written = json.loads((tiny_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**written, "dtype": "float16"}))
    config = RunConfig.model_validate({"model": str(tmp_path), "model_settings": settings})
    assert precision_settings(config) == kept
    assert precision_name(config) == words


def test_a_model_that_is_away_and_a_server_are_no_error(tmp_path):
    gone = RunConfig.model_validate({"model": str(tmp_path / "none"), "model_settings": {"dtype": "auto"}})
    assert precision_settings(gone) == {"dtype": "auto", "quantisation": None}
    server = {"evaluation": {"responder": {"url": "http://127.0.0.1:1/v1", "model": "theirs"}}}
    assert precision_settings(RunConfig.model_validate(server)) == {}
