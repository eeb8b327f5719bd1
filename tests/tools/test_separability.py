"""The regression finds what is separable, has chance on noise, and reads the state where an answer would begin."""

import numpy as np
import torch

from tools import separability
from unsay.models import VLM


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
    assert separability._auroc(np.array([1.0, 3.0]), np.array([0.0, 2.0])) == 0.75


def test_states_are_those_of_the_last_prompt_token(tiny_vlm: VLM) -> None:
    request = "What is a lamp?"
    states = separability.last_states(tiny_vlm, [request, "Hi"], [0, 1])
    ids = tiny_vlm.tokenizer(tiny_vlm.render(request), return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        hidden = tiny_vlm.decoder(input_ids=ids, output_hidden_states=True).hidden_states
    assert states.shape == (2, 2, hidden[1].shape[-1])
    np.testing.assert_allclose(states[0, 0], hidden[1][0, -1].float().numpy(), rtol=1e-5)
