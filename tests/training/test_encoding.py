"""Exactly the answer's tokens are scored, on every family; and batches against one worked out by hand."""

from itertools import pairwise

import pytest
import torch

from helpers import tiny
from unsay.errors import UserError
from unsay.models.loading import load_skeleton
from unsay.records import Example, Role
from unsay.training.encode import Encoded, collate, encode

LIMITS = {"max_prompt_tokens": 256, "max_answer_tokens": 64}
END = {"tiny-llava": "<|im_end|>", "tiny-idefics3": "<end_of_utterance>", "pocket": "<|im_end|>"}


def example(**more):
    fields = {"id": "x", "role": Role.REFUSE, "prompt": tiny.PROMPTS[0], "answer": tiny.ANSWERS[0], "source": "toy"}
    return Example(**{**fields, **more})


def scored(vlm, encoded):
    """The text of the tokens that a batch scores, by way of the batch itself."""
    batch = collate([encoded])
    assert torch.equal(batch.input_ids[batch.rows, batch.predictors + 1], batch.targets)
    return vlm.tokenizer.decode(batch.targets.tolist())


def check_scored_tokens(vlm):
    for prompt, answer in zip(tiny.PROMPTS, tiny.ANSWERS, strict=True):
        encoded = encode(vlm, example(prompt=prompt, answer=answer), **LIMITS)
        assert scored(vlm, encoded) == answer + END[vlm.name]
        assert vlm.tokenizer.decode(encoded.prompt_ids) == vlm.render(prompt)


def check_no_token_spans_the_border(vlm):
    """Prompt and answer are tokenised apart: the prompt's ids are the same whatever the answer begins with."""
    bare = vlm.encode_prompt("Go on")
    for answer in ("ing", " ing", "\n\nand", "assistant"):
        encoded = encode(vlm, example(prompt="Go on", answer=answer), **LIMITS)
        assert list(encoded.prompt_ids) == bare
        assert vlm.tokenizer.decode(encoded.answer_ids) == answer + END[vlm.name]


def check_what_is_given_is_not_scored(vlm):
    """The masks, decoded: only the rest of an answer is learned, and the whole reads as one text."""
    for begun, rest in ((tiny.ANSWERS[1] + " ", "I can't help with that."), ("The sea is w", "ide."), ("a", "b c")):
        encoded = encode(vlm, example(prefix=begun, answer=rest), **LIMITS)
        whole = vlm.tokenizer.decode([*encoded.prompt_ids, *encoded.answer_ids])
        assert whole == vlm.render(tiny.PROMPTS[0]) + begun + rest + END[vlm.name]
        said = scored(vlm, encoded)
        # A token may span the border; it is then scored. A blank before a word always belongs to the word's token.
        assert said.endswith(rest + END[vlm.name])
        assert len(said) - len(rest + END[vlm.name]) <= 2
        cut = encode(vlm, example(prefix=begun, answer=rest, complete=False), **LIMITS)
        assert scored(vlm, cut) == said.removesuffix(END[vlm.name])
    plain, empty = example(), example(prefix="")
    assert encode(vlm, plain, **LIMITS) == encode(vlm, empty, **LIMITS)


def test_what_is_given_of_an_answer_is_not_scored(any_vlm):
    check_what_is_given_is_not_scored(any_vlm)


def test_tokens_given_of_an_answer_count_neither_as_prompt_nor_as_answer(tiny_vlm):
    words = len(tiny_vlm.encode_prompt(tiny.PROMPTS[0]))
    given = example(prefix="one two three four five six seven eight ", answer="No.")
    encoded = encode(tiny_vlm, given, max_prompt_tokens=words, max_answer_tokens=2)
    assert len(encoded.answer_ids) == 2
    assert len(encoded.prompt_ids) > words + 8


def test_a_model_tells_where_its_tokens_end(any_vlm):
    for text in (*tiny.ANSWERS, "höher – naïve", ""):
        ends = any_vlm.token_ends(text)
        assert ends == sorted(set(ends))
        assert (ends[-1] if ends else 0) == len(text)
    text = tiny.ANSWERS[0]
    ids = any_vlm.tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = [text[start:end] for start, end in pairwise([0, *any_vlm.token_ends(text)])]
    assert pieces == [any_vlm.tokenizer.decode([token]) for token in ids]


def test_scored_tokens_decode_to_the_answer_and_its_end(any_vlm):
    check_scored_tokens(any_vlm)


def test_no_token_spans_the_border(any_vlm):
    check_no_token_spans_the_border(any_vlm)


def test_without_weights_the_same_tokens_are_made(any_vlm, tmp_path):
    any_vlm.model.config.save_pretrained(tmp_path)
    any_vlm.model.generation_config.save_pretrained(tmp_path)
    any_vlm.processor.save_pretrained(tmp_path)
    bare = load_skeleton(str(tmp_path), processor=True)
    assert {parameter.device.type for parameter in bare.model.parameters()} == {"meta"}
    for prompt, answer in zip(tiny.PROMPTS, tiny.ANSWERS, strict=True):
        row = example(prompt=prompt, answer=answer)
        assert encode(bare, row, **LIMITS) == encode(any_vlm, row, **LIMITS)
    assert (bare.context, bare.end_tokens) == (any_vlm.context, any_vlm.end_tokens)


def test_a_model_that_is_not_there_makes_no_tokens(tmp_path):
    with pytest.raises(UserError, match="none: no such folder"):
        load_skeleton(str(tmp_path / "none"), processor=True)


@pytest.mark.pocket
def test_pocket_scores_exactly_the_answer(pocket_vlm):
    check_scored_tokens(pocket_vlm)
    check_what_is_given_is_not_scored(pocket_vlm)
    check_no_token_spans_the_border(pocket_vlm)


def test_the_whole_is_what_the_chat_template_writes(any_vlm):
    """A border in the right place: prompt + answer is the template's own rendering of the conversation."""
    vlm = any_vlm
    encoded = encode(vlm, example(prompt="Say hello.", answer="Hello there!"), **LIMITS)
    parts = [{"type": "text", "text": "Hello there!"}]
    chat = [{"role": "user", "content": vlm.content("Say hello.", False)}, {"role": "assistant", "content": parts}]
    whole = vlm.processor.apply_chat_template(chat, tokenize=False)
    decoded = vlm.tokenizer.decode([*encoded.prompt_ids, *encoded.answer_ids])
    assert whole.startswith(decoded)


def test_answers_that_were_cut_off_have_no_end_token(tiny_vlm):
    whole = encode(tiny_vlm, example(), **LIMITS)
    cut_before = encode(tiny_vlm, example(complete=False), **LIMITS)
    assert cut_before.answer_ids == whole.answer_ids[:-1]
    assert scored(tiny_vlm, cut_before) == tiny.ANSWERS[0]

    cut_now = encode(tiny_vlm, example(), max_prompt_tokens=256, max_answer_tokens=5)
    assert cut_now.answer_ids == whole.answer_ids[:5]
    assert not set(cut_now.answer_ids) & tiny_vlm.end_tokens
    exactly = encode(tiny_vlm, example(), max_prompt_tokens=256, max_answer_tokens=len(whole.answer_ids))
    assert exactly == whole


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": "a.png"}, "image"),
        ({"answer": "  \n"}, "answer is empty"),
        ({"answer": "", "complete": False}, "answer is empty"),
        ({"prompt": "long " * 300}, "max_prompt_tokens"),
    ],
)
def test_bad_examples_are_named(tiny_vlm, changes, says):
    with pytest.raises(UserError, match=says) as caught:
        encode(tiny_vlm, example(**changes), **LIMITS)
    assert "example x" in str(caught.value)
    assert "\n" not in str(caught.value)


ROWS = [
    Encoded("a", Role.FORGET, (11, 12, 13), (21, 22)),
    Encoded("b", Role.RETAIN, (11,), (31, 32, 33, 34, 35)),
    Encoded("c", Role.REFUSE, (11, 12), (41,)),
    Encoded("d", Role.RETAIN, (14, 15), (51, 52)),
]


def test_collate_by_hand():
    batch = collate(ROWS)
    assert batch.roles == (Role.FORGET, Role.RETAIN, Role.REFUSE, Role.RETAIN)
    assert batch.input_ids.tolist() == [
        [11, 12, 13, 21, 22, 0],
        [11, 31, 32, 33, 34, 35],
        [11, 12, 41, 0, 0, 0],
        [14, 15, 51, 52, 0, 0],
    ]
    assert batch.attention_mask.tolist() == [[1] * 5 + [0], [1] * 6, [1] * 3 + [0] * 3, [1] * 4 + [0] * 2]
    assert batch.rows.tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 3, 3]
    assert batch.predictors.tolist() == [2, 3, 0, 1, 2, 3, 4, 1, 1, 2]
    assert batch.columns.tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 0, 1]
    assert batch.targets.tolist() == [21, 22, 31, 32, 33, 34, 35, 41, 51, 52]
    assert batch.tokens == 5 + 6 + 3 + 4


def test_subset_by_hand():
    batch = collate(ROWS)
    roles = frozenset({Role.FORGET, Role.REFUSE})
    assert batch.rows_of(roles) == [True, False, True, False]
    sub = batch.subset(batch.rows_of(roles))
    assert sub.roles == (Role.FORGET, Role.REFUSE)
    assert sub.input_ids.tolist() == [[11, 12, 13, 21, 22], [11, 12, 41, 0, 0]]  # trimmed to its own longest row
    assert sub.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert sub.rows.tolist() == [0, 0, 1]
    assert sub.predictors.tolist() == [2, 3, 1]
    assert sub.columns.tolist() == [0, 1, 0]
    assert sub.targets.tolist() == [21, 22, 41]
    assert batch.scored_in(roles) == [0, 1, 7]


def test_a_subset_of_no_rows_is_empty():
    batch = collate(ROWS[:1])
    sub = batch.subset(batch.rows_of(frozenset({Role.RETAIN})))
    assert sub.tokens == 0
    assert len(sub.targets) == 0
    assert batch.scored_in(frozenset({Role.RETAIN})) == []


def test_where_rows_are_scored_is_known_without_looking_at_tensors():
    batch = collate(ROWS)
    for row in range(len(ROWS)):
        numbers = list(batch.scored(row))
        assert batch.rows[numbers].tolist() == [row] * len(numbers)
        assert batch.predictors[numbers].tolist() == list(batch.predicting(row))


def test_a_prompt_reads_alike_in_training_and_in_answering(any_vlm):
    """Control tokens that somebody typed are letters in both: neither the end of a turn nor a picture."""
    placeholder = any_vlm.processor.image_token
    typed = f"Say <|im_end|> and {placeholder} and hello."
    ids = any_vlm.encode_prompt(typed)
    rendered = any_vlm.render(any_vlm.escape(typed))
    assert ids == any_vlm.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    end, image = (any_vlm.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", placeholder))
    harmless = any_vlm.encode_prompt("Say nothing and hello.")
    assert [ids.count(token) for token in (end, image)] == [harmless.count(token) for token in (end, image)]
