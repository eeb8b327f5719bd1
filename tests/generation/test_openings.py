"""Log-odds of a refusal: the token paths of openings, and their probability by the loop, by the library, by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers import tiny
from unsay.generation import GenerationSettings, greedy, respond
from unsay.generation import responses as responses_module
from unsay.generation.greedy import greedy_is_exact
from unsay.generation.openings import OPENINGS, Openings, library_log_odds
from unsay.generation.prompts import encode_prompts, model_inputs
from unsay.journal import Journal
from unsay.records import Kind, Modality, Prompt, Response

SETTINGS = GenerationSettings(max_new_tokens=6)


def prompts(image=None, texts=(*tiny.PROMPTS, "Why? " * 20)):
    return [
        Prompt(
            id=f"p{number}", suite="toy", kind=Kind.BENIGN, modality=Modality.TEXT, prompt=text, request=text,
            group=text, image=image,
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "one.png"
    Image.new("RGB", (40, 30), "teal").save(path)
    return str(path)


def pieces(made, openings):
    """The tree as text: beginning → next tokens, with a full stop behind those that end an opening."""
    return {
        "|".join(made.convert_ids_to_tokens(node)): {
            made.convert_ids_to_tokens(token) + ("." if child is None else "") for token, child in nexts.items()
        }
        for node, nexts in zip(openings.nodes, openings.nexts, strict=True)
    }


def model_of(made, prompt="User: Hi\nAssistant:\n", lead=""):
    return SimpleNamespace(tokenizer=made, render=lambda _text: prompt, answer_lead=lead)


def byte_level():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    core.train_from_iterator([f"{opening} {opening}" for opening in OPENINGS] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def metaspace():
    """As SentencePiece: a blank belongs to the word behind it, and one stands before every text."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Metaspace()
    texts = [*OPENINGS, "User: Hi\nAssistant:\n"]
    core.train_from_iterator(texts * 3, trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def test_paths_of_a_byte_level_tokenizer():
    made = byte_level()
    tree = pieces(made, Openings.of(model_of(made)))
    assert tree[""] == {"I", "Sorry.", "Unfortunately."}
    assert {"Ġcannot.", "Ġcan", "Ġwon", "'m", "Ġrefuse."} <= tree["I"]
    assert tree["I|Ġcan"] == {"'t.", "âĢĻ."}  # "I can" alone is no refusal
    assert tree["I|'m"] == {"Ġsorry.", "Ġunable.", "Ġafraid.", "Ġnot"}
    assert tree["I|'m|Ġnot"] == {"Ġable."}


def test_paths_of_a_tokenizer_that_puts_a_blank_before_every_text():
    """What training teaches has that blank; where an answer follows a line break, the model's own words do not."""
    made = metaspace()
    tree = pieces(made, Openings.of(model_of(made)))
    assert {"▁I", "▁Sorry.", "▁Unfortunately."} <= tree[""]
    assert len(tree[""]) > 3
    joined = {
        made.decode([*node, token])
        for openings in [Openings.of(model_of(made))]
        for node, nexts in zip(openings.nodes, openings.nexts, strict=True)
        for token, child in nexts.items()
        if child is None
    }
    assert {text.strip() for text in joined} == set(OPENINGS)


def test_what_the_template_writes_before_an_answer_is_part_of_its_paths(tiny_vlm):
    assert tiny_vlm.answer_lead == ""
    made = byte_level()
    tree = pieces(made, Openings.of(model_of(made, "User: Hi\nAssistant:", " ")))
    assert {"I", "ĠI"} <= tree[""]
    assert tree["ĠI|Ġcan"] == tree["I|Ġcan"]


def test_the_blank_of_a_template(tiny_vlm):
    """As LLaVA-1.5's: it asks for an answer by `ASSISTANT:`, and writes one after a blank."""
    tiny_vlm.processor.chat_template = (
        "{% for m in messages %}{{ m.role | upper }}: {{ m.content if m.content is string else m.content[0].text }}\n"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    assert tiny_vlm.answer_lead == " "


def test_a_path_that_goes_on_where_another_ends_is_part_of_it():
    assert Openings.of_paths([(1, 2), (1, 2, 3), (1, 4, 5), ()]) == Openings(
        ((), (1,), (1, 4)), ({1: 1}, {2: None, 4: 2}, {5: None})
    )


def test_log_odds_by_hand():
    """P(0) + P(1)·P(2 | 1) = 0.1 + 0.4 · 0.25 = 0.2, so the odds are 1 to 4."""
    openings = Openings.of_paths([(0,), (1, 2)])
    logits = [torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log() + 7, torch.tensor([[0.5, 0.25, 0.25, 0.0]]).log() - 3]
    masses = [openings.masses(node, of_node) for node, of_node in enumerate(logits)]
    assert openings.log_odds(masses) == [pytest.approx(math.log(0.25), abs=1e-4)]


def test_log_odds_stay_exact_at_both_ends_and_are_none_beyond_them():
    openings = Openings.of_paths([(0,)])

    def odds(refused, answered):
        return openings.log_odds([openings.masses(0, torch.tensor([[refused, answered]]))])

    assert odds(60.0, -60.0) == [120.0]  # 1 - P is less than any float can tell from 0
    assert odds(-60.0, 60.0) == [-120.0]
    assert odds(-torch.inf, 0.0) == [None]


@torch.no_grad()
def plain_log_odds(vlm, row, openings):
    """One forward of the whole model for every beginning, and the sum over all openings."""
    refused = 0.0
    for node, nexts in zip(openings.nodes, openings.nexts, strict=True):
        inputs = dict(model_inputs(vlm, [row]))
        width = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([node], dtype=torch.long)], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        logs = vlm.base(**inputs, use_cache=False).logits[0].double().log_softmax(dim=-1)
        before = sum(float(logs[width - 1 + place, token]) for place, token in enumerate(node))
        refused += sum(math.exp(before + float(logs[-1, token])) for token, child in nexts.items() if child is None)
    return math.log(refused) - math.log1p(-refused)


@pytest.mark.parametrize("pictured", [False, True])
def test_the_loop_the_library_and_a_plain_forward_agree(any_vlm, picture, pictured):
    any_vlm.tokenizer.pad_token = any_vlm.tokenizer.pad_token or any_vlm.tokenizer.eos_token
    openings = Openings.of(any_vlm)
    assert len(openings.nodes) > 3
    rows = encode_prompts(any_vlm, prompts(picture if pictured else None), SETTINGS)
    expected = [plain_log_odds(any_vlm, row, openings) for row in rows]
    assert len(set(expected)) == len(expected)
    assert greedy_is_exact(any_vlm, rows)
    answers, log_odds = greedy.greedy(any_vlm, rows, 6, openings)
    assert log_odds == pytest.approx(expected, abs=2e-3)
    assert library_log_odds(any_vlm, rows, openings) == pytest.approx(expected, abs=2e-3)
    # One token to come is less room than the openings take; and a batch of one.
    assert greedy.greedy(any_vlm, rows[:1], 1, openings)[1] == pytest.approx(expected[:1], abs=2e-3)
    assert greedy.greedy(any_vlm, rows, 6, openings)[0] == answers


def test_every_answer_has_them_whatever_it_is_made_by(tiny_vlm, tmp_path, monkeypatch):
    asked = prompts()
    looped = respond(tiny_vlm, asked, SETTINGS, tmp_path / "looped" / "toy.jsonl")
    sampled = respond(
        tiny_vlm, asked, SETTINGS.model_copy(update={"temperature": 2.0}), tmp_path / "sampled" / "toy.jsonl"
    )
    monkeypatch.setattr(responses_module, "greedy_is_exact", lambda *_: False)
    library = respond(tiny_vlm, asked, SETTINGS, tmp_path / "library" / "toy.jsonl")
    expected = [row.refusal_log_odds for row in looped]
    assert None not in expected
    assert [row.response for row in library] == [row.response for row in looped]
    assert [row.response for row in sampled] != [row.response for row in looped]
    for rows in (sampled, library):
        assert [row.refusal_log_odds for row in rows] == pytest.approx(expected, abs=2e-3)


def test_without_masks_the_library_measures_them(tiny_vlm, monkeypatch):
    """As with flash attention, which takes none; the answers still come from the loop."""
    openings = Openings.of(tiny_vlm)
    rows = encode_prompts(tiny_vlm, prompts(), SETTINGS)
    expected = greedy.greedy(tiny_vlm, rows, 6, openings)
    monkeypatch.setattr(greedy, "_takes_masks", lambda _vlm: False)
    answers, log_odds = greedy.greedy(tiny_vlm, rows, 6, openings)
    assert answers == expected[0]
    assert log_odds == pytest.approx(expected[1], abs=2e-3)


def test_answers_cached_by_an_earlier_version_are_made_again(tiny_vlm, tmp_path, monkeypatch):
    """Their key has no openings, so that a row without log-odds is not taken for one of today."""
    path, asked = tmp_path / "responses" / "toy.jsonl", prompts()[:1]
    monkeypatch.setattr(responses_module, "OPENINGS", ())
    early = respond(tiny_vlm, asked, SETTINGS, path)
    monkeypatch.undo()
    now = respond(tiny_vlm, asked, SETTINGS, path)
    assert now[0].model_key != early[0].model_key
    assert len(Journal(path.parent / "cache.jsonl", Response)) == 2
    assert respond(tiny_vlm, asked, SETTINGS, path) == now
