"""Settings: refused by name when unknown, whole when written, commented when started from."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from unsay.cli.starting_config import FOLLOWS, starting_config
from unsay.config import RunConfig, parse_config, read_config, write_config
from unsay.errors import UserError
from unsay.files import parse_yaml
from unsay.methods import METHODS, default_settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle: pocket", "modle: unknown key"),
        ("train: {lora: {rnak: 3}}", "train.lora.rnak: unknown key"),
        ("evaluation: {generation: {top_p: 1}}", "evaluation.generation.top_p: unknown key"),
        ("method_settings: {forget_weigth: 1}", "method textual-unlearning: forget_weigth: unknown key"),
        ("method: magic", "method: unknown 'magic'; known are textual-unlearning"),
        ("seed: many", "seed: Input should be a valid integer"),
        ("train: {steps: 0}", "train.steps: "),
        ("train:\n  steps: [1\nseed: 2", ":3: not YAML"),
        ("seed: 'open", "not YAML"),
        ("data: {}\nseed: 1\ndata: {}", ":3: not YAML: 'data' appears twice"),
        ("train: {steps: 3, steps: 4}", "not YAML: 'steps' appears twice"),
        ("train: {<<: {steps: 3}, <<: {steps: 4}}", "not YAML: '<<' appears twice"),
        ("- a\n- b", "lines, not a list"),
        ("just words", "lines, not a str"),
        ("1: 2", "1: unknown key"),
        ("when: 2020-13-45", "not readable YAML"),
        ("a: &x [*x]", "unknown key"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("seed: 1\ntrain: {seed: 2}", "train.seed differs from seed"),
    ],
)
def test_bad_settings_are_named(text, said):
    with pytest.raises(UserError) as found:
        parse_config(text, "my.yaml")
    assert str(found.value).startswith("my.yaml")
    assert said in str(found.value)
    assert "\n" not in str(found.value)


@given(st.text())
def test_any_text_is_settings_or_one_line(text):
    try:
        parse_config(text, "my.yaml")
    except UserError as error:
        assert str(error).startswith("my.yaml")


def test_an_empty_file_is_the_defaults():
    assert parse_config("", "my.yaml") == RunConfig() == parse_config("# nothing\n", "my.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        read_config(tmp_path / "none.yaml")


def test_training_follows_the_one_seed():
    assert RunConfig(seed=3).train.seed == 3
    assert parse_config("seed: 4\ntrain: {seed: 4}", "x").train.seed == 4


def test_what_is_written_is_resolved_and_reads_back(tmp_path):
    config = RunConfig(seed=5, method="refusal-sft", method_settings={"refuse_weight": 2})
    write_config(tmp_path / "config.yaml", config)
    assert read_config(tmp_path / "config.yaml") == config
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written["method_settings"] == {**default_settings("refusal-sft").model_dump(), "refuse_weight": 2.0}


def test_a_path_in_a_config_is_relative_to_it(tmp_path):
    (tmp_path / "my.yaml").write_text("data: {examples: rows/mine.jsonl}")
    assert read_config(tmp_path / "my.yaml").data.examples == tmp_path.resolve() / "rows" / "mine.jsonl"
    (tmp_path / "my.yaml").write_text("data: {examples: /rows/mine.jsonl}")
    assert str(read_config(tmp_path / "my.yaml").data.examples) == "/rows/mine.jsonl"


def test_a_seed_that_some_generator_would_refuse_is_refused_at_once():
    """NumPy takes none below 0 and PyTorch none above 2^64: a run must not find that out at its end."""
    for seed in (-1, 2**64):
        with pytest.raises(UserError, match="seed"):
            parse_config(f"seed: {seed}", "my.yaml")


def test_the_starting_config_is_the_defaults():
    assert parse_config(starting_config(), "unsay.yaml") == RunConfig()


def described(settings, path=""):
    for name, field in type(settings).model_fields.items():
        full = f"{path}{name}"
        if full in FOLLOWS:
            continue
        yield full, field.description
        if isinstance(getattr(settings, name), BaseModel):
            yield from described(getattr(settings, name), f"{full}.")


def test_the_starting_config_shows_every_setting_and_says_what_is_known_of_it():
    text = starting_config()
    words = " ".join(text.replace("#", " ").split())
    found = list(described(RunConfig())) + list(described(default_settings("textual-unlearning")))
    assert len(found) > 40
    for name, description in found:
        assert f"{name.rsplit('.', 1)[-1]}:" in text, name
        if description is not None and name != "method_settings":
            assert " ".join(description.split()) in words, name
    trained = {f"train.{name}" for name, value in RunConfig().train if not isinstance(value, BaseModel)}
    assert trained - {name for name, description in found if description} == FOLLOWS
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_starting_config_works_for_the_other_methods_too():
    """Whoever changes the method is told which of its settings do not fit, and by leaving them out gets defaults."""
    values = yaml.safe_load(starting_config())
    with pytest.raises(UserError, match="method refusal-sft: forget_"):
        parse_config(yaml.safe_dump({**values, "method": "refusal-sft"}), "x")
    del values["method_settings"]
    for method in METHODS:
        config = parse_config(yaml.safe_dump({**values, "method": method}), "x")
        assert config.method_settings == default_settings(method).model_dump(mode="json")


def test_sections_may_be_merged_into_others():
    text = "x: {<<: &b {a: 1}, a: 2}\ny: {inner: &m {<<: *b, a: 3}}\nz: {<<: *m}"
    assert parse_yaml(text, "test") == {"x": {"a": 2}, "y": {"inner": {"a": 3}}, "z": {"a": 3}}
