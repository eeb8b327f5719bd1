"""Adapters from elsewhere that change what pictures pass, too: measured as they are, and trained no further."""

import dataclasses
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file

from helpers import tiny
from helpers.training import train
from tests.generation.test_greedy import plainest, rows
from tests.models.test_models import acting
from tests.training.test_modality import encoded
from unsay import api
from unsay.config import RunConfig, parse_config, write_config
from unsay.errors import UserError
from unsay.files import write_json
from unsay.generation.greedy import greedy, greedy_is_exact
from unsay.generation.openings import Openings
from unsay.generation.prompts import feature_store
from unsay.methods import build_method
from unsay.models import LoraSettings, attach, detach, load, load_adapter, save_adapter
from unsay.models.merge import write_merged
from unsay.models.vision import on_device
from unsay.run.directory import TRAINED
from unsay.run.export import export
from unsay.training.picture_inputs import Vision
from unsay.training.settings import TrainSettings

KINDS = {
    "all linears": {"target_modules": "all-linear"},
    "the vision tower alone": {"target_modules": r".*vision_tower.*\.(q_proj|v_proj)"},
    "a projector of its own": {"target_modules": ["q_proj"], "modules_to_save": ["multi_modal_projector"]},
    "the projector alone": {"target_modules": ["linear_2"]},
}


def elsewhere(model, folder, seed=0, **more):
    """The folder of an adapter as plain PEFT trains and saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = LoraConfig(r=4, lora_alpha=16, init_lora_weights=False, **more)
        made = get_peft_model(load(str(model)).model, settings)
        for name, parameter in made.named_parameters():
            if "modules_to_save" in name:
                parameter.data.add_(torch.randn(parameter.shape) * 0.2)
    made.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture
def linears(tiny_folder, tmp_path):
    """The folder of an adapter on all linears."""
    return elsewhere(tiny_folder, tmp_path / "linears", **KINDS["all linears"])


@pytest.fixture
def picture(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        noise = torch.randint(0, 255, (40, 40, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(tmp_path / "noise.png")
    return str(tmp_path / "noise.png")


@torch.no_grad()
def logits(vlm, picture, model=None):
    """What is said to words, and to words beside a picture."""
    with Image.open(picture) as image:
        beside = on_device(vlm, vlm.encode_picture("What is this?", image.convert("RGB")))
    words = {"input_ids": torch.tensor([vlm.encode_prompt("What is this?")])}
    return [(model or vlm.model)(**inputs).logits for inputs in (words, beside)]


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_plain_peft_says_and_leaves_the_original_behind(tiny_folder, tmp_path, picture, kind):
    folder = elsewhere(tiny_folder, tmp_path / "adapter", **KINDS[kind])
    vlm = load(str(tiny_folder))
    original = logits(vlm, picture)
    wanted = logits(vlm, picture, PeftModel.from_pretrained(load(str(tiny_folder)).model, str(folder)).eval())
    adapted = load_adapter(vlm, folder)
    assert adapted.adapts_vision
    found = logits(adapted, picture)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found[1], original[1])
    assert torch.equal(found[0], original[0]) == kind.endswith("alone")  # a text does not pass there
    assert not any(parameter.requires_grad for parameter in adapted.model.parameters())
    before = detach(adapted)
    assert not before.adapts_vision
    assert all(torch.equal(*pair) for pair in zip(logits(before, picture), original, strict=True))


def test_an_adapter_on_the_language_model_alone_is_known_as_one(tiny_folder, tmp_path):
    save_adapter(acting(load(str(tiny_folder))), tmp_path / "adapter")
    beside = r".*language_model.*(embed_tokens|q_proj)"
    headed = elsewhere(tiny_folder, tmp_path / "headed", target_modules=beside)
    for folder in (tmp_path / "adapter", headed):
        adapted = load(str(tiny_folder), adapter=folder)
        assert not adapted.adapts_vision
        assert adapted.vision_key == (adapted.key,)


def test_one_that_does_nothing_is_refused_whatever_it_sits_on(tiny_folder, tmp_path):
    folder = elsewhere(tiny_folder, tmp_path / "adapter", **KINDS["the vision tower alone"])
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: torch.zeros_like(value) for name, value in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match="the adapter changes nothing"):
        load(str(tiny_folder), adapter=folder)


def test_one_that_could_not_be_taken_off_again_is_refused(tiny_folder, tmp_path):
    folder = elsewhere(tiny_folder, tmp_path / "adapter", target_modules=["fc1"], bias="all")
    vlm = load(str(tiny_folder))
    before = {name: parameter.clone() for name, parameter in vlm.model.named_parameters()}
    with pytest.raises(
        UserError, match=r"contains biases of the model itself \(bias: all\).*merge it into a checkpoint"
    ):
        load_adapter(vlm, folder)
    assert all(torch.equal(before[name], parameter) for name, parameter in vlm.model.named_parameters())


# -------------------------------------------------------------------------------------------- what was seen without it


def test_pictures_are_seen_anew_with_each_such_adapter_and_without(tiny_folder, tmp_path, linears, picture):
    """One after another on the same model: the second's weights may come to lie where the first one's were."""
    other = elsewhere(tiny_folder, tmp_path / "other", seed=1, **KINDS["all linears"])
    vlm = load(str(tiny_folder))
    asked = rows(vlm, [picture], texts=tiny.PROMPTS[:2])
    seen = []
    for adapter in (None, linears, other, None, linears):
        vlm = detach(vlm) if adapter is None else load_adapter(detach(vlm), adapter)
        assert greedy_is_exact(vlm, asked)
        assert greedy(vlm, asked, 6, Openings.of(vlm))[0] == [plainest(vlm, row, 6) for row in asked]
        seen.append(feature_store(vlm).of(vlm, asked)[asked[0].image])
    assert torch.equal(seen[0], seen[3])
    assert torch.equal(seen[1], seen[4])
    assert not any(torch.equal(*pair) for pair in ((seen[0], seen[1]), (seen[1], seen[2]), (seen[0], seen[2])))


def test_features_go_by_the_adapter_and_not_by_where_it_lies(tiny_folder, linears):
    adapted = load(str(tiny_folder), adapter=linears)
    store = feature_store(adapted)
    assert feature_store(dataclasses.replace(adapted)) is store
    assert feature_store(dataclasses.replace(adapted, adapter_key="another's")) is not store


def test_features_on_disk_are_the_adapters_own_too(tiny_folder, tmp_path, linears, picture):
    vlm = load(str(tiny_folder))
    [row] = encoded(vlm, [tiny.examples(1)[0].model_copy(update={"image": picture})])
    seen, passed = [], []
    for adapter in (None, linears, None, linears):
        vlm = detach(vlm) if adapter is None else load_adapter(vlm, adapter)
        vision = Vision(vlm, tmp_path / "vision")
        seen.append(vision.see(row.picture).features)
        passed.append(vision.passed)
    assert passed == [1, 1, 0, 0]
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[3])


# --------------------------------------------------------------------------------------------------- whole evaluations


def test_an_evaluation_says_that_it_changes_the_vision_side(
    tiny_folder, tmp_path, linears, picture, monkeypatch, unmeasured_judge
):
    questions = tmp_path / "mine.jsonl"
    asked = {"id": "1", "prompt": "What does it say?", "image": picture, "kind": "attack"}
    questions.write_text(json.dumps(asked) + "\n")
    settings = parse_config(
        f"model: {tiny_folder}\nevaluation: {{judge: rules, suites: [], generation: {{max_new_tokens: 4}}}}\n", "test"
    )
    save_adapter(acting(load(str(tiny_folder))), tmp_path / "language")
    said = {}
    for adapter in (linears, tmp_path / "language"):
        scores = api.evaluate(settings, tmp_path / f"run-{adapter.name}", adapter=adapter, suite_file=questions)
        said[adapter.name] = [caution for caution in scores.warnings if "vision side" in caution.text]
    assert said["language"] == []
    [caution] = said["linears"]
    assert not caution.severe
    assert "vision side of the model, too (16 of its 72 weights, as base_model.model.model.multi_modal_" in caution.text
    monkeypatch.setattr("unsay.run.directory.load", None)  # it needs no model to say so again
    again = api.evaluate(settings, tmp_path / "run-linears", adapter=linears, suite_file=questions)
    assert caution in again.warnings


# --------------------------------------------------------------------------------------------- training, merge, export


def test_training_does_not_go_on_from_it(tiny_folder, linears, tmp_path):
    adapted = load(str(tiny_folder), adapter=linears)
    with pytest.raises(UserError, match="has an adapter already, and training begins with a fresh one"):
        attach(adapted, LoraSettings(), seed=0)
    settings = TrainSettings(steps=1, lora=LoraSettings(rank=2))
    with pytest.raises(UserError, match="has an adapter already"):
        train(adapted, tiny.examples(), build_method("textual-unlearning"), settings, tmp_path / "run")
    assert attach(detach(adapted), LoraSettings(), seed=0)


def test_a_merge_takes_the_vision_side_up(tiny_folder, linears, tmp_path, picture):
    adapted = load(str(tiny_folder), adapter=linears)
    wanted = logits(adapted, picture)
    parity = write_merged(adapted, tmp_path / "merged", dtype="float32")
    assert max(parity.text, parity.image) < 1e-4
    for one, other in zip(logits(load(str(tmp_path / "merged")), picture), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_an_export_of_a_run_does_not_pass_it_off_as_the_runs_own(tiny_folder, linears, tmp_path):
    write_config(tmp_path / "run" / "config.yaml", RunConfig(model=str(tiny_folder)))
    linears.rename(tmp_path / "run" / "adapter")
    write_json(tmp_path / "run" / TRAINED, {})
    with pytest.raises(UserError, match="changes the vision side, too, which no run here does"):
        export(tmp_path / "run", tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()
