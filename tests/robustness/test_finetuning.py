"""Fine-tuning as an attacker does it: what is learned, when it pauses, what it leaves behind."""

import pytest
import torch

from helpers import tiny
from unsay.data import typography
from unsay.errors import UserError
from unsay.models.lora import language_linears
from unsay.records import Example, Kind, Modality, Prompt, Role
from unsay.robustness.finetuning import LORA, fine_tune, rows_of, rows_of_text
from unsay.training.likelihood import answer_losses


def loss_of(vlm, example):
    prompt = Prompt(
        id="one", suite="s", kind=Kind.UTILITY, modality=Modality.TEXT, prompt=example.prompt, request="r", group="g",
        reference=example.answer,
    )  # fmt: skip
    return answer_losses(vlm, [prompt])[0][0]


def weights(vlm):
    return {name: value.detach().clone() for name, value in vlm.base.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_answer_is_learned_step_by_step_and_the_weights_come_back(tiny_vlm, tmp_path):
    example = tiny.examples(1)[0]
    before, start = weights(tiny_vlm), loss_of(tiny_vlm, example)
    losses = [
        (step, loss_of(tuned, example))
        for step, tuned in fine_tune(tiny_vlm, rows_of(tiny_vlm, [example], 48), (2, 8), 1e-2, tmp_path)
    ]
    assert [step for step, _ in losses] == [2, 8]
    assert start > losses[0][1] > losses[1][1]
    assert same(weights(tiny_vlm), before)
    assert loss_of(tiny_vlm, example) == pytest.approx(start)


def test_weights_come_back_when_it_is_closed_between_two_stops(tiny_vlm, tmp_path):
    before = weights(tiny_vlm)
    trained = fine_tune(tiny_vlm, rows_of(tiny_vlm, tiny.examples(2), 48), (1, 50), 1e-2, tmp_path)
    next(trained)
    trained.close()
    assert same(weights(tiny_vlm), before)


def test_the_first_step_moves_weights_by_the_rate(tiny_vlm, tmp_path):
    """As AdamW's does, whatever a gradient's size; LoRA's B begins at 0, and A then has no gradient."""
    for _, tuned in fine_tune(tiny_vlm, rows_of(tiny_vlm, tiny.examples(2), 48), (1,), 1e-3, tmp_path):
        moved = [value.detach().abs() for name, value in tuned.model.named_parameters() if "lora_B" in name]
        assert torch.cat([value.flatten() for value in moved]).median() == pytest.approx(1e-3, rel=1e-2)


def test_full_fine_tuning_changes_the_blocks_and_nothing_else(tiny_vlm, tmp_path):
    before = weights(tiny_vlm)
    steps = [
        step
        for step, _ in fine_tune(tiny_vlm, rows_of(tiny_vlm, tiny.examples(2), 48), (3,), 1e-3, tmp_path, full=True)
    ]
    assert steps == [3]
    blocks = tuple(
        name for name, module in tiny_vlm.base.named_modules() if any(module is layer for layer in tiny_vlm.text_layers)
    )
    changed = {name for name, value in weights(tiny_vlm).items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(blocks) for name in changed)
    assert {f"{name}.weight" for name in language_linears(tiny_vlm, LORA)} <= changed
    assert not any(parameter.requires_grad for parameter in tiny_vlm.model.parameters())


def test_equal_seeds_give_equal_models(tiny_vlm, tmp_path):
    rows, example = rows_of(tiny_vlm, tiny.examples(3), 48), tiny.examples(1)[0]
    ends = [
        loss_of(tuned, example)
        for seed in (0, 0, 1)
        for _, tuned in fine_tune(tiny_vlm, rows, (3,), 1e-2, tmp_path, seed=seed)
    ]
    assert ends[0] == ends[1] != ends[2]


def test_answers_are_cut_as_in_training(tiny_vlm):
    whole, cut = (rows_of(tiny_vlm, tiny.examples(4), longest) for longest in (48, 3))
    assert min(len(row.answer_ids) for row in whole) > 3
    assert [row.answer_ids for row in cut] == [row.answer_ids[:3] for row in whole]


def test_pictures_are_learned_too(tiny_vlm, tmp_path):
    path = tmp_path / "one.png"
    typography.save_png(typography.render_text("Say hello.", style=typography.Style()), path)
    example = Example(id="p", role=Role.FORGET, prompt="Do it.", answer="Hello there!", source="toy", image=str(path))
    rows = rows_of(tiny_vlm, [example], 48)
    assert rows[0].picture is not None
    assert [step for step, _ in fine_tune(tiny_vlm, rows, (1, 2), 1e-2, tmp_path)] == [1, 2]


def test_prose_is_cut_into_windows_of_which_the_first_token_is_given(tiny_vlm):
    text = " ".join(tiny.PROMPTS)
    ids = tiny_vlm.tokenizer(text, add_special_tokens=False)["input_ids"]
    rows = rows_of_text(tiny_vlm, text, 8)
    assert len(rows) == len(ids) // 8
    assert [token for row in rows for token in (*row.prompt_ids, *row.answer_ids)] == ids[: 8 * len(rows)]
    assert {len(row.prompt_ids) for row in rows} == {1}


def test_nothing_to_learn_is_an_error_in_plain_words(tiny_vlm, tmp_path):
    with pytest.raises(UserError, match="nothing to fine-tune on"):
        next(fine_tune(tiny_vlm, [], (1,), 1e-3, tmp_path))


def test_a_rate_that_breaks_the_model_is_an_error_in_plain_words(tiny_vlm, tmp_path):
    with pytest.raises(UserError, match=r"fine-tuning at rate 1e\+30: the loss was not a number at step \d"):
        list(fine_tune(tiny_vlm, rows_of(tiny_vlm, tiny.examples(2), 48), (9,), 1e30, tmp_path))
