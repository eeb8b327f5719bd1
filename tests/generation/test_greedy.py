"""The project's own greedy loop against the plainest there is: one prompt, the whole model anew for every token."""

import copy
import functools

import pytest
import torch
from PIL import Image
from transformers.cache_utils import DynamicCache, DynamicLayer

from helpers import tiny
from unsay.generation import GenerationSettings
from unsay.generation import greedy as greedy_module
from unsay.generation import responses as local_module
from unsay.generation.greedy import RoomyLayer, greedy, greedy_is_exact, plain_cache
from unsay.generation.openings import Openings
from unsay.generation.prompts import (
    EncodedPrompt,
    PictureFeatures,
    encode_prompts,
    feature_store,
    model_inputs,
    shared_prefix,
)
from unsay.generation.responses import generate
from unsay.models import LoraSettings, attach
from unsay.records import Kind, Modality, Prompt, Turn

LONG = GenerationSettings(max_new_tokens=14)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            noise = torch.randint(0, 255, (40, 30 + 10 * number, 3), dtype=torch.uint8).numpy()
        Image.fromarray(noise).save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(2)]


def rows(vlm, pictures=(), texts=(*tiny.PROMPTS, "", "Why? " * 20)):
    prompts = [
        Prompt(
            id=f"p{number}", suite="toy", kind=Kind.BENIGN, modality=Modality.TEXT, prompt=text, request=text,
            group=text, image=pictures[number % len(pictures)] if pictures else None,
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip
    vlm.tokenizer.pad_token = vlm.tokenizer.pad_token or vlm.tokenizer.eos_token
    return encode_prompts(vlm, prompts, LONG)


def often_ending(vlm):
    """So many tokens end an answer that the rows of a batch end at very different times."""
    vlm.base.generation_config.eos_token_id = list(range(2, 420, 6))
    return vlm


@torch.no_grad()
def plainest(vlm, row, longest):
    inputs = dict(model_inputs(vlm, [row]))
    answer = []
    while len(answer) < longest and not (answer and answer[-1] in vlm.end_tokens):
        token = vlm.base(**inputs, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        answer.append(int(token))
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return answer


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("pictured", [False, True])
def test_a_batch_says_token_for_token_what_one_by_one_says(any_vlm, pictures, pictured, share, monkeypatch):
    monkeypatch.setattr(greedy_module, "LEAVE", share)
    vlm = often_ending(any_vlm)
    asked = rows(vlm, pictures if pictured else ())
    expected = [plainest(vlm, row, 14) for row in asked]
    assert len({len(answer) for answer in expected}) >= 3  # rows do end at different times
    assert greedy(vlm, asked, 14, Openings.of(vlm))[0] == expected
    assert greedy(vlm, asked[:1], 14, Openings.of(vlm))[0] == expected[:1]


@pytest.mark.parametrize("pictured", [False, True])
def test_conversations_and_system_prompts_go_through_it_beside_plain_prompts(any_vlm, pictures, pictured, monkeypatch):
    """What was said before a prompt is a part of its tokens, and so of no batch's common prefix but its own."""
    vlm = often_ending(any_vlm)
    turns = (Turn(role="user", text="Say hello."), Turn(role="assistant", text="Hello there!"))
    before = ({}, {"turns": turns}, {"system": "Be brief."}, {"system": "Be brief.", "turns": turns * 2})
    plain = [row.prompt for row in rows(vlm, pictures[:1] if pictured else (), tiny.PROMPTS[:2])]
    prompts = [
        row.model_copy(update={"id": f"{row.id}-{number}", **said})
        for number, said in enumerate(before)
        for row in plain
    ]
    monkeypatch.setattr(local_module, "library_answers", None)
    said = {row.id: row for batch in generate(vlm, prompts, LONG) for row in batch}
    for row in encode_prompts(vlm, prompts, LONG):
        answer = plainest(vlm, row, 14)
        found = said[row.prompt.id]
        assert found.response == vlm.tokenizer.decode(answer, skip_special_tokens=True).strip()
        assert found.tokens == len(answer)
        assert found.prompt_tokens + found.image_tokens == len(row.ids)
    one, other = (row.text for row in encode_prompts(vlm, [prompts[0], prompts[2]], LONG))
    assert one != other
    assert len({said[f"p0-{number}"].prompt_tokens for number in range(4)}) == 4
    assert len({said[f"p0-{number}"].response for number in range(4)}) > 1  # what was said before does matter


def test_looking_seldom_changes_nothing(tiny_vlm, monkeypatch):
    """On an accelerator nobody looks after every token; what was said after the end is dropped."""
    vlm = often_ending(tiny_vlm)
    asked = rows(vlm)
    expected = greedy(vlm, asked, 14, Openings.of(vlm))[0]

    class Slow:
        type = "slow"

    for every in (3, 8, 100):
        monkeypatch.setattr(greedy_module, "LOOK_EVERY", every)
        monkeypatch.setattr(type(vlm), "device", property(lambda self: SlowCpu()))
        assert greedy(vlm, asked, 14, Openings.of(vlm))[0] == expected


class SlowCpu(str):
    """A CPU that says it is something else."""

    def __new__(cls):
        return super().__new__(cls, "cpu")

    type = "slow"


@pytest.mark.parametrize("pictured", [False, True])
def test_it_is_used_for_these_families(any_vlm, pictures, pictured):
    """Or everything here would be true of code that nobody runs."""
    assert greedy_is_exact(any_vlm, rows(any_vlm, pictures if pictured else ()))


def through(vlm, work):
    """Rows × positions of every pass through the lowest layer."""
    seen = []
    handle = vlm.layers[0].mlp.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[:2])))
    work()
    handle.remove()
    return seen


def test_the_prefix_passes_once_and_rows_that_are_done_leave(tiny_vlm):
    vlm = often_ending(tiny_vlm)
    asked = rows(vlm)
    prefix = shared_prefix(asked, None)
    longest = max(len(row.ids) for row in asked)
    openings = Openings.of(vlm)
    answers = greedy(vlm, asked, 14, openings)[0]
    seen = through(vlm, lambda: greedy(vlm, asked, 14, openings))
    assert prefix > 20  # the chat format's system prompt
    assert seen[:3] == [(1, prefix), (len(asked), longest - prefix), (len(asked), len(openings.nodes) - 1)]
    assert [positions for _, positions in seen[3:]] == [1] * (max(map(len, answers)) - 1)
    for step, (alive, _) in enumerate(seen[3:], start=1):
        unfinished = sum(len(answer) > step for answer in answers)
        assert unfinished <= alive <= unfinished / (1 - greedy_module.LEAVE)
    assert seen[-1][0] < len(asked)


def test_a_picture_passes_the_vision_tower_once_in_both_phases(tiny_vlm, pictures):
    seen = []
    tower = tiny_vlm.base.model.vision_tower
    tower.register_forward_hook(lambda _m, _i, _k, out: seen.append(len(out.last_hidden_state)), with_kwargs=True)
    asked = rows(tiny_vlm, pictures)
    before = greedy(tiny_vlm, asked, 4, Openings.of(tiny_vlm))[0]
    assert seen == [2]
    adapted = attach(tiny_vlm, LoraSettings(), seed=0)
    assert greedy(adapted, asked, 4, Openings.of(adapted))[0] == before  # a fresh adapter says nothing of its own
    assert seen == [2]
    with torch.no_grad():
        next(tower.parameters()).mul_(2.0)
    greedy(adapted, asked, 4, Openings.of(adapted))
    assert seen == [2, 2]  # another tower sees something else


def test_features_that_find_no_room_are_computed_again(tiny_vlm, pictures):
    asked = rows(tiny_vlm, pictures)
    store = feature_store(tiny_vlm)
    found = store.of(tiny_vlm, asked)
    [one, other] = found.values()
    assert not torch.equal(one, other)
    small = PictureFeatures(store.weights, limit=one.nbytes)
    for _ in range(2):
        again = small.of(tiny_vlm, asked)
        assert all(torch.equal(again[key], found[key]) for key in found)
        assert small.size == one.nbytes


def sliding(vlm):
    config = vlm.decoder.config
    config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    config.sliding_window = 8


def scaled(vlm):
    real = vlm.base.forward

    @functools.wraps(real)
    def forward(*args, **kwargs):
        out = real(*args, **kwargs)
        out.logits = out.logits * 2
        return out

    vlm.base.forward = forward


def penalised(vlm):
    vlm.base.generation_config.repetition_penalty = 5.0


def handed_more(vlm):
    decoder = vlm.decoder
    real = decoder.forward
    decoder.forward = lambda *args, deep=None, **kwargs: real(*args, **kwargs)
    model = vlm.base.model
    inner = model.forward
    model.forward = lambda *args, **kwargs: inner(*args, **kwargs, deep=torch.ones(1))


@pytest.mark.parametrize("how", [sliding, scaled, penalised, handed_more])
def test_a_model_that_works_otherwise_is_left_to_transformers(tiny_vlm, pictures, how, monkeypatch):
    vlm = copy.deepcopy(tiny_vlm)
    how(vlm)
    asked = rows(vlm, pictures)
    assert not greedy_is_exact(vlm, asked)
    monkeypatch.setattr(local_module, "greedy", None)
    answers = [row for batch in generate(vlm, [row.prompt for row in asked], LONG) for row in batch]
    assert len(answers) == len(asked)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
@pytest.mark.parametrize("pictured", [False, True])
def test_a_trial_without_memory_says_nothing_of_the_model(tiny_vlm, pictures, pictured, error, monkeypatch):
    def full(*_, **_more):
        raise error

    asked = rows(tiny_vlm, pictures if pictured else ())
    with monkeypatch.context() as patch:
        patch.setattr(greedy_module, "_prefill", full)
        assert not greedy_is_exact(tiny_vlm, asked)
    assert greedy_is_exact(tiny_vlm, asked)


def test_a_checkpoints_own_penalty_is_kept_to(tiny_vlm):
    """Greedy answers follow the checkpoint's generation settings; forgetting them would be another model."""
    prompts = [row.prompt for row in rows(tiny_vlm)]
    plain = {r.id: r.response for b in generate(tiny_vlm, prompts, LONG) for r in b}
    other = copy.deepcopy(tiny_vlm)
    penalised(other)
    strict = {r.id: r.response for b in generate(other, prompts, LONG) for r in b}
    assert plain != strict


def test_plain_caches_by_hand(tiny_vlm):
    assert plain_cache(tiny_vlm.decoder.config)
    sliding(tiny_vlm)
    assert not plain_cache(tiny_vlm.decoder.config)


def asked_row(*ids, image=None):
    return EncodedPrompt(None, "", ids, image)


def test_shared_prefix_by_hand():
    first, long = tuple(range(10, 20)), tuple(range(10, 30))
    assert shared_prefix([asked_row(*first, 1), asked_row(*first, 2, 3)], None) == 10
    assert shared_prefix([asked_row(*long)], None) == 19  # the last position predicts: it stays the row's own
    assert shared_prefix([asked_row(*first[:7], 1, 2), asked_row(*first[:7], 3)], None) == 0  # too short to pay
    assert shared_prefix([asked_row(*long), asked_row(*first)], None) == 9
    # Token 18 is a piece of a picture: shared only where the picture is the same.
    assert shared_prefix([asked_row(*long, image="a"), asked_row(*long, image="b")], 18) == 8
    assert shared_prefix([asked_row(*long, image="a"), asked_row(*long, image="a")], 18) == 19


def test_the_roomy_cache_holds_what_the_growing_one_holds():
    generator = torch.Generator().manual_seed(0)
    roomy, growing = RoomyLayer(room=9), DynamicLayer()
    assert roomy.get_seq_length() == 0
    parts = [torch.randn(2, 4, 3, width, 5, generator=generator) for width in (3, 1, 2)]
    first = parts[0][:, :1]
    roomy.begin(4, first[0], first[1])
    growing.update(first[0].expand(4, -1, -1, -1), first[1].expand(4, -1, -1, -1))
    for keys, values in parts[1:]:
        for one, other in zip(roomy.update(keys, values), growing.update(keys, values), strict=True):
            assert torch.equal(one, other)
    chosen = torch.tensor([3, 1])
    roomy.keep(chosen)
    growing.batch_select_indices(chosen)
    last = torch.randn(2, 2, 3, 1, 5, generator=generator)
    for one, other in zip(roomy.update(*last), growing.update(*last), strict=True):
        assert torch.equal(one, other)
    assert roomy.get_seq_length() == growing.get_seq_length() == 7
    assert DynamicCache().layers == []
