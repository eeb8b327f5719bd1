"""Estimates against what training really takes, on the pocket VLM and on a larger model with random weights."""

import json
import os
import subprocess
import sys

import pytest
from transformers import LlavaConfig, Qwen2Config, SiglipVisionConfig

pytestmark = [pytest.mark.slow, pytest.mark.pocket]


def measured(*options):
    """What `tools.planning_measure` says; a process of its own, for the resident set is the whole process's."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.planning_measure", *options],
        capture_output=True, text=True, timeout=900, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(done.stdout)


def test_the_pocket_models_memory_is_within_15_percent():
    assert measured("--model", "pocket", "--rows", "2")["ratio"] == pytest.approx(1, abs=0.15)


def test_a_larger_models_memory_is_within_15_percent(tmp_path):
    text = Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    tower = SiglipVisionConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=6)
    LlavaConfig(vision_config=tower, text_config=text, tie_word_embeddings=True).save_pretrained(tmp_path)
    found = measured("--model", str(tmp_path), "--random", "--rows", "2", "--prompt", "32", "--answer", "32")
    assert found["parameters"] > 3 * 146_000_000
    assert found["ratio"] == pytest.approx(1, abs=0.15)
