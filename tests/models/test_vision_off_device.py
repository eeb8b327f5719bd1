"""In text-only training the vision tower and the projector are not on the accelerator; afterwards they are again."""

import pytest
import torch
from torch import nn

from helpers import tiny
from helpers.training import train
from unsay.methods import build_method
from unsay.models import LoraSettings, attach, vision
from unsay.models.vlm import VLM
from unsay.training import BatchSettings, TrainSettings

SETTINGS = TrainSettings(steps=2, batch=BatchSettings(forget=1, refuse=1, retain=1), lora=LoraSettings(rank=2))


@pytest.fixture
def moved(monkeypatch):
    """Every module that is moved, with where to; nothing really moves."""
    calls = []
    monkeypatch.setattr(nn.Module, "to", lambda self, device: calls.append((self, device)) or self)
    return calls


def test_the_parts_are_all_beside_the_language_model_and_its_head(any_vlm):
    for vlm in (any_vlm, attach(any_vlm, LoraSettings(), 0)):
        inside = {id(p) for part in vision.vision_parts(vlm) for p in part.parameters()}
        read = {id(p) for part in (vlm.decoder, vlm.lm_head) for p in part.parameters()}
        assert inside
        assert not inside & read
        assert inside | read == {id(p) for p in vlm.base.parameters()}


def test_away_and_back_even_where_training_fails(tiny_vlm, monkeypatch, moved):
    gpu = torch.device("cuda:1")
    monkeypatch.setattr(VLM, "device", gpu)
    parts = vision.vision_parts(tiny_vlm)
    with pytest.raises(KeyError), vision.vision_on_host(tiny_vlm, True):
        assert moved == [(part, vision.HOST) for part in parts]
        raise KeyError
    assert moved[len(parts) :] == [(part, gpu) for part in parts]


@pytest.mark.parametrize("why", ["not wanted", "on the host already", "spread", "quantised"])
def test_nothing_moves_where_it_need_not_or_cannot(tiny_vlm, monkeypatch, moved, why):
    if why != "on the host already":
        monkeypatch.setattr(VLM, "device", torch.device("cuda"))
    if why == "spread":
        tiny_vlm.base.hf_device_map = {"": 0}
    if why == "quantised":
        tiny_vlm.base.is_quantized = True
    with vision.vision_on_host(tiny_vlm, why != "not wanted"):
        pass
    assert moved == []


@pytest.mark.parametrize("pictured", [False, True], ids=["text", "a picture in the probe"])
def test_a_run_is_blind_exactly_where_no_example_has_a_picture(tiny_vlm, tmp_path, monkeypatch, pictured):
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    monkeypatch.setattr(vision, "_movable", lambda _vlm: True)
    seen, order = vision.vision_parts(tiny_vlm), []
    plain = nn.Module.to

    def to(self, *args, **kwargs):
        if any(self is part for part in seen):
            order.append("moved")
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "to", to)
    image = str(tmp_path / "red.png") if pictured else None
    probe = [row.model_copy(update={"image": image, "id": "probe"}) for row in tiny.examples(1)[-1:]]
    train(tiny_vlm, tiny.examples(2), build_method("textual-unlearning"), SETTINGS, tmp_path / "run",
          probe_examples=probe, progress=lambda *_: order.append("step"))  # fmt: skip
    moves = [] if pictured else ["moved"] * len(seen)
    assert order == [*moves, "step", "step", *moves]
