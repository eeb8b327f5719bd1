"""The check `image`: what steps on pixels do, whose gradients they follow, and that pictures are asked as made."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers import tiny
from helpers.scripted import REFUSAL, script
from unsay.data.pictures import read_image
from unsay.files import write_rows
from unsay.models.lora import LoraSettings, attach
from unsay.models.pixels import as_picture, pixel_path
from unsay.models.vision import accepts_features
from unsay.records import Role
from unsay.robustness import image
from unsay.robustness.image import EPSILONS, GREY, PixelLoss, Target, descend, noisy, step_size
from unsay.scoring.robustness import Subject

SIDE = tiny.IMAGE_SIZE
TARGETS = [Target(f"target {n}", prompt, answer) for n, (prompt, answer) in enumerate(
    zip(tiny.PROMPTS[:3], tiny.ANSWERS[:3], strict=True))]  # fmt: skip


def grey() -> torch.Tensor:
    return torch.full((SIDE, SIDE, 3), float(GREY))


def pixel_losses(vlm) -> list[PixelLoss]:
    blank = Image.new("RGB", (SIDE, SIDE))
    path = pixel_path(vlm, blank)
    assert path is not None
    return [PixelLoss(vlm, path, target, accepts_features(vlm, target.prompt, blank)) for target in TARGETS]


def total(losses: list[PixelLoss], pixels: torch.Tensor) -> float:
    with torch.no_grad():
        return sum(float(loss(pixels)) for loss in losses)


def test_steps_by_hand():
    weights = [torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([1.0, -1.0, 0.5, 0.0])]
    start = torch.tensor([[100.0, 100.0, 2.0, 7.0], [0.0, 255.0, 250.0, 7.0]])
    pixels = descend([lambda x, w=w: (x * w).sum() for w in weights], start, epsilon=8, steps=4)
    # Every pixel goes to the edge of the ball or of 0 to 255; one without gradient stays.
    assert pixels.tolist() == [[92.0, 108.0, 0.0, 7.0], [0.0, 255.0, 242.0, 7.0]]


def test_the_mean_of_several_losses_is_lowered():
    weights = [torch.tensor([3.0]), torch.tensor([-1.0]), torch.tensor([-1.0])]
    assert descend([lambda x, w=w: (x * w).sum() for w in weights], torch.tensor([100.0]), 8, 4).tolist() == [92.0]


def test_the_best_pixels_of_all_steps_are_kept():
    # Steps of 3 levels around a minimum at 101: 100 → 103 → 100 …; 101 is never left for anything worse.
    assert descend([lambda x: ((x - 101) ** 2).sum()], torch.tensor([100.0]), 8, 3).tolist() == [100.0]
    assert descend([lambda x: ((x - 101) ** 2).sum()], torch.tensor([101.0]), 8, 3).tolist() == [101.0]


def test_an_attack_on_a_larger_ball_begins_where_the_smaller_one_ended():
    start, begun = torch.tensor([100.0]), torch.tensor([92.0])
    assert descend([lambda x: x.sum()], start, 16, 2, begun).tolist() == [84.0]


@pytest.mark.parametrize(("epsilon", "steps", "levels"), [(8, 6, 2), (16, 6, 3), (32, 6, 6), (8, 100, 1)])
def test_step_sizes(epsilon, steps, levels):
    assert step_size(epsilon, steps) == levels


def test_noise_is_uniform_whole_levels_within_the_ball():
    made = noisy(grey(), 8, seed=0)
    difference = made - grey()
    assert set(difference.flatten().tolist()) == set(range(-8, 9))
    assert abs(float(difference.mean())) < 0.3
    assert torch.equal(made, noisy(grey(), 8, seed=0))
    assert not torch.equal(made, noisy(grey(), 8, seed=1))
    white = noisy(torch.full((1, SIDE, SIDE, 3), 255.0), 8, seed=0)
    assert float(white.max()) == 255


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("as_features", [True, False])
def test_the_loss_is_that_of_the_picture_as_it_is_saved(family, as_features):
    """Against the processor and transformers' own loss, on the 8-bit picture."""
    vlm = tiny.FAMILIES[family]()
    pixels = noisy(grey(), 60, seed=3)
    for target, loss in zip(TARGETS, pixel_losses(vlm), strict=True):
        inputs = vlm.encode_picture(target.prompt, as_picture(pixels))
        answer = vlm.tokenizer(target.answer, add_special_tokens=False)["input_ids"][: image.ANSWER_TOKENS]
        answer = torch.tensor([answer])
        prompt = inputs.pop("input_ids")
        ids = torch.cat([prompt, answer], dim=1)
        inputs["attention_mask"] = torch.ones_like(ids)
        labels = torch.cat([torch.full_like(prompt, -100), answer], dim=1)
        wanted = vlm.base(input_ids=ids, labels=labels, **inputs).loss.item()
        assert PixelLoss(vlm, loss.path, target, as_features)(pixels).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("as_features", [True, False])
def test_gradients_pass_the_tower_and_the_projector(as_features):
    vlm = tiny.llava()
    loss = PixelLoss(vlm, pixel_losses(vlm)[0].path, TARGETS[0], as_features)
    pixels = noisy(grey(), 40, seed=0).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pixels), pixels)
    direction = gradient / gradient.norm()
    width = 2.0  # levels along the gradient
    with torch.no_grad():
        up, down = (loss(pixels + sign * width * direction).item() for sign in (1, -1))
    assert (up - down) / (2 * width) == pytest.approx(float(gradient.norm()), rel=0.05)


def test_a_model_that_a_picture_moves_is_moved_and_noise_moves_it_less():
    losses = pixel_losses(tiny.llava())
    fallen = by_noise = 0.0
    for loss in losses:
        attacked = descend([loss], grey(), 32, 8)
        fell = total([loss], grey()) - total([loss], attacked)
        assert fell > 0
        assert float((attacked - grey()).abs().max()) <= 32
        assert torch.equal(attacked, attacked.round())
        fallen += fell
        by_noise += abs(total([loss], grey()) - total([loss], noisy(grey(), 32, seed=0)))
    assert fallen > 3 * by_noise


def test_a_model_that_sees_nothing_is_not_moved():
    vlm = tiny.llava()
    with torch.no_grad():
        vlm.base.model.multi_modal_projector.linear_2.weight.zero_()
    assert torch.equal(descend(pixel_losses(vlm), grey(), 32, 3), grey())


def test_an_untrained_adapter_is_attacked_like_the_original():
    vlm = tiny.llava()
    wanted = descend(pixel_losses(vlm), grey(), 16, 3)
    assert not torch.equal(wanted, grey())
    assert torch.equal(descend(pixel_losses(attach(vlm, LoraSettings(rank=2), seed=0)), grey(), 16, 3), wanted)


def dazzled(prompt, unlearned: bool) -> str:
    """The unlearned model answers beside an attacked picture alone, which its file's name gives away."""
    attacked = prompt.image is not None and prompt.image.endswith(".attack.png")
    return REFUSAL if unlearned and not attacked else f"An answer to {prompt.id}."


def test_the_check_shows_what_it_made_and_counts_from_noise(attack, unlearned, monkeypatch):
    asked = script(monkeypatch, dazzled)
    monkeypatch.setattr(image, "STEPS", 2)
    result = attack(image.CHECK)
    assert result.notes == ()
    for picture, suite in (("universal", "advbench"), ("own", "advbench-typographic")):
        for epsilon in EPSILONS:
            setting = {"picture": picture, "epsilon": epsilon}
            row = result.outcome(Subject.UNLEARNED, suite, {**setting, "pixels": "attack"})
            noise = result.outcome(Subject.UNLEARNED, suite, {**setting, "pixels": "noise"})
            assert (row.counts.rate, noise.counts.rate, row.change.difference) == (1.0, 0.0, 1.0)
            assert row.from_reference.difference == 0.0
        lost = [result.number("loss", Subject.UNLEARNED, setting={"picture": picture, "epsilon": e, "pixels": p}).value
                for e, p in [(0, "unchanged"), *((e, "attack") for e in EPSILONS)]]  # fmt: skip
        assert lost == sorted(lost, reverse=True)
        assert lost[-1] < lost[0]
        assert all(math.isfinite(value) for value in lost)
    assert result.outcome(Subject.UNLEARNED, "advbench", {"picture": "white"}).counts.condition == "blank image"

    shown = {Path(row.image) for row in asked if row.image and row.image.endswith(".attack.png")}
    assert len(shown) == 2 * len(EPSILONS) * (1 + 2)
    start = {row.id: row for row in asked if row.suite == "advbench-typographic"}
    for file in shown:
        name, epsilon = file.name.split(".")[0], int(file.name.split(".")[1])
        made = torch.tensor(list(read_image(file).getdata())).float()
        if name == "universal":
            assert float((made - GREY).abs().max()) <= epsilon
        else:
            assert name in start


def test_the_universal_picture_is_made_with_whole_answers(attack, unlearned, monkeypatch):
    script(monkeypatch, lambda *_: REFUSAL)
    targets = []

    def losses(_vlm, _path, target, **_more):
        targets.append(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(image, "PixelLoss", losses)
    rows = [row.model_copy(update={"prefix": "[begun] "}) for row in tiny.examples() if row.role is Role.FORGET]
    write_rows(unlearned / "train" / "examples.jsonl", rows)
    with pytest.raises(KeyboardInterrupt):
        attack(image.CHECK)
    assert targets[0].answer in {f"[begun] {row.answer}" for row in rows}


def test_a_kill_after_the_pictures_does_not_make_them_again(attack, unlearned, monkeypatch):
    script(monkeypatch, dazzled)
    monkeypatch.setattr(image, "STEPS", 1)
    first = attack(image.CHECK)
    for file in (unlearned / "stages").glob("robustness-image*"):
        file.unlink()
    monkeypatch.setattr(image, "descend", lambda *_: pytest.fail("a picture was made again"))
    again = attack(image.CHECK)
    assert (again.outcomes, again.numbers) == (first.outcomes, first.numbers)


def test_a_family_without_gradients_keeps_the_white_picture(attack, monkeypatch):
    script(monkeypatch, dazzled)
    monkeypatch.setattr(image, "pixel_path", lambda *_: None)
    result = attack(image.CHECK)
    assert [row.setting for row in result.outcomes] == [{"picture": "white"}] * 2
    assert result.numbers == ()
    assert [note.startswith("no attack on pixels") for note in result.notes] == [True]


def test_an_original_that_refuses_leaves_nothing_to_aim_at(attack, monkeypatch):
    script(monkeypatch, lambda *_: REFUSAL)
    monkeypatch.setattr(image, "STEPS", 1)
    result = attack(image.CHECK)
    assert any("nothing to aim at" in note for note in result.notes)
    assert {row.setting.get("picture") for row in result.outcomes} == {"white", "universal"}
    assert {row.counts.rate for row in result.outcomes} == {0.0}


def test_forget_examples_that_are_all_pictures_fail_in_one_line(attack, unlearned, monkeypatch):
    script(monkeypatch, dazzled)
    rows = [row.model_copy(update={"image": "picture.png"}) for row in tiny.examples() if row.role is Role.FORGET]
    write_rows(unlearned / "train" / "examples.jsonl", rows)
    with pytest.raises(AssertionError, match="no forget examples in words"):
        attack(image.CHECK)
