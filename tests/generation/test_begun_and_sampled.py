"""Answers that somebody else has begun, and many sampled answers to one prompt."""

import json

import pytest
import torch

from helpers import tiny
from unsay.generation import GenerationSettings, respond
from unsay.generation import responses as responses_module
from unsay.generation.prompts import encode_prompts, model_inputs
from unsay.records import Kind, Modality, Prompt

GREEDY = GenerationSettings(max_new_tokens=5)
SAMPLED = GenerationSettings(max_new_tokens=5, temperature=1.0)
BEGUN = "Here are three"


def prompts(count=2):
    about = {"suite": "toy", "kind": Kind.ATTACK, "modality": Modality.TEXT}
    texts = enumerate(tiny.PROMPTS[:count])
    return [Prompt(id=f"p{number}", prompt=text, request=text, group=text, **about) for number, text in texts]


def test_a_begun_answer_goes_on_where_the_given_words_end(any_vlm, tmp_path):
    rows = prompts()
    plain, begun = respond(any_vlm, rows, GREEDY, tmp_path / "r.jsonl", begun={"p1": BEGUN})
    assert plain == respond(any_vlm, rows, GREEDY, tmp_path / "plain.jsonl")[0]
    assert begun.response.startswith(BEGUN)

    [encoded] = encode_prompts(any_vlm, rows[1:], GREEDY, {"p1": BEGUN})
    assert encoded.text == any_vlm.render(any_vlm.escape(rows[1].prompt)) + any_vlm.answer_lead + BEGUN
    ids = model_inputs(any_vlm, [encoded])["input_ids"]
    start = ids.shape[1]
    for _ in range(GREEDY.max_new_tokens):
        with torch.inference_mode():
            ids = torch.cat([ids, any_vlm.base(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        if int(ids[0, -1]) in any_vlm.end_tokens:
            break
    given = any_vlm.tokenizer(BEGUN, add_special_tokens=False)["input_ids"]
    by_hand = any_vlm.tokenizer.decode([*given, *ids[0, start:].tolist()], skip_special_tokens=True).strip()
    assert (begun.response, begun.tokens) == (by_hand, ids.shape[1] - start)


def test_an_answer_is_cached_under_the_words_that_begin_it(tiny_vlm, tmp_path, monkeypatch):
    first = respond(tiny_vlm, prompts(1), GREEDY, tmp_path / "r.jsonl", begun={"p0": BEGUN})
    other = respond(tiny_vlm, prompts(1), GREEDY, tmp_path / "r.jsonl", begun={"p0": "There are no"})
    assert first != other
    monkeypatch.setattr(responses_module, "greedy", lambda *_: pytest.fail("it was answered before"))
    assert respond(tiny_vlm, prompts(1), GREEDY, tmp_path / "r.jsonl", begun={"p0": BEGUN}) == first


def test_control_tokens_in_the_given_words_end_no_turn(tiny_vlm):
    [encoded] = encode_prompts(tiny_vlm, prompts(1), GREEDY, {"p0": "Yes<|im_end|>"})
    assert encoded.text.endswith("Yes< |im_end|>")


def test_samples_are_kept_apart_and_depend_on_no_other_prompt(any_vlm, tmp_path, monkeypatch):
    together = respond(any_vlm, prompts(), SAMPLED, tmp_path / "a" / "r.jsonl", samples=6)
    assert [row.id for row in together] == [f"p{prompt}#{number}" for prompt in range(2) for number in range(6)]
    assert len({row.response for row in together[:6]}) > 3
    alone = respond(any_vlm, prompts()[1:], SAMPLED, tmp_path / "b" / "r.jsonl", samples=6)
    assert alone == together[6:]
    lines = (tmp_path / "a" / "cache.jsonl").read_text().splitlines()
    assert len({json.loads(line)[0] for line in lines if line}) == 12
    monkeypatch.setattr(responses_module, "_samples", lambda *_: pytest.fail("they were drawn before"))
    assert respond(any_vlm, prompts(), SAMPLED, tmp_path / "a" / "r.jsonl", samples=6) == together


def test_other_seeds_and_temperatures_give_other_samples(tiny_vlm, tmp_path):
    changes = ({}, {"seed": 1}, {"temperature": 0.7})
    drawn = [
        tuple(
            row.response
            for row in respond(
                tiny_vlm, prompts(1), SAMPLED.model_copy(update=change), tmp_path / str(n) / "r.jsonl", samples=6
            )
        )
        for n, change in enumerate(changes)
    ]
    assert len(set(drawn)) == 3


def test_samples_follow_the_models_own_chances(tiny_vlm, tmp_path):
    one, n = SAMPLED.model_copy(update={"max_new_tokens": 1, "temperature": 0.5}), 1500
    [encoded] = encode_prompts(tiny_vlm, prompts(1), one)
    with torch.inference_mode():
        logits = tiny_vlm.base(input_ids=torch.tensor([encoded.ids])).logits[0, -1]
    chance, token = (logits / 0.5).softmax(0).max(0)
    drawn = responses_module._samples(tiny_vlm, encoded, one, n)
    share = sum(answer == [int(token)] for answer in drawn) / n
    error = (float(chance) * (1 - float(chance)) / n) ** 0.5
    assert 0.02 < float(chance) < 0.98
    assert abs(share - float(chance)) < 4 * error


@pytest.mark.parametrize(
    "preferred", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"typical_p": 1e-9}, {"epsilon_cutoff": 0.99}]
)
def test_a_checkpoint_does_not_choose_what_is_drawn_from(tiny_vlm, monkeypatch, preferred):
    monkeypatch.setattr(responses_module, "greedy_is_exact", lambda *_: False)  # so transformers' `generate` answers
    for name, value in preferred.items():
        monkeypatch.setattr(tiny_vlm.base.generation_config, name, value)
    hot = SAMPLED.model_copy(update={"max_new_tokens": 1, "temperature": 5.0})
    [encoded] = encode_prompts(tiny_vlm, prompts(1), hot)
    drawn = {tuple(answer) for answer in responses_module._samples(tiny_vlm, encoded, hot, 200)}
    assert len(drawn) > 60, "more than the 50 likeliest tokens, which the library takes by default"


def test_samples_of_other_batches_are_drawn_anew(tiny_vlm, tmp_path):
    alone, together = (SAMPLED.model_copy(update={"batch_tokens": tokens}) for tokens in (1, 6000))
    one = respond(tiny_vlm, prompts(1), alone, tmp_path / "a" / "r.jsonl", samples=6)
    other = respond(tiny_vlm, prompts(1), together, tmp_path / "a" / "r.jsonl", samples=6)
    assert other == respond(tiny_vlm, prompts(1), together, tmp_path / "b" / "r.jsonl", samples=6)
    assert one != other
    greedy = [GREEDY.model_copy(update={"batch_tokens": tokens}) for tokens in (1, 6000)]
    keys = {responses_module.model_key(tiny_vlm, settings) for settings in greedy}
    assert len(keys) == 1


def test_several_greedy_answers_are_refused(tiny_vlm, tmp_path):
    with pytest.raises(ValueError, match="give a temperature"):
        respond(tiny_vlm, prompts(1), GREEDY, tmp_path / "r.jsonl", samples=2)
