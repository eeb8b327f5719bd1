"""What `auto` comes to is what transformers makes of the same checkpoint, also where its configuration is silent."""

import json

import pytest
import torch
from safetensors.torch import save_file

from unsay.config import RunConfig
from unsay.models.loading import stored_precision
from unsay.models.precision import precision_of_weights
from unsay.planning import plan

WEIGHTS = {"a.count": torch.zeros(2, dtype=torch.int64), "b.weight": torch.zeros(2, dtype=torch.float16)}


def without_dtype(entry):
    if not isinstance(entry, dict):
        return entry
    return {key: without_dtype(value) for key, value in entry.items() if key not in ("dtype", "torch_dtype")}


@pytest.fixture
def silent(tiny_folder, tmp_path):
    """A checkpoint whose configuration says nothing of its precision; no weights yet."""
    written = without_dtype(json.loads((tiny_folder / "config.json").read_text()))
    (tmp_path / "config.json").write_text(json.dumps(written))
    return tmp_path


def test_a_silent_configuration_leaves_it_to_the_weights(silent):
    auto = RunConfig.model_validate({"model": str(silent), "model_settings": {"dtype": "auto"}})
    assert stored_precision(str(silent)) == "auto"
    assert plan(auto).precision == "float32"
    save_file(WEIGHTS, silent / "model.safetensors")
    assert stored_precision(str(silent)) == "float16"
    assert plan(auto).precision == "float16"


def test_weights_in_parts_go_by_their_index_and_then_by_the_first_part(silent):
    parts = {"b.weight": "model-2.safetensors", "a.weight": "model-1.safetensors"}
    index = silent / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    save_file({"a.weight": torch.zeros(2, dtype=torch.bfloat16)}, silent / "model-1.safetensors")
    save_file(WEIGHTS, silent / "model-2.safetensors")
    assert stored_precision(str(silent)) == "bfloat16"
    index.write_text(json.dumps({"metadata": {"dtype": "float16"}, "weight_map": parts}))
    assert stored_precision(str(silent)) == "float16"


def test_a_configuration_that_says_goes_first_and_the_language_models_last(silent):
    path = silent / "config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "text_config": {**written["text_config"], "dtype": "bfloat16"}}))
    assert stored_precision(str(silent)) == "bfloat16"
    save_file(WEIGHTS, silent / "model.safetensors")
    assert stored_precision(str(silent)) == "float16"
    path.write_text(json.dumps({**written, "dtype": "float32"}))
    assert stored_precision(str(silent)) == "float32"


def test_a_model_id_is_looked_up_in_the_cache_alone():
    assert precision_of_weights("nobody/nothing") is None
