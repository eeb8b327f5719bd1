"""A checkpoint is opened whole or not at all, and one line says why."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tiny_text import tiny_model, tiny_tokenizer
from unsay.errors import UserError
from unsay.judging.guard import GUARDS
from unsay.judging.guard.model import GuardModel
from unsay.judging.settings import GuardSettings
from unsay.models import ModelSettings, load
from unsay.models.opening import opened

QUERY = "model.language_model.layers.0.self_attn.q_proj.weight"
STORED = "language_model.model.layers.0.self_attn.q_proj.weight"
"""One weight: its place in the model, and its name in a LLaVA checkpoint."""


def with_weights(folder, tensors):
    """The checkpoint in a folder, with these weights."""
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def checkpoint(tiny_folder, tmp_path):
    """A checkpoint folder of the test's own, and its weights."""
    folder = shutil.copytree(tiny_folder, tmp_path / "checkpoint")
    return folder, load_file(folder / "model.safetensors")


def refused(folder, **more):
    """What is said of a checkpoint that cannot be loaded, in one line."""
    with pytest.raises(UserError) as caught:
        load(str(folder), **more)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}: ")


# ----------------------------------------------------------------------------------------------------- missing weights


@pytest.mark.parametrize("device_map", [None, "auto"])
def test_a_weight_that_is_not_there_is_named(checkpoint, device_map):
    folder, tensors = checkpoint
    del tensors[STORED]
    said = refused(with_weights(folder, tensors), settings=ModelSettings(device_map=device_map))
    assert said.startswith("the checkpoint lacks 1 of LlavaForConditionalGeneration's ")
    assert f"weights, which would be random ({QUERY}): " in said
    assert "save_pretrained" in said
    assert "fit nowhere" not in said


@pytest.mark.parametrize("prefix", ["wrapped.", "base_model.model.model."])
def test_weights_under_another_prefix_are_missing_ones(checkpoint, prefix):
    folder, tensors = checkpoint
    renamed = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    said = refused(with_weights(folder, renamed))
    lacking = len(tensors) + 1  # the head is tied, but to what is not there either
    assert said.startswith(f"the checkpoint lacks {lacking} of LlavaForConditionalGeneration's {lacking} weights")
    assert f"of what it has, {len(tensors)} fit nowhere ({prefix}" in said
    assert len(said) < 700, "a few names are enough"


def test_what_fits_nowhere_is_of_no_account_where_nothing_is_missing(checkpoint):
    folder, tensors = checkpoint
    vlm = load(str(with_weights(folder, {**tensors, "another.head.weight": torch.zeros(2)})))
    assert torch.equal(vlm.base.get_parameter(QUERY), tensors[STORED])


def test_a_buffer_may_be_missing(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.register_buffer("counted", torch.zeros(1))

    class Auto:
        lacking = "counted"

        @classmethod
        def from_pretrained(cls, _source, **_options):
            return Model(), {"missing_keys": {cls.lacking}, "unexpected_keys": set(), "mismatched_keys": set()}

    assert isinstance(opened(Auto, "here", "it"), Model)
    Auto.lacking = "weight"
    with pytest.raises(UserError, match="it: the checkpoint lacks 1 of Model's 1 weights"):
        opened(Auto, "here", "it")


def test_other_shapes_are_named(checkpoint):
    folder, tensors = checkpoint
    tensors[STORED] = tensors[STORED][:-1].contiguous()
    said = refused(with_weights(folder, tensors))
    assert said.startswith("the checkpoint has 1 of LlavaForConditionalGeneration's weights in another shape than its")
    assert f"({QUERY} [31, 32] instead of [32, 32]): take configuration and weights of one" in said


def test_a_guard_that_lacks_weights_judges_nothing(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    settings = GuardSettings(checkpoint=str(tmp_path), dtype="float32")
    assert GuardModel.load(GUARDS["harmbench"], settings)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.norm.weight"]
    with_weights(tmp_path, tensors)
    with pytest.raises(UserError, match=r"judge: the guard .*: the checkpoint lacks 1 of LlamaForCausalLM's") as caught:
        GuardModel.load(GUARDS["harmbench"], settings)
    assert "licence" not in str(caught.value)
