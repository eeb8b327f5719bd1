"""What the pocket VLM learns from: targets decoded by hand, texts that no suite asks, and packed rows' losses."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tools.test_pocket_build import PAIRS, language, tokenizer
from tools.pocket import build, conversations, join, packed, pages, places, running, synthetic, tower
from unsay.data import renderers, shape_scenes, typography
from unsay.data.shape_scenes import Shape, ShapeScene
from unsay.data.splits import prompt_key
from unsay.suites import benign, shapes, transcription

CPU = torch.device("cpu")


class Words:
    """A tokenizer whose tokens are words with the blank before them, numbered as they come."""

    def __init__(self):
        self.known = {}

    def __call__(self, text, add_special_tokens=False, return_offsets_mapping=False):
        ends = [at for at in range(1, len(text)) if text[at].isspace()] + [len(text)]
        spans = list(zip([0, *ends], ends, strict=False))
        ids = [self.known.setdefault(text[start:end], len(self.known)) for start, end in spans]
        return {"input_ids": ids, "offset_mapping": spans}

    def named(self, found):
        names = list(self.known)
        return [(names[token].strip(), patch) for token, patch in found]


def test_a_pages_tokens_stand_where_their_middle_letters_do():
    style = typography.Style(font="DejaVuSansMono", size=20, margin=0)  # letters 12.04 wide, lines 25 high
    layout = typography.lay_out("ab cde\nf", style=style)
    page = pages.Page(np.asarray(typography.render_layout(layout)), layout.centres())
    words = Words()
    # Middles: b at x 18 (column 1), d at x 54 (column 3), y 12 (row 0); f at x 6 (column 0), y 37 (row 2).
    assert words.named(places.text_places("ab cde\nf", page, words)) == [("ab", 1), ("cde", 3), ("f", 28)]


def test_a_shape_is_three_words_side_by_side():
    scene = ShapeScene((Shape("star", "red", 0.75, 0.5, 0.1), Shape("circle", "blue", 0.25, 0.5, 0.1)))
    words = Words()
    # Centres at pixels 56 and 168 of row 7: columns 3 and 10 of 14.
    assert words.named(places.shape_places(scene, words, 14)) == [
        ("blue", 100), ("circle", 101), ("left", 102), ("red", 107), ("star", 108), ("right", 109),
    ]  # fmt: skip


def test_a_token_whose_patch_is_taken_stands_on_the_right_or_nowhere():
    assert places.settled([(1, 5), (2, 5), (3, 5), (4, 6), (5, 13), (6, 13)], 14) == [(1, 5), (2, 6), (4, 7), (5, 13)]


def test_centres_move_with_a_page_that_is_turned():
    """One dark square on white: after any turn it is still where its centre is said to be."""
    image = Image.new("L", (224, 224), 255).convert("RGB")
    image.paste((0, 0, 0), (150, 40, 160, 50))
    for seed in range(5):
        turned, ((_, x, y),) = pages._warped(image, [(0, 155.0, 45.0)], (255, 255, 255), random.Random(seed))
        dark = np.argwhere(np.asarray(turned)[..., 0] < 128)
        assert np.allclose(dark.mean(axis=0), [y, x], atol=1)
        assert abs(x - 155) + abs(y - 45) > 0.5


def test_places_name_the_patches_where_the_text_stands(monkeypatch):
    monkeypatch.setattr(places, "SCENES", 0)
    monkeypatch.setattr(pages, "PLAIN", 1)
    arrays = places.token_batch(PAIRS, random.Random(0), 4, tokenizer())
    for image, tokens in zip(arrays["images"], arrays["tokens"], strict=True):
        grid = image.reshape(14, 16, 14, 16, 3).transpose(0, 2, 1, 3, 4).reshape(196, -1, 3).astype(int)
        inked = np.ptp(grid, axis=1).sum(-1) > 0
        assert (tokens >= 0).sum() > 3
        assert inked[tokens >= 0].mean() > 0.8
    characters = places.character_batch(PAIRS, random.Random(0), 4)["characters"]
    assert 0 < characters.max() < places.CLASSES


def test_answers_about_a_column_of_words_follow_from_it():
    asked = dict(synthetic.word_questions(["tree", "42", "house"], random.Random(1)))
    assert asked.pop("What is the word at the top?") == "tree."
    assert asked.pop("What is the word at the bottom?") == "house."
    assert asked.pop("What number is shown?") == "42."
    for question, answer in asked.items():
        match question.split():
            case ["How", "many", *_]:
                assert answer == "Three."
            case ["Is", "the", "word", word, "there?"]:
                assert (answer == "Yes.") == (word in ("tree", "42", "house"))
            case ["Which", "word", "is", way, left, "or", right]:
                order = sorted([left, right.rstrip("?")], key=["tree", "42", "house"].index)
                assert answer == f"{order[way == 'lower,']}."
            case ["What", "is", "below", word]:
                assert answer == {"tree?": "42.", "42?": "house."}[word]
            case _:
                raise AssertionError(question)


@pytest.mark.parametrize("goal", synthetic.GOALS)
def test_scored_tokens_are_exactly_the_answers(goal):
    encoder = conversations.Encoder(tokenizer(), patches=4)
    rng = random.Random(5)
    sample = synthetic.draw_sample(goal, PAIRS, rng)
    row = encoder.row(sample, longest=6)
    said = [answer + "<|im_end|>" for _, answer in sample.turns]
    if sample.reference is None:
        assert encoder.tokenizer.decode(row.targets) == "".join(said)
    else:  # six bytes of it
        assert encoder.tokenizer.decode(row.targets) == said[0][:6]
        assert row.reference[-6:] == row.targets
        assert encoder.tokenizer.decode(row.reference[:-6]).endswith(
            f"{sample.reference}<|im_end|>\n<|im_start|>assistant\n"
        )
    assert row.ids.count(conversations.IMAGE_TOKEN_ID) == (4 if goal != "chat" else 0)


def test_nothing_that_a_suite_shows_is_learned_from():
    halves = benign.magpie_halves()
    pairs = [synthetic.Pair(row.text, "…", True) for half in halves for row in half]
    asked = {prompt_key(row.text) for row in transcription.held_out()}
    left = synthetic.without_suites(pairs)
    assert 0 < len(left) < len(pairs)
    assert not {prompt_key(pair.instruction) for pair in left} & asked

    # Scenes: the suite's stand at three places on white, those that are learned from anywhere.
    rng = random.Random(0)
    learned = {(shape.x, shape.y, shape.radius) for _ in range(200) for shape in shape_scenes.random_scene(rng).shapes}
    shown = {
        (shape.x, shape.y, shape.radius) for seed in range(50) for shape in shapes._scene(random.Random(seed)).shapes
    }
    assert not learned & shown

    # Faces: those of the renderers are never drawn.
    assert not {*typography.OTHER_FONTS} & {*pages.FACES}
    for renderer in renderers.RENDERERS.values():
        assert renderer("A plain line.", 224).size == (224, 224)


def adapted_model():
    """A tiny model whose adapter does something."""
    model = join.with_adapter(build.vlm_around(language()), None)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_packed_losses_equal_the_plain_computation_and_only_the_adapter_learns():
    encoder = conversations.Encoder(tokenizer())
    model, vlm = (model := adapted_model()), packed.opened(model)
    rows = join.batch_drawer(encoder, PAIRS, synthetic.Mixture(), 10)(random.Random(3)).rows
    assert {row.goal for row in rows} == set(synthetic.GOALS)
    found = packed.terms(vlm, rows, len(encoder.opening), None)
    for row, values in zip(rows, found, strict=True):
        shown = {} if row.pixels is None else {"pixel_values": tower.pixel_values(row.pixels[None], CPU)}
        logits = model(input_ids=torch.tensor([row.ids]), **shown).logits[0]
        policy = logits[[at - 1 for at in row.scored]].log_softmax(-1)
        if row.reference is None:
            expected = -policy.gather(1, torch.tensor(row.targets)[:, None])[:, 0]
        else:
            with model.disable_adapter(), torch.no_grad():
                original = model(input_ids=torch.tensor([row.reference])).logits[0]
            original = original[-len(row.scored) - 1 : -1].log_softmax(-1)
            expected = (original.exp() * (original - policy)).sum(-1)
        assert torch.allclose(values, expected, atol=1e-4)
    torch.cat(found).sum().backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }


def test_blank_patches_are_left_out_and_the_others_keep_their_positions():
    encoder = conversations.Encoder(tokenizer())
    row = encoder.row(synthetic.draw_sample("shapes", PAIRS, random.Random(0)))
    first = row.ids.index(conversations.IMAGE_TOKEN_ID)
    states = torch.zeros(196, 32)
    states[[3, 190]] = 1.0
    none = next(seed for seed in range(99) if random.Random(seed).choices([0, 1], [0.5, 0.5])[0] == 0)
    read = packed.placed(row, states, 0.5, random.Random(none))
    assert [column - first for column in read.columns if first <= column < first + 196] == [3, 190]
    assert torch.equal(read.states, states[[3, 190]])
    assert [row.ids[read.columns[place] + 1] for place in read.scored] == row.targets
    whole = packed.placed(row, states, 0.5, None)
    assert whole.columns == list(range(len(row.ids) - 1))


def test_rows_without_blanks_differ_from_whole_ones_only_by_the_blanks():
    """Where blank patches are hidden from attention, a whole row gives the states of one without them."""
    encoder = conversations.Encoder(tokenizer())
    model, vlm = (model := adapted_model()), packed.opened(model)
    row = encoder.row(synthetic.draw_sample("transcribe", PAIRS, random.Random(0)))
    (states,) = packed.picture_states(vlm, [row])
    level = float(states.pow(2).mean(-1).sqrt().median())
    none = next(seed for seed in range(99) if random.Random(seed).choices([0, 1], [0.5, 0.5])[0] == 0)
    read = packed.placed(row, states, level, random.Random(none))
    found = packed.answer_states(vlm, [read], len(encoder.opening))

    ids = torch.tensor([row.ids[:-1]])
    entering = model.get_input_embeddings()(ids).index_put((torch.where(ids == conversations.IMAGE_TOKEN_ID)), states)
    hidden = torch.ones_like(ids)
    hidden[0, [column for column in range(ids.shape[1]) if column not in read.columns]] = 0
    plain = vlm.decoder(
        inputs_embeds=entering, attention_mask=hidden, position_ids=torch.arange(ids.shape[1])[None]
    ).last_hidden_state[0, [at - 1 for at in row.scored]]
    assert torch.allclose(found, plain, atol=1e-5)


def test_loss_falls_when_the_same_batch_is_seen_again(tmp_path):
    encoder = conversations.Encoder(tokenizer())
    batch = join.batch_drawer(encoder, PAIRS, synthetic.Mixture(), 5)(random.Random(0))
    model = adapted_model()
    (tmp_path / "init").mkdir()
    for name in join.FILES[:2]:
        (tmp_path / "init" / name).write_bytes(b"")
    history = join.join(
        model, encoder, lambda _: batch, tmp_path, running.Budget(steps=30), init=tmp_path / "init", device=CPU,
        peak=2e-2, seed=0, every=1,
    )  # fmt: skip
    for goal in ("transcribe", "shapes"):  # a frozen random language model has little to give, but it gives it
        assert history[-1][goal] < history[0][goal] - 0.08
