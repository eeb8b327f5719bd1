"""The precision that a machine is fast in is measured, and stands in what a run writes."""

import time

import pytest
import torch

from unsay.config import RunConfig, read_config
from unsay.models import ModelSettings, precision, resolved
from unsay.run.directory import Run, earlier_precision

FASTEST = ModelSettings(dtype="fastest")


@pytest.fixture(autouse=True)
def fresh():
    precision._fastest.cache_clear()
    yield
    precision._fastest.cache_clear()


@pytest.mark.parametrize(("slow", "expected"), [(torch.float32, "bfloat16"), (torch.bfloat16, "float32")])
def test_the_faster_precision_is_taken(monkeypatch, slow, expected):
    monkeypatch.setattr(precision, "linear", lambda x, _weight: time.sleep(0.01 if x.dtype is slow else 0.001))
    assert resolved(FASTEST, "cpu").dtype == expected


def test_a_gain_that_is_not_worth_its_rounding_is_not_taken(monkeypatch):
    monkeypatch.setattr(
        precision, "linear", lambda x, _weight: time.sleep(0.012 if x.dtype is torch.float32 else 0.010)
    )
    assert resolved(FASTEST, "cpu").dtype == "float32"


def test_other_choices_and_other_devices_are_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "linear", None)
    assert resolved(ModelSettings(dtype="auto"), "cpu").dtype == "auto"
    assert resolved(FASTEST, "mps").dtype == "float32"


@pytest.mark.parametrize("found", ["float32", "bfloat16"])
def test_a_run_is_keyed_and_written_with_what_was_found(monkeypatch, tmp_path, found):
    monkeypatch.setattr(precision, "_fastest", lambda kind: found)
    run = Run.open(tmp_path, RunConfig(model_settings=FASTEST))
    assert read_config(tmp_path / "config.yaml").model_settings.dtype == found
    assert run.config.model_settings == ModelSettings(dtype=found)


def test_a_run_goes_on_in_the_precision_that_it_began_in(monkeypatch, tmp_path):
    """Whatever a busy or another machine measures now; another model or kind of device is settled anew."""
    found = iter(["bfloat16", "float32", "float32"])
    monkeypatch.setattr(precision, "_fastest", lambda kind: next(found))
    asked = RunConfig(model_settings=FASTEST)
    other = asked.model_copy(update={"model": "other"})
    said = [Run.open(tmp_path, config).config.model_settings.dtype for config in (asked, asked, other)]
    assert said == ["bfloat16", "bfloat16", "float32"]
    assert earlier_precision(tmp_path, asked) is not None
    assert earlier_precision(tmp_path, asked.model_copy(update={"device": "cuda:1"})) is None
