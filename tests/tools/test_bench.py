"""The benchmarks compare like with like: same data, same loss; and every table can be made, at toy size."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import tiny
from unsay.errors import UserError
from unsay.models import LoraSettings, attach
from unsay.records import Role
from unsay.training import BatchSettings, TrainSettings
from unsay.training.encode import Encoded

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import compiled  # noqa: E402
import evaluation  # noqa: E402
import gpu_shapes  # noqa: E402
import growth  # noqa: E402
import kept_kl  # noqa: E402
import multimodal  # noqa: E402
import one  # noqa: E402
import profile_step  # noqa: E402
import recipes  # noqa: E402

import run  # noqa: E402
import training  # noqa: E402
from data import examples, pairs, prompts  # noqa: E402

SMALL = TrainSettings(steps=6, batch=BatchSettings(forget=2, refuse=2, retain=3), lora=LoraSettings(rank=4),
                      learning_rate=5e-3, warmup_steps=0, schedule="constant")  # fmt: skip


def test_a_step_is_profiled(tiny_folder, tmp_path, monkeypatch):
    out = tmp_path / "profile.json"
    monkeypatch.setattr(sys, "argv", ["profile_step.py", "--model", str(tiny_folder), "--out", str(out)])
    profile_step.main()
    shares = json.loads(out.read_text())["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["matrix products"] > 0.02
    assert shares["attention"] > 0


def test_compiling_a_layer_is_timed(tiny_folder, tmp_path, monkeypatch):
    out = tmp_path / "compiled.json"
    monkeypatch.setattr(compiled.torch, "compile", lambda layer: layer)  # a compiler is slow, and not everywhere
    more = ["--tokens", "12", "--rounds", "3", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["compiled.py", "--model", str(tiny_folder), *more])
    compiled.main()
    found = json.loads(out.read_text())
    assert found["ratio"] == pytest.approx(found["seconds"]["compiled"] / found["seconds"]["plain"])
    assert found["layers"] == 4


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


def test_trl_minimises_the_same_preference_loss(tiny_vlm, monkeypatch, one_thread):
    """The same pairs in the same order, the same tokens, loss and steps: 0.693 at first, then what was learnt."""
    trl = pytest.importorskip("trl", reason="of the extra `bench`")
    rows, settings = pairs(6), SMALL.model_copy(update={"max_answer_tokens": 200})
    vlm = copy.deepcopy(tiny_vlm)
    step = recipes.this_project(vlm, recipes.plan(vlm, rows, settings, recipes.DPO), settings, recipes.DPO)
    ours = [step() for _ in range(3)]
    theirs, real = [], trl.DPOTrainer.compute_loss

    def noted(*args, **kwargs):
        loss = real(*args, **kwargs)
        theirs.append(loss.item())
        return loss

    monkeypatch.setattr(trl.DPOTrainer, "compute_loss", noted)
    ended = recipes.trl_dpo(copy.deepcopy(tiny_vlm), rows, settings, 3)
    assert len(ended) == 4
    assert theirs == pytest.approx(ours, abs=1e-4)
    assert theirs[0] == pytest.approx(math.log(2))
    assert abs(theirs[2] - theirs[0]) > 0.05


def test_pairs_ask_the_same_and_answer_differently():
    rows = pairs(20)
    assert len({row.id for row in rows}) == len(rows) == 40
    for forget, refuse in zip(rows[::2], rows[1::2], strict=True):
        assert (forget.role, refuse.role) == (Role.FORGET, Role.REFUSE)
        assert forget.prompt == refuse.prompt
        assert forget.answer != refuse.answer


def test_this_projects_dpo_is_measured_on_the_pairs_alone(tiny_folder):
    row = one.run(
        {"contender": "unsay-dpo", "model": str(tiny_folder), "device": "cpu", "dtype": "float32", "steps": 1}
    )
    assert row["seconds"] > 0
    assert row["tokens"] > 0
    assert row["losses"][0] == pytest.approx(math.log(2), abs=1e-4)


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


def test_what_kept_tokens_miss_of_kl_is_never_negative_and_less_with_more(tiny_vlm):
    adapted = attach(tiny_vlm, LoraSettings(rank=4), 0)
    kept_kl.draw(adapted, 0.1)
    rows = [row for row in recipes.plan(adapted, tiny.examples(), SMALL)[0] if row.role is Role.RETAIN]
    found = kept_kl.errors(adapted, rows, "random, 0.1")
    assert found["exact"] > 0.01
    missing = [row["missing"] for row in found["kept"]]
    assert -1e-5 < missing[2] < missing[1] < missing[0] < found["exact"]
    assert kept_kl.markdown([found]).count("\n") == 1 + len(kept_kl.KEPT)


def test_a_contender_runs_in_a_process_of_its_own(tiny_folder):
    row = training._one("unsay", str(tiny_folder), "cpu", "float32", 1)
    assert row["seconds"] > 0
    assert row["bytes"] > 0
    assert len(row["losses"]) == 2


def test_a_contender_that_fails_is_missing_with_its_last_word(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stdout="half a line", stderr="Traceback\nUserError: no such model\n")
    monkeypatch.setattr(training.subprocess, "run", lambda *_, **__: failed)
    assert training._one("unsay", "/nowhere", "cpu", "float32", 1)["missing"] == "UserError: no such model"


def test_without_this_project_there_is_nothing_to_compare_with(tiny_vlm, monkeypatch):
    monkeypatch.setattr(training, "_one", lambda *_: {"contender": "unsay", "missing": "UserError: no such model"})
    with pytest.raises(UserError, match=r"unsay did not run.*no such model"):
        training.table(tiny_vlm, "/nowhere", "cpu", "float32", 1, 1)


def test_operations_by_hand():
    head = tuple(range(10))
    rows = [Encoded("a", Role.FORGET, (*head, 50), (1, 2)), Encoded("b", Role.RETAIN, (*head, 51, 52), (1, 2, 3))]
    # 10 shared; 2 and 4 of their own, for the last token is only predicted. The original reads 10 + 4.
    assert recipes.operations(rows) == 4 * (10 + 2 + 4) + 2 * (10 + 4)


ABOUT = {
    "machine": "M",
    "model": "pocket",
    "threads": 1,
    "load_average": 0.0,
    "clock": "wall",
    "date": "d",
    "rounds": 3,
}


def test_a_table_alone_leaves_the_others_and_the_page_is_written_from_all(tmp_path):
    out, page = tmp_path / "performance.json", tmp_path / "performance.md"
    row = {"what": "w", "value": "1", "seconds": 1.0, "times": 1.0}
    run.merged(out, "growth", {"about": ABOUT, "rows": [row]})
    pictured = {"image_tokens": 64, "times": 2.0, "seconds": 3.0}
    kept = run.merged(out, "multimodal", {"about": ABOUT, "rows": [pictured]})
    assert set(json.loads(out.read_text())) == set(kept) == {"growth", "multimodal"}
    page.write_text(f"before\n\n{run.START}\nold\n{run.END}\n\nafter\n")
    for _ in range(2):  # written again it stays as it is
        run.write_page(page, kept)
        text = page.read_text()
        assert text.startswith(f"before\n\n{run.START}\n\nM; model pocket in float32; medians of 3")
        assert text.endswith(f"{run.END}\n\nafter\n")
        assert "old" not in text
        assert text.index("| 64 | 2.0 |") < text.index("| w | 1 |")


def test_the_page_in_the_repository_has_the_markers():
    text = (BENCHMARKS.parent / "docs/results/performance.md").read_text()
    assert text.count(run.START) == text.count(run.END) == 1


def test_a_missing_contender_is_said_to_be_missing():
    found = {"rate": 1e9, "rows": [{"name": "TRL", "missing": "No module named 'trl'"}]}
    assert "| TRL | not run: No module named 'trl' |" in run.markdown("training", found)


@pytest.mark.parametrize("shape", list(gpu_shapes.SHAPES))
def test_the_shapes_of_large_models_run_at_toy_size(shape):
    row = gpu_shapes.measure(shape, "cpu", 2, toy=True)
    assert row["text"]["tokens_per_second"] > 0
    assert row["usual_recipe_times_text"] > 0
    assert row["multimodal"]["rows_at_a_time"] == 4
    assert row["multimodal"]["image_tokens"] > 0
    assert torch.get_default_dtype() == torch.float32
    json.dumps(row)


def test_what_does_not_fit_is_tried_with_half_the_rows():
    asked = []

    def work(rows):
        asked.append(rows)
        if rows > 7:
            raise torch.OutOfMemoryError
        return {"seconds": 1.0}

    assert gpu_shapes._as_many_rows_as_fit(work, 26) == {"seconds": 1.0, "rows_at_a_time": 7}
    assert asked == [26, 13, 7]


def test_large_shapes_are_refused_on_a_cpu(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_shapes.py", "--device", "cpu"])
    with pytest.raises(SystemExit, match="2"):
        gpu_shapes.main()
    assert "need an accelerator" in capsys.readouterr().err
