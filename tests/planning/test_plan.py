"""Plans: every part worked out by hand on a model small enough for it."""

import copy
import json

import pytest
import torch

from helpers import tiny
from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.models import LoraSettings, attach, load
from unsay.planning import GPUS, parse_gpus, plan
from unsay.planning.estimate import FOUR_BIT_BYTES, HEAD_BUFFERS, UTILISATION
from unsay.records import Role
from unsay.training.companions import part_of
from unsay.training.encode import Encoded, collate
from unsay.training.flops import step_flops
from unsay.training.plan import steps_of

# Tiny Llava: 4 layers, hidden 32, 4 heads of 8 (2 for keys and values), inner 48, tied head.
HIDDEN, HEADS_WIDE, INNER, KV = 32, 32, 48, 16
LINEARS = ((32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32))


def config(folder, **more):
    train = {"batch": {"forget": 1, "refuse": 2, "retain": 3}, "head_chunk": 10, **more.pop("train", {})}
    return RunConfig.model_validate({"model": str(folder), "train": train, **more})


def test_parameters_are_those_of_the_model_that_would_be_trained(tiny_folder):
    made = plan(config(tiny_folder), prompt=20, answer=5)
    vlm = load(str(tiny_folder))
    assert made.parameters == sum(p.numel() for p in vlm.model.parameters())
    adapted = attach(vlm, LoraSettings(), 0)
    assert made.trained == sum(p.numel() for p in adapted.model.parameters() if p.requires_grad)
    assert made.trained == 4 * sum(16 * (a + b) for a, b in LINEARS)


def test_memory_by_part_by_hand(tiny_folder):
    made = plan(config(tiny_folder), prompt=20, answer=5)
    rows, vocabulary = 6, len(tiny.tokenizer())
    assert made.tokens == rows * 25
    assert made.memory.weights == 4 * made.parameters
    assert made.memory.adapter == made.memory.gradients == 4 * made.trained
    assert made.memory.optimiser == 8 * made.trained  # Adam's two moments
    assert made.memory.head == HEAD_BUFFERS * 10 * vocabulary * 4  # fifteen answer tokens of a role, ten at a time
    assert plan(config(tiny_folder), prompt=20, answer=1).memory.head == HEAD_BUFFERS * 3 * vocabulary * 4
    block = 4 * (4 * HIDDEN + 4 * HEADS_WIDE + 4 * INNER) + 4 * 7 * 16
    assert made.memory.activations == rows * 25 * 4 * block
    assert made.memory.reference == 30 * HIDDEN * 4
    assert made.memory.context == 0
    assert made.memory.total == sum(vars(made.memory).values())
    assert made.seconds is None
    assert made.fits is None


def test_what_withstands_costs_what_it_costs(tiny_folder):
    """A sharpness-aware step is two; an attack is so many passes of the harmful rows; an edit keeps whole gradients."""
    plain = plan(config(tiny_folder), prompt=20, answer=5)
    sharp = plan(config(tiny_folder, train={"sharpness": 0.1}), prompt=20, answer=5)
    assert sharp.flops == 2 * plain.flops
    assert sharp.memory.adapter == 2 * plain.memory.adapter
    bent = plan(config(tiny_folder, train={"adversarial": {"steps": 3}}), prompt=20, answer=5)
    alone = plan(
        config(tiny_folder, method="task-vector", train={"batch": {"forget": 3, "refuse": 0, "retain": 0}}),
        prompt=20, answer=5,
    )  # fmt: skip
    assert bent.flops == pytest.approx(plain.flops + 3 * alone.flops), "three harmful rows of six, forward and back"
    both = plan(config(tiny_folder, train={"adversarial": {"steps": 3}, "sharpness": 0.1}), prompt=20, answer=5)
    assert both.flops == 2 * bent.flops
    edit = plan(config(tiny_folder, method="rep-select"), prompt=20, answer=5)
    assert edit.memory.gradients == plain.memory.gradients + 4 * 4 * sum(a * b for a, b in LINEARS)


def test_half_precision_and_four_bits(tiny_folder):
    half = plan(config(tiny_folder, model_settings={"dtype": "bfloat16"}), prompt=20, answer=5)
    assert half.memory.weights == 2 * half.parameters
    four = plan(config(tiny_folder, model_settings={"dtype": "bfloat16", "quantisation": "4-bit"}), prompt=20, answer=5)
    packed = 4 * sum(a * b for a, b in LINEARS)
    assert four.memory.weights == int(2 * (four.parameters - packed) + FOUR_BIT_BYTES * packed)


def test_only_what_the_backward_pass_reaches_is_kept(tiny_folder):
    whole = plan(config(tiny_folder), prompt=20, answer=5)
    half = plan(config(tiny_folder, train={"lora": {"layers": "upper half"}}), prompt=20, answer=5)
    assert half.memory.activations == whole.memory.activations / 2
    assert half.trained == whole.trained / 2


@pytest.mark.parametrize(
    ("settings", "precision", "peak"),
    [
        ({}, "float32", 67e12),  # the default; TF32 is not switched on
        ({"dtype": "bfloat16"}, "bfloat16", 989e12),
        ({"dtype": "float16"}, "float16", 989e12),
        ({"dtype": "fastest"}, "bfloat16", 989e12),
        ({"quantisation": "4-bit"}, "bfloat16", 989e12),  # unpacked to half precision
    ],
)
def test_the_peak_is_that_of_the_precision(tiny_folder, settings, precision, peak):
    made = plan(config(tiny_folder, model_settings=settings), (1, "H100"), prompt=20, answer=5)
    assert made.precision == precision
    assert made.seconds == pytest.approx(made.flops / (peak * UTILISATION))


def test_every_card_is_slower_in_float32():
    for card in GPUS.values():
        assert card.peak(torch.float32) == card.single
        assert card.peak(torch.float16) == card.peak(torch.bfloat16) == card.half > 1.9 * card.single


def stored_in(dtype, tiny_folder, folder):
    """The tiny model's configuration alone, as a checkpoint that is published in this precision has it."""
    written = json.loads((tiny_folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, "dtype": dtype}))
    return folder


@pytest.mark.parametrize(("stored", "width"), [("float32", 4), ("bfloat16", 2)])
def test_auto_is_as_wide_as_the_checkpoint(tiny_folder, tmp_path, stored, width):
    folder = stored_in(stored, tiny_folder, tmp_path)
    made = plan(config(folder, model_settings={"dtype": "auto"}), (1, "H100"), prompt=20, answer=5)
    assert made.precision == stored
    assert made.memory.weights == width * made.parameters
    same = plan(config(folder, model_settings={"dtype": stored}), (1, "H100"), prompt=20, answer=5)
    assert made == same


@pytest.mark.parametrize(("found", "width"), [("float32", 4), ("bfloat16", 2)])
def test_fastest_is_asked_of_this_machine_only_where_it_trains(tiny_folder, monkeypatch, found, width):
    monkeypatch.setattr("unsay.models.precision._fastest", lambda kind: found)
    settings = {"dtype": "fastest"}
    here = plan(config(tiny_folder, model_settings=settings), prompt=20, answer=5)
    assert here.memory.weights == width * here.parameters
    card = plan(config(tiny_folder, model_settings=settings), (1, "L4"), prompt=20, answer=5)
    assert card.memory.weights == 2 * card.parameters


def test_time_is_operations_by_speed_and_cards(tiny_folder):
    one = plan(config(tiny_folder), (1, "H100"), prompt=20, answer=5)
    assert one.fits
    batch = {"batch": {"forget": 2, "refuse": 4, "retain": 6}}
    two = plan(config(tiny_folder, train=batch), (2, "H100"), prompt=20, answer=5)
    assert two.flops == 2 * one.flops
    assert two.seconds == pytest.approx(one.seconds)
    assert two.memory == one.memory  # each card has its share
    with pytest.raises(UserError, match=r"train.batch.\w+: \d rows do not divide by 2 processes"):
        plan(config(tiny_folder), (2, "H100"))


def test_turns_recomputation_and_eight_bits_save_what_they_should(tiny_folder):
    batch = {"batch": {"forget": 2, "refuse": 4, "retain": 6}}
    plain = plan(config(tiny_folder, train=batch), prompt=20, answer=5)
    turns = plan(config(tiny_folder, train={**batch, "accumulate": 2}), prompt=20, answer=5)
    assert turns.memory.activations == plain.memory.activations / 2
    assert (turns.tokens, turns.flops) == (plain.tokens, plain.flops)
    again = plan(config(tiny_folder, train={**batch, "recompute": True}), prompt=20, answer=5)
    assert again.memory.activations == plain.memory.activations / 4 + plain.tokens * 4 * HIDDEN * 4  # one block of four
    layers = 4 * sum(a * b + 16 * (a + b) for a, b in LINEARS) + 4 * 2 * HIDDEN
    assert again.flops - plain.flops == 2 * layers * plain.tokens  # one more forward
    eight = plan(config(tiny_folder, train={**batch, "optimizer": "adamw-8bit"}), prompt=20, answer=5)
    assert eight.memory.optimiser == plain.memory.optimiser / 4


def test_split_layers_are_shared_among_the_cards(tiny_folder):
    batch = {"batch": {"forget": 4, "refuse": 8, "retain": 12}}
    whole = plan(config(tiny_folder, train=batch), (4, "H100"), prompt=20, answer=5)
    split = plan(config(tiny_folder, train=batch), (4, "H100"), prompt=20, answer=5, sharded=True)
    layer = 4 * (sum(a * b for a, b in LINEARS) + 2 * HIDDEN)
    assert whole.memory.weights - split.memory.weights == 4 * layer - layer - 2 * layer  # a quarter, and two at work
    assert split.memory.activations == whole.memory.activations


@pytest.mark.parametrize(
    ("data", "image_tokens"),
    [({}, 9), ({"modality": "typographic"}, 0), ({"retain_modality": {"text": 1, "image": 1}}, 0)],
)
def test_pictures_are_not_split_and_the_plan_says_so_as_training_does(tiny_folder, data, image_tokens):
    settings = config(tiny_folder, data=data, train={"batch": {"forget": 2, "refuse": 2, "retain": 2}})
    with pytest.raises(UserError, match="pictures cannot be trained on a model that is split"):
        plan(settings, (2, "H100"), image_tokens=image_tokens, sharded=True)
    plan(settings, (2, "H100"), image_tokens=image_tokens)
    plan(settings, (1, "H100"), image_tokens=image_tokens, sharded=True)  # one card has nothing to split


def test_four_bits_are_not_split_and_memory_is_never_negative(tiny_folder):
    batch = {"batch": {"forget": 8, "refuse": 8, "retain": 8}}
    settings = config(tiny_folder, train=batch, model_settings={"dtype": "bfloat16", "quantisation": "4-bit"})
    with pytest.raises(UserError, match="4 bits cannot be split"):
        plan(settings, (8, "H100"), sharded=True)
    assert min(vars(plan(settings, (8, "H100")).memory).values()) >= 0


def test_a_pictures_tokens_are_counted_with_its_prompt(tiny_folder):
    assert plan(config(tiny_folder), prompt=20, image_tokens=9, answer=5) == plan(
        config(tiny_folder), prompt=29, answer=5
    )


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("dpo", {}),
        ("prompt-decouple", {}),
        ("prompt-decouple", {"forget_weight": 0.5, "refuse_weight": 0}),
        ("textual-unlearning", {"mismatch_weight": 1}),
        ("textual-unlearning", {}),
        ("gradient-ascent", {}),
    ],
)
def test_companions_are_rows_like_those_that_they_are_made_for(tiny_folder, method, settings):
    """What a step is planned to take is what the schedule's step takes, rows that a method makes included."""
    vlm = attach(load(str(tiny_folder)), LoraSettings(), 0)
    given = config(tiny_folder, method=method, method_settings=settings)
    needs = build_method(method, settings).needs
    paired = [row.model_copy(update={"prompt": "Say.", "request": "Say."}) for row in tiny.examples(4)]
    step = steps_of(paired, needs, given.train)[0]
    rows = [Encoded(row.id, part_of(row), (0,) * 20, (0,) * 5) for row in step]
    made = plan(given, prompt=20, answer=5)
    assert made.tokens == 25 * len(step)
    assert made.flops == step_flops(vlm, collate(rows), needs)


def test_companions_take_memory_too(tiny_folder):
    batch = {"forget": 8, "refuse": 8, "retain": 8}
    dpo = plan(config(tiny_folder, method="dpo", train={"batch": batch, "head_chunk": 512}), prompt=20, answer=5)
    plain = plan(
        config(tiny_folder, method="grad-diff", train={"batch": batch, "head_chunk": 512}), prompt=20, answer=5
    )
    assert (dpo.tokens, plain.tokens) == (24 * 25, 16 * 25)
    assert dpo.memory.activations == plain.memory.activations * 3 / 2
    assert dpo.memory.reference == 24 * 5 * HIDDEN * 4


def test_operations_are_those_that_training_counts(tiny_folder):
    from unsay.planning.estimate import uniform_batch

    vlm = attach(load(str(tiny_folder)), LoraSettings(), 0)
    batch = uniform_batch({Role.FORGET: 1, Role.REFUSE: 2, Role.RETAIN: 3}, 20, 5)
    counted = step_flops(vlm, batch, build_method("textual-unlearning").needs)
    # On the meta device the adapter's own parameters are counted with the layers, as they are here.
    assert plan(config(tiny_folder), prompt=20, answer=5).flops == counted


def test_what_does_not_fit_says_so(tiny_folder, monkeypatch):
    small = copy.replace(GPUS["L4"], memory_bytes=10**6) if hasattr(copy, "replace") else None
    if small is None:
        from dataclasses import replace

        small = replace(GPUS["L4"], memory_bytes=10**6)
    monkeypatch.setitem(GPUS, "L4", small)
    assert plan(config(tiny_folder), (1, "L4")).fits is False


@pytest.mark.parametrize(
    ("text", "cards"), [("1xH100", (1, "H100")), ("8xa100-80", (8, "A100-80")), ("rtx4090", (1, "RTX4090"))]
)
def test_cards_are_read(text, cards):
    assert parse_gpus(text) == cards


@pytest.mark.parametrize("text", ["", "0xH100", "x", "2xH1000", "-1xL4", "axL4", "H100x2"])
def test_cards_that_nobody_has_are_named(text):
    with pytest.raises(UserError, match=r"--gpus: .*known are H200"):
        parse_gpus(text)


def test_a_model_without_a_configuration_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="configuration cannot be read") as found:
        plan(config(tmp_path / "empty"))
    assert "\n" not in str(found.value)


def test_no_weights_are_read(tiny_folder, tmp_path):
    (tmp_path / "config.json").write_text((tiny_folder / "config.json").read_text())
    assert plan(config(tmp_path)).parameters == plan(config(tiny_folder)).parameters


def test_the_command_prints_it(tiny_folder, tmp_path, monkeypatch, capsys):
    from unsay import cli

    (tmp_path / "my.yaml").write_text(f"model: {tiny_folder}\n")
    monkeypatch.setattr("sys.argv", ["unsay", "plan", "--config", str(tmp_path / "my.yaml"), "--gpus", "1xL4"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "activations" in said
    assert "35% of the float32 peak" in " ".join(said.split())
    assert "fits" in said


def test_the_command_refuses_what_training_would(tiny_folder, tmp_path, monkeypatch, capsys):
    from unsay import cli

    (tmp_path / "my.yaml").write_text(f"model: {tiny_folder}\n")
    command = ["unsay", "plan", "--config", str(tmp_path / "my.yaml"), "--gpus", "8xL4", "--image-tokens", "9"]
    for launch, code in (("ddp", 0), ("fsdp2", 2), ("zero3", 2)):
        monkeypatch.setattr("sys.argv", [*command, "--launch", launch])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
    assert "pictures cannot be trained on a model that is split" in capsys.readouterr().err


def test_the_meta_device_is_left_behind(tiny_folder):
    plan(config(tiny_folder))
    assert torch.zeros(1).device.type == "cpu"
