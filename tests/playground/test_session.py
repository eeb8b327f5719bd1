"""What a playground loads for a run."""

from pathlib import Path

import pytest

from helpers import tiny
from unsay.config import RunConfig, write_config
from unsay.models import load, model_key
from unsay.models.lora import LoraSettings, attach
from unsay.playground.session import PlaySettings, of_run


def test_a_judge_that_reads_with_the_original_gets_it_without_the_adapter(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save_trained(attach(load(str(tiny_folder)), LoraSettings(), 0), tmp_path)
    evaluation = {"judge": "probe", "judge_settings": {"reader": "original"}}
    write_config(tmp_path / "config.yaml", RunConfig(model=str(tiny_folder), evaluation=evaluation))
    monkeypatch.setattr("unsay.playground.session._packaged_examples", list)
    monkeypatch.setattr("unsay.judges.original_reader.original_probe", lambda original: original)
    original = of_run(tmp_path, PlaySettings()).load_judge()
    assert original.key == model_key(str(tiny_folder))
    assert original.open().adapter_key is None
