"""What the pocket VLM learns from: targets decoded by hand, texts that no suite asks, and packed rows' losses."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tools.test_pocket_build import TEXTS, language, tokenizer
from tools.pocket import (
    build,
    conversations,
    join,
    measure,
    packed,
    pages,
    places,
    read_tokens,
    renditions,
    running,
    see_pages,
    synthetic,
    tower,
)
from unsay.data import renderers, shape_scenes, typography
from unsay.data.shape_scenes import Shape, ShapeScene
from unsay.data.sources import halves
from unsay.data.splits import prompt_key
from unsay.suites import shapes, transcription

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
    monkeypatch.setattr(pages, "PLAIN", 1)
    arrays = places.token_batch(TEXTS, random.Random(0), 4, tokenizer())
    for image, tokens in zip(arrays["images"], arrays["tokens"], strict=True):
        grid = image.reshape(14, 16, 14, 16, 3).transpose(0, 2, 1, 3, 4).reshape(196, -1, 3).astype(int)
        inked = np.ptp(grid, axis=1).sum(-1) > 0
        assert (tokens >= 0).sum() > 3
        assert inked[tokens >= 0].mean() > 0.8
    characters = places.character_batch(TEXTS, random.Random(0), 4)["characters"]
    assert 0 < characters.max() < places.CLASSES


def test_tokens_are_right_where_their_own_embedding_is_nearest(monkeypatch):
    text, coder = "Write a line.", tokenizer()
    page = measure._plain_page(text)
    assert (page.pixels == np.asarray(typography.render_text(text, style=typography.Style()))).all()
    vlm = packed.opened(build.vlm_around(language()))
    placed = places.settled(places.text_places(text, page, coder), 14)
    states = torch.zeros(1, 196, 32)
    for number, (token, patch) in enumerate(placed):
        states[0, patch] = (
            vlm.base.get_input_embeddings().weight[token + (number < 3)] * 7
        )  # the first three are others
    monkeypatch.setattr(packed, "picture_states", lambda *_: states)
    assert measure.tokens_right(vlm, coder, [text], [page]) == pytest.approx(1 - 3 / len(placed))


def test_a_pocket_that_goes_on_reading_is_to_see_shapes_as_before():
    inner = build.vlm_around(language()).model
    parts = inner.vision_tower.eval(), inner.multi_modal_projector.eval()
    embedding, device = inner.language_model.embed_tokens.weight.detach(), torch.device("cpu")
    teacher = tower.Teacher(*parts, device)
    arrays = places.token_batch(TEXTS, random.Random(1), 4, tokenizer(), scenes=0.5)
    shapes = arrays["tokens"][:, 0] == places.AS_BEFORE
    assert 0 < shapes.sum() < 4
    assert (arrays["tokens"][shapes] == places.AS_BEFORE).all()
    assert (arrays["tokens"][~shapes] >= places.BLANK).all()
    assert read_tokens.loss(*parts, embedding, arrays, device, teacher)["shapes"] < 1e-2
    assert read_tokens.loss(*parts, embedding, arrays, device)["shapes"] == 0

    with torch.no_grad():
        inner.multi_modal_projector.linear_2.bias += 0.25
    seen, empty = (
        teacher.sees(pixels, device) for pixels in (arrays["images"][shapes], np.full_like(arrays["images"][:1], 255))
    )
    by_hand = 0.25**2 / float((seen - empty).pow(2).mean())
    assert float(read_tokens.loss(*parts, embedding, arrays, device, teacher)["shapes"]) == pytest.approx(
        by_hand, rel=0.05
    )


@pytest.mark.parametrize("goal", synthetic.GOALS)
def test_scored_tokens_are_exactly_the_answers(goal):
    encoder = conversations.Encoder(tokenizer(), patches=4)
    rng = random.Random(5)
    sample = synthetic.draw_sample(goal, TEXTS, rng)
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
    whole = (halves.magpie(), halves.plain())
    pairs = [synthetic.Pair(row.text, "…", True) for both in whole for half in both for row in half]
    asked = {prompt_key(row.text) for row in transcription.held_out()}
    left = synthetic.without_suites(pairs)
    assert 0 < len(left) < len(pairs)
    assert not {prompt_key(pair.instruction) for pair in left} & asked

    # The project's own prompts, of which other suites ask the other sides.
    training, held_out = ({prompt_key(pair.instruction) for pair in side} for side in synthetic.own_prompts())
    asked |= {prompt_key(row.text) for both in (halves.contrast(), halves.plain()) for row in both[1]}
    assert len(training) > 4000
    assert held_out
    assert held_out <= asked
    assert not training & asked

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


def test_words_that_a_face_cannot_draw_are_left_out_and_end_no_training():
    pair = synthetic.Pair("Name a drink.", "An enjoyable café crème is " + "nice " * 30, True)
    texts, rng = synthetic.Texts([pair]), random.Random(0)
    for _ in range(200):
        text = synthetic.readable_text(texts, rng)
        assert not {"é", "è"} & {*text}
        pages.random_page(text, rng)


def test_pages_hold_rare_words_as_often_as_common_ones():
    common = [synthetic.Pair(f"Tell me about the {word}.", "It is a thing.", True) for word in ("river", "moon") * 500]
    rare = [synthetic.Pair("Is a kumquat ripe?", "A kumquat is ripe. Émile agrees, Émile says.", True)]
    texts, rng = synthetic.Texts(common, rare), random.Random(0)
    assert texts.words == ["It", "Tell", "about", "is", "kumquat", "me", "moon", "ripe", "river", "the", "thing"]
    drawn = Counter(texts.draw(rng).instruction for _ in range(2000))
    assert abs(drawn["Is a kumquat ripe?"] - 2000 * synthetic.PROMPTS) < 100


def test_a_part_of_the_scenes_is_shown_as_the_names_of_their_shapes(monkeypatch):
    def inks(share):
        monkeypatch.setattr(synthetic, "NAMED", share)
        samples = [synthetic.draw_sample("shapes", TEXTS, random.Random(seed)) for seed in range(20)]
        return [np.ptp(sample.image, axis=-1).max() for sample in samples], [sample.turns for sample in samples]

    coloured, asked = inks(0)
    written, asked_of_names = inks(1)
    assert min(coloured) > 0
    assert max(written) == 0  # black on white
    assert asked == asked_of_names


def adapted_model(**more):
    """A tiny model whose adapter does something."""
    model = join.with_adapter(build.vlm_around(language()), None, **more)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_packed_losses_equal_the_plain_computation_and_only_the_adapter_learns():
    encoder = conversations.Encoder(tokenizer())
    model, vlm = (model := adapted_model()), packed.opened(model)
    rows = join.batch_drawer(encoder, TEXTS, synthetic.Mixture(), 10)(random.Random(3)).rows
    assert {row.goal for row in rows} == set(synthetic.GOALS)
    found = packed.terms(vlm, rows, len(encoder.opening), None)
    for values, expected in zip(found, plain_terms(model, rows), strict=True):
        assert torch.allclose(values, expected, atol=1e-4)
    torch.cat(found).sum().backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }


def plain_terms(model, rows):
    """What `packed.terms` is to give, row by row in transformers' own forward pass."""
    for row in rows:
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
        yield expected


def test_in_the_last_step_tower_and_projector_learn_from_the_answers():
    encoder = conversations.Encoder(tokenizer())
    model = adapted_model(tower=True)
    rows = join.batch_drawer(encoder, TEXTS, synthetic.Mixture(), 4)(random.Random(3)).rows

    def gradients(terms):
        torch.cat(list(terms)).sum().backward()
        learned = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        model.zero_grad(set_to_none=True)
        return learned

    plain = gradients(plain_terms(model, rows))
    found = gradients(packed.terms(packed.opened(model), rows, len(encoder.opening), None))
    assert found.keys() == plain.keys()
    kinds = {"lora_", "vision_tower.encoder", "vision_tower.embeddings", "multi_modal_projector"}
    assert all(any(kind in name for name in found) for kind in kinds)
    for name, gradient in found.items():
        assert (gradient - plain[name]).norm() < 0.01 * plain[name].norm() + 1e-6, name


def no_blank_stays():
    """A generator whose first draw from `packed.KEPT` keeps no blank patch."""
    shares, weights = [kept for _, kept in packed.KEPT], [often for often, _ in packed.KEPT]
    seed = next(seed for seed in range(99) if random.Random(seed).choices(shares, weights)[0] == 0)
    return random.Random(seed)


def test_blank_patches_are_left_out_and_the_others_keep_their_positions():
    encoder = conversations.Encoder(tokenizer())
    row = encoder.row(synthetic.draw_sample("shapes", TEXTS, random.Random(0)))
    first = row.ids.index(conversations.IMAGE_TOKEN_ID)
    states, blank = torch.arange(196.0)[:, None], [patch not in (3, 190) for patch in range(196)]
    read = packed.placed(row, states, blank, no_blank_stays())
    assert [column - first for column in read.columns if first <= column < first + 196] == [3, 190]
    assert read.states.tolist() == [[3.0], [190.0]]
    assert [row.ids[read.columns[place] + 1] for place in read.scored] == row.targets
    whole = packed.placed(row, states, blank, None)
    assert whole.columns == list(range(len(row.ids) - 1))


def test_a_patch_is_blank_if_it_is_as_on_an_empty_page():
    vlm = packed.opened(adapted_model())
    images = np.full((2, 224, 224, 3), 255, np.uint8)
    images[1, 32:48, 16:32] = 0  # patch 29
    states = packed.picture_states(vlm, images)
    states[1, 29] += 1
    blank = packed.blanks(vlm, images, states)
    assert blank[0].all()
    assert not blank[1, 29]


def test_rows_without_blanks_differ_from_whole_ones_only_by_the_blanks():
    """Where blank patches are hidden from attention, a whole row gives the states of one without them."""
    encoder = conversations.Encoder(tokenizer())
    model, vlm = (model := adapted_model()), packed.opened(model)
    row = encoder.row(synthetic.draw_sample("transcribe", TEXTS, random.Random(0)))
    (states,) = packed.picture_states(vlm, row.pixels[None])
    read = packed.placed(row, states, [patch % 3 > 0 for patch in range(196)], no_blank_stays())
    assert len(read.ids) < len(row.ids) - 100
    found = packed.answer_states(vlm, [read], len(encoder.opening))

    ids = torch.tensor([row.ids[:-1]])
    entering = model.get_input_embeddings()(ids).index_put((torch.where(ids == conversations.IMAGE_TOKEN_ID)), states)
    kept = torch.isin(torch.arange(ids.shape[1]), torch.tensor(read.columns))[None]
    plain = vlm.decoder(
        inputs_embeds=entering, attention_mask=kept.long(), position_ids=torch.arange(ids.shape[1])[None]
    ).last_hidden_state[0, [at - 1 for at in row.scored]]
    assert torch.allclose(found, plain, atol=1e-5)


def test_a_plain_page_is_its_own_rendition():
    style = typography.Style(size=18, margin=10, across=0.5, down=0.3)
    layout = typography.lay_out("Name three birds that cannot fly, please.", style=style)
    page = pages.Page(np.asarray(typography.render_layout(layout)), layout.centres())
    again = renditions.plain_page("Name three birds that cannot fly, please.", page)
    ink = (255.0 - page.pixels, 255.0 - again)
    assert np.minimum(*ink).sum() > 0.7 * np.maximum(*ink).sum()  # words may lie a part of a pixel further


def test_words_of_a_rendition_stand_where_the_page_has_them():
    text = "abc " * 12
    rng = random.Random(4)
    for _ in range(4):
        page = pages.random_page(text, rng)
        dark = np.argwhere(renditions.plain_page(text, page).min(axis=-1) < 128)
        there = [(y, x) for index, x, y in page.centres if text[index] != " " and 0 <= x < 224 and 0 <= y < 224]
        assert np.allclose(dark.mean(axis=0), np.mean(there, axis=0), atol=4)


def test_a_word_that_is_cut_at_the_end_of_a_line_is_two_pieces():
    centres = [(0, 200.0, 12.0), (1, 212.0, 12.0), (2, 6.0, 34.0), (3, 18.0, 34.0)]
    page = pages.Page(np.zeros((224, 224, 3), np.uint8), centres)
    assert [piece for piece, _ in renditions.pieces("abcd", page)] == ["ab", "cd"]


def test_a_scenes_rendition_names_every_shape_at_its_place():
    one = renditions.labelled(ShapeScene((Shape("star", "red", 0.5, 0.8, 0.1),)))
    y, x = np.argwhere(one.min(axis=-1) < 128).mean(axis=0)
    assert abs(x - 112) < 12
    assert 176 < y < 192  # 0.8 of 224 is in row 11
    # Two at nearly the same place stand below each other.
    both = renditions.labelled(ShapeScene((Shape("star", "red", 0.5, 0.8, 0.1), Shape("star", "red", 0.52, 0.8, 0.1))))
    assert (both.min(axis=-1) < 128).sum() == pytest.approx(2 * (one.min(axis=-1) < 128).sum(), rel=0.05)


def test_a_student_that_sees_as_the_teacher_does_has_nothing_to_learn():
    inner = build.vlm_around(language()).model
    parts = inner.vision_tower, inner.multi_modal_projector
    teacher = tower.Teacher(*parts, CPU)
    arrays = see_pages.page_batch(TEXTS, random.Random(0), 4)
    same = see_pages.loss(*parts, teacher, {**arrays, "images": arrays["plain"]}, CPU)
    other = see_pages.loss(*parts, teacher, arrays, CPU)
    assert same["letters"] < 0.05 < other["letters"]  # in bfloat16 the teacher rounds
    blind = see_pages.loss(*parts, teacher, {**arrays, "images": np.full_like(arrays["images"], 255)}, CPU)
    assert blind["letters"].item() == pytest.approx(1, abs=0.05)
    here = see_pages.inked(torch.from_numpy(arrays["plain"]), 16)
    assert arrays["plain"].reshape(4, 14, 16, 14, 16, 3).min(axis=(2, 4, 5)).reshape(4, 196)[~here.numpy()].min() >= 128


def test_loss_falls_when_the_same_batch_is_seen_again(tmp_path):
    encoder = conversations.Encoder(tokenizer())
    batch = join.batch_drawer(encoder, TEXTS, synthetic.Mixture(), 5)(random.Random(0))
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
