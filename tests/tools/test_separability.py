"""The regression finds what is separable, has chance on noise, and reads the state where an answer would begin."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tools import separability
from unsay.models import VLM
from unsay.records import Kind, Modality, Prompt


def _states(mean: float, n: int, seed: int) -> separability.States:
    noise = np.random.default_rng(seed).normal(size=(n, 1, 4)).astype(np.float32)
    noise[:, 0, 0] += mean
    return noise


def test_separable_states_are_separated_and_noise_is_not() -> None:
    asked = {"a": _states(6, 30, 0)}
    against = {"apart": _states(0, 30, 1), "alike": _states(6, 30, 2)}
    (found,) = separability.fitted(_states(6, 40, 3), _states(0, 40, 4), asked, against)
    assert found["apart"] == 1.0
    assert 0.3 < found["alike"] < 0.7
    (best,) = separability.ceiling(asked, against)
    assert best["apart"] == 1.0
    assert 0.2 < best["alike"] < 0.8


def test_auroc_counts_pairs() -> None:
    assert separability.auroc(np.array([1.0, 3.0]), np.array([0.0, 2.0])) == 0.75


def test_states_are_those_of_the_last_prompt_token(tiny_vlm: VLM) -> None:
    request = "What is a lamp?"
    states = separability.last_states(tiny_vlm, [request, "Hi"], [0, 1])
    ids = tiny_vlm.tokenizer(tiny_vlm.render(request), return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        hidden = tiny_vlm.decoder(input_ids=ids, output_hidden_states=True).hidden_states
    assert states.shape == (2, 2, hidden[1].shape[-1])
    np.testing.assert_allclose(states[0, 0], hidden[1][0, -1].float().numpy(), rtol=1e-5)


def test_states_beside_a_picture_are_those_of_the_last_prompt_token(tiny_vlm: VLM, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "navy").save(tmp_path / "page.png")
    prompt = Prompt(
        id="a", suite="s", kind=Kind.BENIGN, modality=Modality.TYPOGRAPHIC, prompt="Do what it says.", request="a lamp",
        group="a", image=str(tmp_path / "page.png"),
    )  # fmt: skip
    states = separability.picture_states(tiny_vlm, [prompt], [1])
    text = tiny_vlm.render("Do what it says.", image=True)
    inputs = tiny_vlm.processor(images=[Image.open(tmp_path / "page.png")], text=[text], return_tensors="pt")
    with torch.inference_mode():
        hidden = tiny_vlm.base(**inputs, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(states[0, 0], hidden[2][0, -1].float().numpy(), rtol=1e-4, atol=1e-5)
