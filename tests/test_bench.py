"""The benchmarks compare like with like: same data, same loss; and every table can be made, at toy size."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from unsay.models import LoraSettings
from unsay.training import BatchSettings, TrainSettings

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import evaluation  # noqa: E402
import gpu_shapes  # noqa: E402
import growth  # noqa: E402
import multimodal  # noqa: E402
import recipes  # noqa: E402
import run  # noqa: E402
import training  # noqa: E402
from data import examples, prompts  # noqa: E402

SMALL = TrainSettings(steps=6, batch=BatchSettings(forget=2, refuse=2, retain=3), lora=LoraSettings(rank=4),
                      learning_rate=5e-3, warmup_steps=0, schedule="constant")  # fmt: skip


def test_every_contender_minimises_the_same_loss(tiny_vlm, one_thread):
    """After steps that moved the adapter, so that KL is not zero and a wrong gradient would have shown."""
    losses = {}
    for name, make in (("unsay", recipes.this_project), ("recipe", recipes.usual_recipe)):
        vlm = copy.deepcopy(tiny_vlm)
        step = make(vlm, recipes.plan(vlm, tiny.examples(), SMALL), SMALL)
        losses[name] = [step() for _ in range(5)]
    assert losses["unsay"] == pytest.approx(losses["recipe"], abs=2e-4)
    assert max(losses["unsay"]) - min(losses["unsay"]) > 0.01


def test_the_trainers_loss_is_the_same_too(tiny_vlm, monkeypatch):
    seen = []
    real = recipes.three_terms
    monkeypatch.setattr(recipes, "three_terms", lambda *args: (seen.append(real(*args)), seen[-1])[1])
    vlm = copy.deepcopy(tiny_vlm)
    ended = recipes.transformers_trainer(vlm, recipes.plan(vlm, tiny.examples(), SMALL), SMALL, 2)
    assert len(ended) == 3
    assert ended == sorted(ended)
    other = copy.deepcopy(tiny_vlm)
    first = recipes.this_project(other, recipes.plan(other, tiny.examples(), SMALL), SMALL)()
    assert float(seen[0].detach()) == pytest.approx(first, abs=1e-4)


def test_the_data_has_every_role_and_real_lengths():
    rows = examples(60)
    assert {row.role.value for row in rows} == {"forget", "refuse", "retain"}
    assert len({row.prompt for row in rows}) == len(rows) == 60
    assert len({row.id for row in prompts(12, ["a", "b"])}) == 12


def test_the_table_of_multimodal_steps(tiny_vlm):
    rows = multimodal.table(tiny_vlm, "cpu", 1, (4, 8))
    assert [row["image_tokens"] for row in rows] == [0, 4, 8]
    assert rows[0]["times"] == 1.0
    assert not any("lora" in name for name, _ in tiny_vlm.base.named_parameters())


def test_the_table_of_evaluation_sees_the_same_answers(tiny_vlm):
    rows = evaluation.table(tiny_vlm, "cpu", 1, text=5, pictured=3, longest=6)
    assert [(row["suite"], row["prompts"], row["same"]) for row in rows] == [("text", 5, 1.0), ("image", 3, 1.0)]
    for row in rows:
        assert row["against_one"] == pytest.approx(row["rates"]["unsay"] / row["rates"]["one"])


def test_the_table_of_growth(tiny_vlm):
    rows = growth.table(tiny_vlm, "cpu", 1, (50, 100))
    assert [row["value"] for row in rows if row["what"] == "adapted layers"] == ["all", "upper half"]
    assert [row["value"] for row in rows if row["what"].startswith("roles")] == ["1", "2", "3"]
    assert all(row["times"] > 0 for row in rows)
    assert run.markdown("growth", rows).count("\n") == len(rows) + 1


def test_a_contender_runs_in_a_process_of_its_own(tiny_folder):
    row = training._one("unsay", str(tiny_folder), "cpu", 1)
    assert row["seconds"] > 0
    assert row["bytes"] > 0
    assert len(row["losses"]) == 2
    assert "missing" in training._one("unsay", "/nowhere", "cpu", 1)


def test_a_missing_contender_is_said_to_be_missing():
    found = {"rate": 1e9, "rows": [{"name": "TRL", "missing": "No module named 'trl'"}]}
    assert "| TRL | not run: No module named 'trl' |" in run.markdown("training", found)


@pytest.mark.parametrize("shape", list(gpu_shapes.SHAPES))
def test_the_shapes_of_large_models_run_at_toy_size(shape):
    row = gpu_shapes.measure(shape, "cpu", 2, toy=True)
    assert row["text"]["tokens_per_second"] > 0
    assert row["multimodal"]["image_tokens"] > 0
    assert torch.get_default_dtype() == torch.float32
    json.dumps(row)


def test_large_shapes_are_refused_on_a_cpu():
    command = [sys.executable, str(BENCHMARKS / "gpu_shapes.py"), "--device", "cpu"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "need an accelerator" in done.stderr
