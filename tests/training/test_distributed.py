"""Several processes, and several turns, make the steps that one process makes in one go."""

import json

import pytest
import torch
from safetensors.torch import load_file

from helpers import distributed, tiny
from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.methods.base import Companion
from unsay.models import detach
from unsay.models.sharding import check_shardable
from unsay.processes import ALONE, Processes, sharding_requested
from unsay.records import Role
from unsay.run.directory import device_of
from unsay.training import AdversarialSettings, BatchSettings, TrainSettings, plan_training
from unsay.training.encode import Encoded, split


def rows(folder):
    return [json.loads(line) for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]


def adapter(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_alike(folder, other):
    """The same trajectory, up to the order in which numbers are added."""
    ours, theirs = rows(folder), rows(other)
    assert len(ours) == len(theirs) == 5
    for row, wanted in zip(ours, theirs, strict=True):
        assert row.keys() == wanted.keys()
        # Warm-up starts at 0, so the second step still sees the original: its margins are 0 but for the last bit, and
        # "preferred" is the share of those above 0.
        unsettled = {"preferred"} if row["step"] <= 2 else set()
        for name in row.keys() - {"seconds"} - unsettled:
            assert row[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-6), (row["step"], name)
    ours, theirs = adapter(folder), adapter(other)
    assert ours.keys() == theirs.keys()
    # As a whole: where a gradient is nearly nothing, Adam makes a whole step of its last bit.
    apart = sum(float((ours[name] - theirs[name]).square().sum()) for name in ours)
    assert apart < 1e-6 * sum(float(tensor.square().sum()) for tensor in ours.values())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Runs of one process, by method."""
    known = {}

    def of(method):
        if method not in known:
            known[method] = tmp_path_factory.mktemp("alone") / method
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            distributed.run(known[method], method)
            torch.set_num_threads(before)
        return known[method]

    return of


@pytest.mark.parametrize("sharded", [False, True], ids=["plain", "FSDP2"])
@pytest.mark.parametrize("method", ["textual-unlearning", "rmu", "dpo"])
def test_two_processes_make_the_steps_of_one(alone, tmp_path, method, sharded):
    distributed.together(tmp_path / "two", sharded=sharded, method=method)
    assert_alike(tmp_path / "two", alone(method))


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("textual-unlearning", {"accumulate": 2}),
        ("textual-unlearning", {"recompute": True}),
        ("circuit-breaker", {"accumulate": 4, "recompute": True}),
    ],
)
def test_turns_and_recomputation_change_nothing(alone, tmp_path, one_thread, method, more):
    distributed.run(tmp_path / "cut", method, **more)
    assert_alike(tmp_path / "cut", alone(method))


@pytest.mark.parametrize(
    ("sharded", "more"),
    [
        (False, {"sharpness": 0.3, "adversarial": AdversarialSettings(layers=(1,), steps=1)}),
        (False, {"sharpness": 0.3, "accumulate": 2}),
        (True, {"sharpness": 0.3}),
    ],
    ids=["both, plain", "sharp, in turns", "sharp, FSDP2"],
)
def test_two_processes_climb_and_attack_like_one(tmp_path, one_thread, sharded, more):
    """The way uphill is that of the whole batch's gradient; an attack on a row looks at that row alone."""
    distributed.run(tmp_path / "one", **{**more, "accumulate": 1})
    distributed.together(tmp_path / "two", sharded=sharded, **more)
    assert_alike(tmp_path / "two", tmp_path / "one")
    assert all(row["sharpness"] > 0 for row in rows(tmp_path / "two"))


def test_recomputation_really_computes_again(tmp_path, tiny_vlm):
    """transformers' own switch does nothing in evaluation mode, and says nothing."""
    layer, calls = tiny_vlm.layers[0], []
    layer.self_attn.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    trained = distributed.run(tmp_path / "plain", vlm=tiny_vlm, steps=1)
    once = sum(calls)
    distributed.run(tmp_path / "again", vlm=detach(trained.vlm), steps=1, recompute=True)
    assert (once, sum(calls) - once) == (1, 2)
    assert "forward" not in vars(layer)


def test_all_of_it_at_once(alone, tmp_path):
    """Two processes, layers split over them, turns, and activations computed again."""
    distributed.together(tmp_path / "all", sharded=True, method="circuit-breaker", accumulate=2, recompute=True)
    assert_alike(tmp_path / "all", alone("circuit-breaker"))


def test_a_kept_original_is_the_same_for_all(tmp_path, one_thread):
    distributed.run(tmp_path / "one", reference="cached")
    distributed.together(tmp_path / "two", sharded=True, reference="cached")
    assert_alike(tmp_path / "two", tmp_path / "one")


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path, one_thread):
    """From two to one, from one to two, and from split layers to whole ones."""
    folder = tmp_path / "run"
    distributed.together(folder, sharded=True, stop=3)
    assert [row["step"] for row in rows(folder)] == [1, 2, 3]
    with pytest.raises(distributed.StopError):
        distributed.run(folder, stop=4, accumulate=2)
    distributed.together(folder)
    assert_alike(folder, alone("textual-unlearning"))


def test_a_lost_process_is_one_line_and_the_last_checkpoint_stays(alone, tmp_path, one_thread):
    said = distributed.together(tmp_path / "lost", die=4, ends=[1, -9])
    assert "UserError: another process of this run was lost at step 4; step 2 is kept: run the same" in said[0]
    distributed.run(tmp_path / "lost")
    assert_alike(tmp_path / "lost", alone("textual-unlearning"))


def test_every_share_has_its_part_of_each_role_and_pairs_stay_together():
    roles = [*[Role.FORGET] * 4, *[Role.RETAIN] * 2, *[Companion.REFUSAL] * 4]
    batch = [Encoded(f"{role.value}-{roles[:place].count(role)}", role, (1,), (2,)) for place, role in enumerate(roles)]
    assert [[row.id for row in share] for share in split(batch, 2)] == [
        ["forget-0", "forget-2", "retain-0", "refusal-0", "refusal-2"],
        ["forget-1", "forget-3", "retain-1", "refusal-1", "refusal-3"],
    ]
    assert split(batch, 1) == [batch]


def test_a_batch_that_does_not_divide_names_its_role(tmp_path, tiny_vlm):
    method = build_method("refusal-sft")
    fits = TrainSettings(batch=BatchSettings(forget=1, refuse=4, retain=4), accumulate=2)
    assert plan_training(method, fits, processes=2).rows == {Role.REFUSE: 4, Role.RETAIN: 4}
    with pytest.raises(UserError, match=r"train.batch.refuse: 6 rows do not divide by 2 processes × 2 turns .*of 4"):
        plan_training(method, TrainSettings(batch=BatchSettings(refuse=6), accumulate=2), processes=2)


def test_pictures_and_four_bits_are_not_split(tiny_vlm):
    pictured = tiny.examples(1)[0].model_copy(update={"image": "a.png"})
    with pytest.raises(UserError, match="pictures cannot be trained on a model that is split"):
        check_shardable(tiny_vlm, [pictured])
    tiny_vlm.base.is_quantized = True
    with pytest.raises(UserError, match="4 bits cannot be split"):
        check_shardable(tiny_vlm, tiny.examples(1))


@pytest.mark.parametrize(
    ("environment", "sharded"),
    [
        ({}, False),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, True),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, True),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "FSDP version 1"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "only DeepSpeed's stage ZeRO-3"),
    ],
)
def test_what_the_launcher_asked_for_is_understood_or_refused(monkeypatch, environment, sharded):
    for name in ("ACCELERATE_USE_FSDP", "FSDP_VERSION", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_DEEPSPEED_ZERO_STAGE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(sharded, bool):
        assert sharding_requested() is sharded
    else:
        with pytest.raises(UserError, match=sharded):
            sharding_requested()


def test_each_process_has_a_device_of_its_own():
    second = Processes(rank=5, world=8, local=1)
    assert device_of(RunConfig(device="cuda"), second) == torch.device("cuda:1")
    assert device_of(RunConfig(device="cuda:3"), ALONE) == torch.device("cuda:3")
    assert device_of(RunConfig(), second) == torch.device("cpu")
    with pytest.raises(UserError, match=r"device: .* write cuda instead of cuda:3"):
        device_of(RunConfig(device="cuda:3"), second)
    with pytest.raises(UserError, match="device_map: each of several processes"):
        device_of(RunConfig(model_settings={"device_map": "auto"}), second)


def test_eight_bits_without_a_gpu_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"train.optimizer: adamw-8bit needs a CUDA GPU, and the model is on cpu"):
        distributed.run(tmp_path, optimizer="adamw-8bit")


def test_how_work_is_cut_up_is_not_part_of_what_decides_a_result():
    plain = TrainSettings()
    assert TrainSettings(accumulate=4, recompute=True).decisive() == plain.decisive()
    assert "optimizer" not in plain.decisive()
    assert TrainSettings(optimizer="adamw-8bit").decisive() != plain.decisive()
    assert TrainSettings(steps=7).decisive() != plain.decisive()
