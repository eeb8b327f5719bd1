"""transformers' continuous batching gives the answers of its own `generate`, or is left alone."""

import copy
import threading
from math import lcm
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import unsay
from helpers.families import gemma
from tests.generation.test_responding_greedy import often_ending, pictures, rows
from unsay.generation import GenerationSettings
from unsay.generation import continuous as continuous_module
from unsay.generation import responses as local_module
from unsay.generation.continuous import PAGE, _blocks, _close, continuous, flows, pays
from unsay.generation.greedy import fits
from unsay.generation.responses import _sampled, generate
from unsay.models import LoraSettings, attach

__all__ = ["pictures"]  # a fixture

LONG = GenerationSettings(max_new_tokens=14, batch_tokens=400)


def built(build, folder):
    build(folder)
    return unsay.load(str(folder))


@pytest.fixture(scope="module")
def _sliding(tmp_path_factory):
    return built(gemma.gemma3, tmp_path_factory.mktemp("gemma3"))


@pytest.fixture
def sliding(_sliding):
    """Sliding windows: a family that the own loop leaves alone."""
    return copy.deepcopy(_sliding)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """On a CPU it is right and slow, and so not used."""
    monkeypatch.setattr(local_module, "pays", lambda _: True)


def one_by_one(vlm, asked):
    return {row.prompt.id: _sampled(vlm, [row], LONG)[0] for row in asked}


def all_at_once(vlm, asked):
    return {row.prompt.id: answer for ended in continuous(vlm, asked, LONG) for row, answer in ended}


@pytest.mark.parametrize("ending", [False, True])
def test_answers_are_those_of_generate_one_by_one(sliding, ending):
    vlm = often_ending(sliding) if ending else sliding
    asked = rows(vlm)
    assert not fits(vlm, asked)
    assert flows(vlm, asked, LONG)
    expected = one_by_one(vlm, asked)
    assert all_at_once(vlm, asked) == expected
    assert len({tuple(answer) for answer in expected.values()}) > 2
    if ending:
        assert len({len(answer) for answer in expected.values()}) > 2


def test_an_adapter_answers_too(sliding):
    vlm = attach(sliding, LoraSettings(rank=2), seed=0)
    with torch.no_grad():
        for name, weight in vlm.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    asked = rows(vlm)
    with_adapter = all_at_once(vlm, asked)
    assert with_adapter == one_by_one(vlm, asked)
    with vlm.model.disable_adapter():
        assert all_at_once(vlm, asked) != with_adapter


def test_text_goes_this_way_and_pictures_do_not(sliding, pictures, monkeypatch):
    seen = []
    real = local_module.continuous

    def spied(vlm, asked, settings):
        seen.extend(asked)
        return real(vlm, asked, settings)

    monkeypatch.setattr(local_module, "continuous", spied)
    prompts = [row.prompt for row in rows(sliding)]
    pictured = [
        row.prompt.model_copy(update={"id": f"i{number}"}) for number, row in enumerate(rows(sliding, pictures))
    ]
    found = {row.id: row for batch in generate(sliding, [*prompts, *pictured], LONG) for row in batch}
    assert len(found) == len(prompts) + len(pictured)
    assert {row.prompt.id for row in seen} == {prompt.id for prompt in prompts}
    assert sliding.base.config._attn_implementation == "sdpa", "left as it was found"


def test_a_cpu_is_left_to_generate(sliding):
    assert not pays(sliding)


def test_a_family_whose_prompts_look_both_ways_is_left_to_generate(tmp_path):
    vlm = built(gemma.paligemma2, tmp_path)
    asked = rows(vlm)
    assert not flows(vlm, asked, LONG)
    prompts = [row.prompt for row in asked]
    found = {row.id: row.tokens for batch in generate(vlm, prompts, LONG) for row in batch}
    assert found == {name: len(answer) for name, answer in one_by_one(vlm, asked).items()}


def test_a_checkpoints_own_penalty_is_kept_to_or_it_is_left_to_generate(sliding):
    sliding.base.generation_config.repetition_penalty = 5.0
    asked = rows(sliding)
    expected = one_by_one(sliding, asked)
    found = {row.id: row.tokens for batch in generate(sliding, [row.prompt for row in asked], LONG) for row in batch}
    assert found == {name: len(answer) for name, answer in expected.items()}
    if flows(sliding, asked, LONG):
        assert all_at_once(sliding, asked) == expected


def test_what_breaks_down_on_the_way_is_asked_in_batches(sliding):
    """Everything is answered once, also when the thread of the library ends in the middle."""
    asked = rows(sliding)
    expected = one_by_one(sliding, asked)
    assert flows(sliding, asked, LONG)
    passes = []

    def fails(*_):
        passes.append(1)
        if len(passes) == 6:
            raise RuntimeError("out of memory")

    handle = sliding.layers[0].register_forward_pre_hook(fails)
    said = [row for batch in generate(sliding, [row.prompt for row in asked], LONG) for row in batch]
    handle.remove()
    assert len(passes) > 6
    assert sorted(row.id for row in said) == sorted(expected)
    assert {row.id: row.tokens for row in said} == {name: len(answer) for name, answer in expected.items()}


@pytest.mark.parametrize("where", ["in the library's thread", "in this one"])
def test_a_trial_without_memory_says_nothing_of_the_model(sliding, where, monkeypatch):
    def full(*_, **_more):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    asked = rows(sliding)
    if where == "in this one":
        monkeypatch.setattr(continuous_module, "_scores", full)
        assert not flows(sliding, asked, LONG)
        monkeypatch.undo()
    else:
        handle = sliding.layers[0].register_forward_pre_hook(full)
        assert not flows(sliding, asked, LONG)
        handle.remove()
    assert flows(sliding, asked, LONG)


def test_a_reader_that_stops_in_the_middle_stops_the_library_too(sliding):
    before = threading.active_count()
    answers = continuous(sliding, rows(sliding), LONG)
    next(answers)
    answers.close()
    assert threading.active_count() == before


def test_random_numbers_are_the_callers_own(sliding):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    flows(sliding, rows(sliding), LONG)
    answers = continuous(sliding, rows(sliding), LONG)
    next(answers)
    drawn = [torch.rand(1)]
    list(answers)
    drawn.append(torch.rand(2))
    assert torch.equal(torch.cat(drawn), expected), "neither seeded nor rolled back"


def test_attention_that_would_be_exchanged_is_left_alone(sliding):
    sliding.model.set_attn_implementation("eager")
    assert not flows(sliding, rows(sliding), LONG)
    assert sliding.base.config._attn_implementation == "eager"


@given(st.lists(st.integers(1, 60), min_size=1, max_size=2), st.integers(1, 4_000))
def test_every_kind_of_attention_finds_its_portions(layers, room):
    """Gemma 3 4B has 29 layers of one kind and 5 of another: portions of 145 pages where a token's page takes 34."""
    kinds = [kind for kind, count in zip("ab", layers, strict=False) for _ in range(count)]
    text = SimpleNamespace(layer_types=kinds, num_hidden_layers=len(kinds))
    vlm = SimpleNamespace(base=SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text)))
    portion = lcm(*layers)
    pages = -(-room // PAGE)
    needed = sum(-(-pages * count // portion) for count in layers)
    assert _blocks(vlm, room) * len(kinds) // portion >= needed


def output(tokens, likely, error=None):
    return SimpleNamespace(generated_tokens=tokens, logprobs=likely, error=error)


def test_what_counts_as_the_same_by_hand():
    scores = [torch.tensor([0.0, 2.0, 1.0]), torch.tensor([3.0, 0.0, 0.0])]
    first, second = [row.log_softmax(0) for row in scores]
    right = [first[1].item(), second[0].item()]
    assert _close(output([1, 0], right), scores, exact=True)
    assert not _close(output([1, 0], [right[0], right[1] - 0.01]), scores, exact=True)
    assert _close(output([1, 0], [right[0], right[1] - 0.01]), scores, exact=False)
    assert not _close(output([1, 0], [right[0], right[1] - 0.2]), scores, exact=False)
    assert not _close(output([1, 0], []), scores, exact=True), "nothing compared is nothing shown"
    assert not _close(output([1], right[:1]), scores, exact=True), "an answer that ends too early"
    assert _close(output([2, 2], [first[2].item(), -9.0]), scores, exact=True), "as likely, then another answer"
    assert not _close(output([], []), scores, exact=True)
    assert not _close(output([1, 0], right, error="full"), scores, exact=True)


def test_without_the_library_it_is_left_to_generate(sliding, monkeypatch):
    """An older or a newer transformers may not have it, or have it otherwise."""
    monkeypatch.setattr(sliding.base.__class__, "init_continuous_batching", None)
    assert not flows(sliding, rows(sliding), LONG)
    monkeypatch.undo()
    continuous_module._FLOWS.clear()
    assert flows(sliding, rows(sliding), LONG)
