"""Pruning: masks by hand, published order, and what it costs."""

import pytest
import torch

from helpers import tiny
from unsay.errors import UserError
from unsay.files import write_rows
from unsay.records import Role
from unsay.robustness import prune
from unsay.robustness.finetuning import rows_of
from unsay.robustness.weights import changing
from unsay.scoring.robustness import Subject
from unsay.training.encode import collate


def test_wandas_mask_by_hand():
    """Of each row one of three weights goes: the one whose size times its input's size is least."""
    weight = torch.tensor([[1.0, -2.0, 3.0], [4.0, 0.5, -1.0]])
    squares = torch.tensor([9.0, 1.0, 0.25])  # inputs of size 3, 1 and 1/2
    scores = prune.wanda_scores(weight, squares)
    assert scores.tolist() == [[3.0, 2.0, 1.5], [12.0, 0.5, 0.5]]
    assert prune.smallest(scores, 1 / 3).tolist() == [[False, False, True], [False, True, False]]
    assert prune.smallest(scores, 0.3).sum() == 0  # rounded down
    assert prune.smallest(scores, 0.7).tolist() == [[False, True, True], [False, True, True]]


def test_magnitude_takes_the_smallest_of_the_whole_linear():
    linear = torch.nn.Linear(3, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0, -2.0, 3.0], [4.0, 0.5, -1.5]])
    prune.by_magnitude([linear], 0.5)
    assert linear.weight.tolist() == [[0.0, -2.0, 3.0], [4.0, 0.0, 0.0]]


def test_wanda_goes_by_inputs_of_real_tokens_behind_pruned_blocks(tiny_vlm):
    """Against the same done the slow way: one row at a time, a pass for every block."""
    rows = rows_of(tiny_vlm, tiny.examples(3), 48)
    assert len({row.length for row in rows}) > 1  # so that there is padding
    with changing(tiny_vlm) as linears:
        prune.by_wanda(tiny_vlm, list(linears.values()), 0.5, rows)
        ours = {name: linear.weight.clone() for name, linear in linears.items()}
    names = {id(linear): name for name, linear in linears.items()}
    with changing(tiny_vlm):
        for block in tiny_vlm.text_layers:
            squares = dict.fromkeys((m for m in block.modules() if id(m) in names), 0.0)

            def add(linear, inputs, squares=squares):
                squares[linear] = squares[linear] + inputs[0].reshape(-1, linear.in_features).square().sum(dim=0)

            hooks = [linear.register_forward_pre_hook(add) for linear in squares]
            for row in rows:
                with torch.no_grad():
                    tiny_vlm.decoder(input_ids=collate([row]).input_ids)
            for hook in hooks:
                hook.remove()
            for linear, sums in squares.items():
                scores = prune.wanda_scores(linear.weight, sums)
                linear.weight.data[prune.smallest(scores, 0.5)] = 0
        for linear in linears.values():
            name = names[id(linear)]
            assert torch.equal(ours[name] == 0, linear.weight == 0), name
            assert (ours[name] == 0).sum() == (linear.in_features // 2) * linear.out_features


def test_wanda_keeps_what_the_rows_need_and_magnitude_does_not():
    """A planted weakness: a small weight on a large input carries all of the output."""
    weight = torch.tensor([[0.1, 1.0, 1.0, 1.0]])
    squares = torch.tensor([1e6, 1.0, 1.0, 1.0])
    assert not prune.smallest(prune.wanda_scores(weight, squares), 0.5)[0, 0]
    assert prune.smallest(weight.abs(), 0.5)[0, 0]


def test_weights_come_back_and_hooks_are_gone(any_vlm):
    before = {name: value.clone() for name, value in any_vlm.base.state_dict().items()}
    with changing(any_vlm) as linears:
        prune.by_wanda(any_vlm, list(linears.values()), 0.3, rows_of(any_vlm, tiny.examples(2), 48))
        assert any((linear.weight == 0).any() for linear in linears.values())
    assert all(torch.equal(value, before[name]) for name, value in any_vlm.base.state_dict().items())
    assert not any("forward" in vars(block) for block in any_vlm.text_layers)


def test_both_scores_are_tried_on_both_subjects_with_utility_beside_them(attack):
    result = attack(prune.CHECK, quick=False)
    for subject in Subject:
        for percent in prune.PERCENT:
            for score in ("magnitude", "wanda"):
                setting = {"score": score, "percent": percent}
                assert result.outcome(subject, "benign", setting).counts.n == 2
                assert result.number("loss", subject, setting=setting).value > 0
            assert result.outcome(subject, "advbench-figstep", {"score": "wanda", "percent": percent}).counts.n == 2
    assert result.number("loss", Subject.UNLEARNED, setting=setting).from_reference is not None


def test_the_loss_on_held_out_answers_is_that_of_the_tokens_that_teach(tiny_vlm, unlearned, attack, monkeypatch):
    """A cut answer has no end, and of a begun one only the rest counts; by hand from the whole model's logits."""
    whole, cut, begun = (row for row in tiny.examples(3) if row.role is Role.RETAIN)
    cut = cut.model_copy(update={"complete": False})
    begun = begun.model_copy(update={"prefix": "The heron, ", "complete": False})
    write_rows(unlearned / "train" / "probe.jsonl", [whole, cut, begun])
    monkeypatch.setattr(prune, "PERCENT", (10,))
    monkeypatch.setattr(prune, "by_magnitude", lambda *_: None)
    setting = {"score": "magnitude", "percent": 10}
    values = attack(prune.CHECK, quick=False).number("loss", Subject.REFERENCE, setting=setting).values
    for row in (whole, cut, begun):
        given, answer = tiny_vlm.encode_continuation(row.prefix or "", row.answer)
        answer = answer if row.complete else answer[: -len(tiny_vlm.answer_end)]
        prompt = [*tiny_vlm.encode_prompt(row.prompt), *given]
        with torch.no_grad():
            logits = tiny_vlm.base(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        by_hand = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(answer))
        assert values[row.id] == pytest.approx(float(by_hand), rel=1e-4)


def test_a_run_whose_retain_examples_are_all_pictures_is_refused():
    drawn = [row.model_copy(update={"image": "one.png"}) for row in tiny.examples(2) if row.role is Role.RETAIN]
    with pytest.raises(UserError, match="no retain examples in words"):
        prune.calibration_rows(drawn, seed=0)


def test_prompts_that_sound_harmful_do_not_calibrate_where_there_are_others():
    rows = [row for row in tiny.examples(40) if row.role is Role.RETAIN]
    alarming = [row.model_copy(update={"id": f"x{row.id}", "subject": "fraud"}) for row in rows]
    chosen = prune.calibration_rows([*alarming, *rows], seed=0)
    assert len(chosen) == prune.CALIBRATION
    assert {row.subject for row in chosen} == {None}
    assert len(prune.calibration_rows(alarming, seed=0)) == prune.CALIBRATION
