"""A checkpoint is opened whole or not at all, and one line says why."""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import unsay
from helpers import tiny
from helpers.tiny_text import tiny_model, tiny_tokenizer
from tests.models.test_models import acting
from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.judges.base import GuardSettings
from unsay.judges.guard import GuardModel
from unsay.judges.guard_formats import GUARDS
from unsay.models import ModelSettings, load, load_adapter, save_adapter
from unsay.models.failures import memory_advice, out_of_memory
from unsay.models.loading import open_checkpoint, stored_precision
from unsay.planning import plan

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

    assert isinstance(open_checkpoint(Auto, "here", "it"), Model)
    Auto.lacking = "weight"
    with pytest.raises(UserError, match="it: the checkpoint lacks 1 of Model's 1 weights"):
        open_checkpoint(Auto, "here", "it")


def test_other_shapes_are_named(checkpoint):
    folder, tensors = checkpoint
    tensors[STORED] = tensors[STORED][:-1].contiguous()
    said = refused(with_weights(folder, tensors))
    assert said.startswith("the checkpoint has 1 of LlavaForConditionalGeneration's weights in another shape than its")
    assert f"({QUERY} [31, 32] instead of [32, 32]): take configuration and weights of one" in said


@pytest.fixture
def guard(tmp_path):
    """The folder of a tiny guard."""
    tiny_model().save_pretrained(tmp_path / "guard")
    tiny_tokenizer().save_pretrained(tmp_path / "guard")
    return tmp_path / "guard"


def guarding(folder, **more):
    return GuardModel.load(GUARDS["harmbench"], GuardSettings(checkpoint=str(folder), dtype="float32", **more))


def no_guard(folder, **more):
    """What is said of a guard that cannot be had, in one line."""
    with pytest.raises(UserError) as caught:
        guarding(folder, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"judge: the guard {folder}: ")


def test_a_guard_that_lacks_weights_judges_nothing(guard):
    assert guarding(guard)
    tensors = load_file(guard / "model.safetensors")
    del tensors["model.norm.weight"]
    said = no_guard(with_weights(guard, tensors))
    assert said.startswith("the checkpoint lacks 1 of LlamaForCausalLM's 39 weights")
    assert "licence" not in said


def test_weights_that_were_torn_are_no_checkpoint(checkpoint, guard):
    folder, _ = checkpoint
    for torn in (folder, guard):
        (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:100])
    assert refused(folder).startswith("cannot be loaded as an image-text-to-text model: ")
    assert "cannot be loaded (" in no_guard(guard)


# ------------------------------------------------------------------------------------------------------ out of memory


def raising(error):
    def call(*_args, **_more):
        raise error

    return call


MOVED = "transformers.PreTrainedModel.to"
SAID = {
    "4 bits": ValueError("Some modules are dispatched on the CPU or the disk. Make sure you have enough GPU RAM to"),
    "a file": OSError(12, "Cannot allocate memory"),
    "safetensors": SafetensorError("Error while opening: Cannot allocate memory (os error 12)"),
}


@pytest.mark.parametrize("where", [MOVED, "transformers.AutoModelForImageTextToText.from_pretrained"])
@pytest.mark.parametrize("error", {**tiny.OUT_OF_MEMORY, **SAID}.values(), ids=[*tiny.OUT_OF_MEMORY, *SAID])
def test_memory_that_runs_out_is_not_a_device_that_is_not_there(tiny_folder, monkeypatch, where, error):
    monkeypatch.setattr(where, raising(error))
    said = refused(tiny_folder, device="cuda")
    helps = "model_settings.dtype: bfloat16 (half as much); model_settings.quantisation: 4-bit"
    assert said.startswith(f"out of memory while it was loaded onto 'cuda'. What helps, in this order: {helps}")
    assert not out_of_memory("cannot be loaded")


def test_a_model_that_is_spread_finds_no_room_either(tiny_folder, monkeypatch):
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", raising(MemoryError()))
    said = refused(tiny_folder, device="cuda", settings=ModelSettings(dtype="bfloat16", device_map="auto"))
    assert said.startswith("out of memory while it was loaded onto device_map 'auto'. What helps")
    assert "dtype" not in said


def test_only_what_is_not_done_already_is_said_to_help():
    everything = re.findall(r"model_settings\.(\w+): ([\w-]+)", memory_advice(ModelSettings(), "cuda:0"))
    assert [name for name, _ in everything] == ["dtype", "quantisation", "device_map"]
    done = ModelSettings.model_validate(dict(everything))  # they are settings
    assert (
        memory_advice(done, "cuda")
        == "What helps, in this order: a device with more memory, or one that nobody else uses"
    )
    assert re.findall(r"model_settings\.(\w+)", memory_advice(ModelSettings(), "cpu")) == ["dtype"]


@pytest.mark.parametrize("error", tiny.OUT_OF_MEMORY.values(), ids=tiny.OUT_OF_MEMORY)
def test_an_adapter_that_finds_no_room_may_well_fit(tiny_vlm, tmp_path, monkeypatch, error):
    save_adapter(acting(tiny_vlm), tmp_path)
    monkeypatch.setattr("unsay.models.lora.get_peft_model", raising(error))
    with pytest.raises(UserError, match="out of memory while this adapter was put on tiny-llava: model_settings"):
        load_adapter(tiny.llava(), tmp_path)


@pytest.mark.parametrize("where", [MOVED, "transformers.AutoModelForCausalLM.from_pretrained"])
@pytest.mark.parametrize("error", tiny.OUT_OF_MEMORY.values(), ids=tiny.OUT_OF_MEMORY)
def test_nobody_must_accept_a_licence_because_a_card_is_full(guard, monkeypatch, where, error):
    monkeypatch.setattr(where, raising(error))
    said = no_guard(guard, device="cuda")
    helps = "judge_settings.dtype: bfloat16; judge_settings.device: "
    assert said.startswith(f"out of memory while it was loaded onto 'cuda'. What helps, in this order: {helps}")
    assert said.endswith("; judge: endpoint")
    assert "licence" not in said


def test_a_guards_device_that_is_not_there_is_named(guard):
    assert no_guard(guard, device="nonsense").startswith("judge_settings.device: 'nonsense' cannot be used here: ")


# ---------------------------------------------------------------------------------------------- a checkpoint's own code


@pytest.fixture
def coded(checkpoint, monkeypatch):
    """A checkpoint of a family that transformers does not know, with code that must not run; nobody is asked."""
    folder, _ = checkpoint
    config = json.loads((folder / "config.json").read_text())
    code = dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText", "AutoModelForCausalLM"), "own.Own")
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "of_its_own", "auto_map": code}))
    (folder / "own.py").write_text("raise SystemError('it ran')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether code may run"))
    return folder


OWN = "it needs code of its own, which unsay never runs: take a checkpoint in transformers' own layout, often the one"


def test_a_configuration_with_a_field_of_another_kind_is_one_line(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = "many"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"cannot be loaded as an image-text-to-text model: .*'hidden_size'"):
        load(str(folder))


def test_a_tokenizer_of_a_newer_version_is_one_line(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"] = {"type": "Unheard of"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="its tokenizer cannot be read: "):
        load(str(folder))


def test_a_checkpoints_own_code_is_not_run_and_nobody_is_asked(coded):
    assert refused(coded).startswith(f"cannot be loaded as an image-text-to-text model: {OWN}")
    for read in (stored_precision, lambda name: plan(RunConfig(model=name))):
        with pytest.raises(UserError) as caught:
            read(str(coded))
        assert str(caught.value).startswith(f"{coded}: its configuration cannot be read: {OWN}")


def test_a_guards_own_code_is_not_run_either(coded):
    assert f"cannot be loaded ({OWN}" in no_guard(coded)


def test_a_processors_own_code_is_not_run_either(checkpoint, monkeypatch):
    folder, _ = checkpoint
    path = folder / "processor_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "processor_class": "Own", "auto_map": {"AutoProcessor": "own.Own"}}))
    (folder / "own.py").write_text("raise SystemError('it ran')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether code may run"))
    assert OWN in refused(folder)


def test_no_call_that_opens_a_checkpoint_leaves_open_whether_code_may_run():
    calls = [
        (path.name, call)
        for path in Path(unsay.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("from_pretrained", "from_config")
        and ast.unparse(call.func.value) not in ("PeftConfig", "GenerationConfig", "AutoModel")  # settings; made anew
    ]
    assert len(calls) > 10
    for name, call in calls:
        said = {given.arg: ast.unparse(given.value) for given in call.keywords}
        assert said.get("trust_remote_code") == "False", f"{name}, line {call.lineno}"


@pytest.mark.parametrize("name", ["/nope", "./nope", "~/nope", "runs/mine/nope"])
def test_a_folder_that_is_not_there_is_no_bad_id(name: str):
    with pytest.raises(UserError, match="no such folder; a model is a checkpoint folder, or an id such as") as caught:
        load(name)
    assert str(caught.value).startswith(f"{name}: ")
