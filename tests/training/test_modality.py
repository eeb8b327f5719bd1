"""Pictures in training: the same answers scored, the same losses by features as by pixels, and nothing seen twice."""

import copy
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from helpers import tiny
from helpers.families import FAMILIES
from helpers.training import train
from tests.training.test_logprobs import EVERYTHING, by_example, trained_looking
from unsay.errors import UserError
from unsay.methods import Needs, build_method
from unsay.methods.base import block_numbers
from unsay.models import load
from unsay.models.layers import recording_blocks
from unsay.models.vision import accepts_features, picture_features
from unsay.records import Role
from unsay.training import BatchSettings, TrainSettings
from unsay.training.encode import collate, encode, shared_prefix
from unsay.training.flops import forward_flops, step_flops
from unsay.training.head import role_views
from unsay.training.picture_inputs import Seen, Vision, joined, pixel_groups

ONLY_REFUSE = Needs(roles=frozenset({Role.REFUSE}))
LIMITS = {"max_prompt_tokens": 256, "max_answer_tokens": 64}
END = {"tiny-llava": "<|im_end|>", "tiny-idefics3": "<end_of_utterance>"}
METHOD = build_method("textual-unlearning", {"forget_cap": 12.0})
QUICK = TrainSettings(
    steps=3, batch=BatchSettings(forget=2, refuse=2, retain=2), learning_rate=1e-2, checkpoint_every=1
)


@pytest.fixture
def pictures(tmp_path):
    """Four pictures in colours that stand apart."""
    paths = []
    for number in range(4):
        image = Image.effect_noise((tiny.IMAGE_SIZE, tiny.IMAGE_SIZE), 80 + 20 * number)  # random, and then fixed
        image = Image.merge("RGB", [image, image.rotate(90), Image.new("L", image.size, 60 * number)])
        image.save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    return paths


def mixed(pictures, per_role=3):
    """Every second example has a picture; two of them share one."""
    rows = tiny.examples(per_role)
    return [
        row.model_copy(update={"image": pictures[number % len(pictures)]}) if number % 2 else row
        for number, row in enumerate(rows)
    ]


def encoded(vlm, rows):
    return [encode(vlm, row, max_prompt_tokens=256, max_answer_tokens=20) for row in rows]


def tower_runs(vlm):
    """A list that grows by one whenever the vision tower runs."""
    runs = []
    tower = next(module for name, module in vlm.base.named_modules() if name.rsplit(".", 1)[-1].startswith("vision_"))
    tower.register_forward_hook(lambda *_call: runs.append(1))
    return runs


def by_pixels(vlm, folder):
    """A run's sight where features cannot be put in."""
    vision = Vision(vlm, folder)
    vision._takes_features = False
    return vision


# ---------------------------------------------------------------------------------------------------------- encoding


def test_with_a_picture_exactly_the_answer_is_scored(any_vlm, pictures):
    for text, answer, path in zip(tiny.PROMPTS, tiny.ANSWERS, pictures, strict=False):
        row = tiny.examples(1)[0].model_copy(update={"prompt": text, "answer": answer, "image": path})
        one = encode(any_vlm, row, **LIMITS)
        batch = collate([one], lambda picture: Seen(torch.tensor(picture.columns), None, {}))
        assert torch.equal(batch.input_ids[batch.rows, batch.predictors + 1], batch.targets)
        assert any_vlm.tokenizer.decode(batch.targets.tolist()) == answer + END[any_vlm.name]
        # The prompt is the processor's own, placeholders and all, and the words are all there.
        with Image.open(path) as image:
            made = any_vlm.encode_picture(text, image)["input_ids"][0].tolist()
        assert list(one.prompt_ids) == made
        assert text in any_vlm.tokenizer.decode(made)
        assert {one.prompt_ids[column] for column in one.picture.columns} == {any_vlm.image_token_id}
        assert len(one.picture.columns) == {"tiny-llava": 4, "tiny-idefics3": 1}[any_vlm.name] == batch.image_tokens


def test_a_pictures_tokens_are_never_cut_and_do_not_count_as_words(tiny_vlm, pictures):
    row = tiny.examples(1)[0].model_copy(update={"image": pictures[0]})
    whole = encode(tiny_vlm, row, **LIMITS)
    words = len(whole.prompt_ids) - 4
    assert encode(tiny_vlm, row, max_prompt_tokens=words, max_answer_tokens=64) == whole
    with pytest.raises(UserError, match=f"example forget-0: its prompt has {words} tokens, the limit is {words - 1}"):
        encode(tiny_vlm, row, max_prompt_tokens=words - 1, max_answer_tokens=64)
    tiny_vlm.base.config.get_text_config().max_position_embeddings = whole.length - 1
    with pytest.raises(UserError, match=f"{whole.length} tokens, 4 of them its picture's, do not fit"):
        encode(tiny_vlm, row, **LIMITS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": "none.png"}, "no such image"),
        ({"answer": "A <|image|>.", "image": 0}, "placeholder"),
    ],
)
def test_bad_pictures_are_named(tiny_vlm, pictures, changes, says):
    spelled = {
        name: value.replace("<|image|>", tiny_vlm.processor.image_token) if isinstance(value, str) else pictures[value]
        for name, value in changes.items()
    }
    with pytest.raises(UserError, match=says) as caught:
        encode(tiny_vlm, tiny.examples(1)[0].model_copy(update=spelled), **LIMITS)
    assert str(caught.value).startswith("example forget-0: ")
    assert "\n" not in str(caught.value)


def test_where_text_is_expected_a_picture_is_refused(tiny_vlm, pictures):
    with pytest.raises(UserError, match="picture"):
        collate(encoded(tiny_vlm, mixed(pictures)))


# ------------------------------------------------------------------------------------ features in the place of pixels


def naive_logits(vlm, row):
    """One example through the whole model, pixels and all: logits that predict its answer."""
    logits = vlm.base(**whole_inputs(vlm, row)).logits[0]
    return torch.log_softmax(logits, dim=-1)[len(row.prompt_ids) - 1 : -1]


def whole_inputs(vlm, row):
    ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
    more = {}
    if row.picture is not None:
        with Image.open(row.picture.path) as image:
            made = vlm.encode_picture(row.picture.prompt, image)
        more = {name: value for name, value in made.items() if name not in ("input_ids", "attention_mask")}
        for name, value in more.items():
            if value.shape[:2] == made["input_ids"].shape:  # one per token: an answer's as the prompt's last
                more[name] = torch.cat([value, value[:, -1:].repeat_interleave(len(row.answer_ids), dim=1)], dim=1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}


def naive(vlm, rows):
    out = []
    for row in rows:
        current = naive_logits(vlm, row)
        with torch.no_grad(), vlm.model.disable_adapter():
            before = naive_logits(vlm, row)
        targets = torch.arange(len(row.answer_ids)), torch.tensor(row.answer_ids)
        out.append((current[targets], before[targets], (before.exp() * (before - current)).sum(-1)))
    return [list(column) for column in zip(*out, strict=True)]


def objective(policy, kl):
    return sum(row.sum() for row in policy) + sum(row.sum() for row in kl)


@pytest.mark.parametrize("layers", ["all", "upper half"])
@pytest.mark.parametrize("sight", [Vision, by_pixels])
def test_losses_and_gradients_are_those_of_the_whole_model(any_vlm, pictures, tmp_path, sight, layers):
    vlm = trained_looking(any_vlm, layers)
    rows = encoded(vlm, mixed(pictures))
    vision = sight(vlm, tmp_path / "vision")
    batch = collate(rows, vision.see)
    assert batch.whole == (0 if sight is Vision else 4)
    views = role_views(vlm, batch, EVERYTHING, 16)
    expected = naive(vlm, rows)
    for name, values in zip(("policy", "reference", "kl"), expected, strict=True):
        for got, wanted in zip(by_example(views, name), values, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)

    parameters = [p for p in vlm.model.parameters() if p.requires_grad]
    got = torch.autograd.grad(objective(by_example(views, "policy"), by_example(views, "kl")), parameters)
    wanted = torch.autograd.grad(objective(expected[0], expected[2]), parameters)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def naive_blocks(vlm, row):
    """One example through the whole model: what every block puts out where its answer is predicted, [T, blocks, H]."""
    with recording_blocks(vlm, range(len(vlm.layers))) as kept:
        vlm.base(**whole_inputs(vlm, row))
    return torch.stack([out[0][len(row.prompt_ids) - 1 : -1] for (out,) in kept], dim=1)


@pytest.mark.parametrize("layers", ["all", "upper half"])
@pytest.mark.parametrize("sight", [Vision, by_pixels])
@pytest.mark.parametrize("name", ["circuit-breaker", "rmu"])
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_hidden_states_of_blocks_are_those_of_the_whole_model(family, pictures, tmp_path, name, sight, layers):
    """Rows with pictures and without, roles that the original reads and one that it does not."""
    vlm = trained_looking(tiny.FAMILIES[family](4), layers)
    needs = build_method(name, {"layer": 2} if name == "rmu" else {"layers": [2, 3]}).needs
    asked = [row for row in tiny.examples(3) if row.role in needs.roles]
    asked[1::2] = [row.model_copy(update={"image": path}) for row, path in zip(asked[1::2], pictures, strict=False)]
    rows = encoded(vlm, asked)
    batch = collate(rows, sight(vlm, tmp_path / "vision").see)
    assert batch.whole == (0 if sight is Vision else 3)
    views = role_views(vlm, batch, needs, 16)
    with torch.no_grad(), vlm.model.disable_adapter():
        before = [naive_blocks(vlm, row) for row in rows]
    current = [naive_blocks(vlm, row) for row in rows]
    got, wanted = [], []
    for role in needs.parts:
        view = views[role]
        numbers = block_numbers(needs.hidden[role], len(vlm.layers))
        places = [place for place, row in enumerate(rows) if row.role is role]
        assert (view.reference_hidden is None) == (role not in needs.reference_hidden)
        for mine, place in enumerate(places):
            got.append(view.hidden[mine][view.mask[mine]])
            wanted.append(current[place][:, numbers])
            torch.testing.assert_close(got[-1], wanted[-1], rtol=1e-4, atol=1e-4)
            assert (got[-1] - before[place][:, numbers]).abs().max() > 0.01  # or the comparison says little
            if view.reference_hidden is not None:
                was = view.reference_hidden[mine][view.mask[mine]]
                torch.testing.assert_close(was, before[place][:, numbers], rtol=1e-4, atol=1e-4)

    parameters = [p for p in vlm.model.parameters() if p.requires_grad]
    one, other = (
        torch.autograd.grad(sum(h.square().mean() for h in states), parameters, materialize_grads=True)
        for states in (got, wanted)
    )
    assert max(float(right.abs().max()) for right in other) > 0.001
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4 * float(right.abs().max()))


BY_PIXELS = ["Gemma 3", "Mllama", "PaliGemma", "PaliGemma 2"]
"""Families in which what a picture's tokens may see depends on more than their embeddings."""


def family(name, tmp_path):
    (tmp_path / "model").mkdir()
    FAMILIES[name].build(tmp_path / "model")
    return load(str(tmp_path / "model"))


@pytest.mark.parametrize("name", BY_PIXELS)
def test_answers_beside_pictures_are_scored_as_they_are_written(name, pictures, tmp_path):
    """Against the model's own generation, one token after another, made to say the answer."""
    vlm = trained_looking(family(name, tmp_path))
    rows = encoded(vlm, [row.model_copy(update={"image": pictures[0]}) for row in tiny.examples(1)[:1]])
    batch = collate(rows, Vision(vlm, tmp_path / "vision").see)
    assert batch.whole == 1
    got = role_views(vlm, batch, Needs(roles=frozenset({Role.FORGET})), 64)[Role.FORGET].policy[0]
    answer = list(rows[0].answer_ids)
    with Image.open(pictures[0]) as image:
        inputs = vlm.encode_picture(rows[0].picture.prompt, image)
    length = inputs["input_ids"].shape[1]

    def said(ids, scores):
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor(answer[ids.shape[1] - length]), 0.0)

    written = vlm.base.generate(
        **inputs, logits_processor=[said], max_new_tokens=len(answer), eos_token_id=None, do_sample=False,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    logits = torch.cat(written.logits)
    assert len(logits) == len(answer)
    wanted = torch.log_softmax(logits, dim=-1)[torch.arange(len(answer)), torch.tensor(answer)]
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


def test_a_model_that_sees_the_rest_of_an_answer_beside_a_picture_is_refused(pictures, tmp_path, monkeypatch):
    vlm = family("PaliGemma", tmp_path)
    monkeypatch.setattr("unsay.training.picture_inputs.special_case", lambda _config: None)
    rows = [row.model_copy(update={"image": pictures[0]}) for row in tiny.examples()]
    with pytest.raises(UserError, match="beside a picture it reads answers in both directions") as caught:
        train(vlm, rows, METHOD, QUICK, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_block_that_text_does_not_pass_hands_on_what_it_was_given(pictures, tmp_path):
    """Mllama's cross-attention runs for rows with a picture alone; a method that reads every block gets it for all."""
    vlm = trained_looking(family("Mllama", tmp_path))
    rows = tiny.examples(2)
    rows = [row.model_copy(update={"image": pictures[0]}) if row.id.endswith("1") else row for row in rows]
    needs = Needs(
        roles=frozenset({Role.RETAIN}), hidden={Role.RETAIN: "all"}, reference_hidden=frozenset({Role.RETAIN})
    )
    retain = encoded(vlm, [row for row in rows if row.role is Role.RETAIN])
    view = role_views(vlm, collate(retain, Vision(vlm, tmp_path / "vision").see), needs, 64)[Role.RETAIN]
    for states in (view.hidden, view.reference_hidden):
        text, pictured = (states[place][view.mask[place]] for place in (0, 1))
        assert torch.equal(text[:, 1], text[:, 0])
        assert not torch.equal(pictured[:, 1], pictured[:, 0])
        assert not torch.equal(text[:, 2], text[:, 1])
    with torch.no_grad():
        wanted = vlm.base(**whole_inputs(vlm, retain[1]), output_hidden_states=True).hidden_states
    start = len(retain[1].prompt_ids) - 1
    for block in (0, 1):  # what enters block 0 stands first; behind the last block there is a norm
        torch.testing.assert_close(
            view.hidden[1][view.mask[1]][:, block], wanted[block + 1][0, start:-1], rtol=1e-4, atol=1e-4
        )


def test_a_method_of_hidden_states_trains_alike_by_features_and_by_pixels(tiny_vlm, pictures, tmp_path, monkeypatch):
    method = build_method("circuit-breaker")
    features = train(copy.deepcopy(tiny_vlm), mixed(pictures, 4), method, QUICK, tmp_path / "features")
    monkeypatch.setattr("unsay.training.picture_inputs.accepts_features", lambda *_: False)
    pixels = train(tiny_vlm, mixed(pictures, 4), method, QUICK, tmp_path / "pixels")
    assert 0 < features.flops < pixels.flops  # where the tower ran in every step
    for one, other in zip(metrics(tmp_path / "features"), metrics(tmp_path / "pixels"), strict=True):
        for name in ("reroute_loss", "drift_loss", "cosine", "drift_distance"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5)


def test_only_some_roles_are_read_by_the_original(any_vlm, pictures, tmp_path):
    """Roles without a picture in them, and roles that are all pictures, in the same batch."""
    vlm = trained_looking(any_vlm)
    rows = [
        row if row.role is Role.FORGET else row.model_copy(update={"image": pictures[0]}) for row in tiny.examples(2)
    ]
    for kl in ({Role.FORGET}, {Role.RETAIN}):
        needs = Needs(roles=frozenset(Role), kl=frozenset(kl))
        one = role_views(vlm, collate(encoded(vlm, rows), Vision(vlm, tmp_path).see), needs, 64)
        other = role_views(vlm, collate(encoded(vlm, rows), by_pixels(vlm, tmp_path).see), needs, 64)
        for role in Role:
            torch.testing.assert_close(one[role].policy, other[role].policy, rtol=1e-4, atol=1e-5)
            assert (one[role].kl is None) == (other[role].kl is None) == (role not in kl)
        (role,) = kl
        torch.testing.assert_close(one[role].kl, other[role].kl, rtol=1e-4, atol=1e-5)


def test_the_picture_matters_and_so_does_which(tiny_vlm, pictures, tmp_path):
    vlm = trained_looking(tiny_vlm)
    row = tiny.examples(1)[0]
    views = [
        role_views(
            vlm,
            collate(encoded(vlm, [row.model_copy(update={"image": path})]), Vision(vlm, tmp_path).see),
            Needs(roles=frozenset({Role.FORGET})),
            64,
        )[Role.FORGET].policy
        for path in pictures[:2]
    ]
    assert (views[0] - views[1]).abs().max() > 1e-3


def test_the_shared_prefix_ends_before_a_picture(tiny_vlm, pictures, tmp_path):
    """Placeholder tokens are alike in all rows; what stands there is not."""
    rows = encoded(tiny_vlm, [row.model_copy(update={"image": pictures[0]}) for row in tiny.examples(2)])
    prefix = shared_prefix(rows)
    assert 0 < prefix == rows[0].picture.columns[0]


def test_a_family_that_shows_the_picture_to_deeper_layers_too_gets_pixels(tiny_vlm, pictures):
    """Found out by trying, not by name: here the second layer adds something where the picture stands."""
    with Image.open(pictures[0]) as image:
        assert accepts_features(tiny_vlm, "What is it?", image.convert("RGB"))
        deep = copy.deepcopy(tiny_vlm)
        whole, inside = deep.base.forward, []

        def forward(*arguments, **more):
            inside.append(1)
            try:
                return whole(*arguments, **more)
            finally:
                inside.pop()

        deep.base.forward = forward
        deep.layers[1].register_forward_hook(lambda _m, _i, out: out * torch.linspace(0, 1, 32) if inside else out)
        assert accepts_features(deep, "What is it?", image.convert("RGB")) is False


def test_features_that_hang_on_the_words_do_not_pass(tiny_vlm, pictures, monkeypatch):
    """Some families let the question decide what is seen; one set of features per picture would be wrong."""
    plain = tiny_vlm.base.model.get_image_features
    asked = []
    tiny_vlm.base.register_forward_pre_hook(
        lambda _m, _a, kwargs: asked.append(float(kwargs["input_ids"].sum())), with_kwargs=True
    )

    def by_question(*arguments, **more):
        made = plain(*arguments, **more)
        made.pooler_output = [one * (1 + asked[-1] % 7) for one in made.pooler_output]
        return made

    monkeypatch.setattr(tiny_vlm.base.model, "get_image_features", by_question)
    with Image.open(pictures[0]) as image:
        assert not accepts_features(tiny_vlm, "What is it, and why?", image.convert("RGB"))


def test_a_model_without_placeholder_tokens_gets_pixels(tiny_vlm, pictures, tmp_path, monkeypatch):
    row = mixed(pictures, 1)[1]
    known = encoded(tiny_vlm, [row])
    expected = role_views(tiny_vlm, collate(known, Vision(tiny_vlm, tmp_path).see), ONLY_REFUSE, 64)
    monkeypatch.setattr("unsay.models.VLM.image_token_id", None)
    with pytest.raises(UserError, match="placeholder"):
        picture_features(tiny_vlm, Image.new("RGB", (32, 32)))
    rows = encoded(tiny_vlm, [row])
    assert rows[0].picture.columns == ()
    batch = collate(rows, Vision(tiny_vlm, tmp_path / "other").see)
    assert batch.whole == 1
    got = role_views(tiny_vlm, batch, ONLY_REFUSE, 64)[Role.REFUSE].policy
    torch.testing.assert_close(got, expected[Role.REFUSE].policy, rtol=1e-4, atol=1e-5)


def test_pixels_are_joined_where_they_fit():
    """By hand: two rows with like pixels, one with others; per-token values go on, and are not compared."""

    def seen(length, size):
        return Seen(
            torch.tensor([1]),
            None,
            {
                "input_ids": torch.zeros(1, length),
                "pixel_values": torch.full((1, 3, size, size), float(length)),
                "token_type_ids": torch.arange(length)[None],
                "sees": torch.arange(2.0 * length).view(1, length, 2, 1),
            },
        )

    rows = [seen(5, 8), seen(6, 9), seen(7, 8)]
    assert pixel_groups(rows) == [[0, 2], [1]]
    together = joined([rows[0], rows[2]], 8)
    assert set(together) == {"pixel_values", "token_type_ids", "sees"}
    assert together["token_type_ids"].tolist() == [[0, 1, 2, 3, 4, 4, 4, 4], [0, 1, 2, 3, 4, 5, 6, 6]]
    assert together["sees"][0, 4:, :, 0].tolist() == [[8, 9]] * 4
    assert together["pixel_values"].shape == (2, 3, 8, 8)
    assert together["pixel_values"][:, 0, 0, 0].tolist() == [5, 7]
    with pytest.raises(ValueError, match="without pixels"):
        pixel_groups([*rows, None])


# ------------------------------------------------------------------------------------------------------- seen only once


def test_a_picture_is_seen_once_and_kept(tiny_vlm, pictures, tmp_path):
    rows = encoded(tiny_vlm, mixed(pictures, 8))  # 12 rows with 2 pictures: every second of four
    unique = {row.picture.key for row in rows if row.picture is not None}
    vision = Vision(tiny_vlm, tmp_path / "vision")
    first = collate(rows, vision.see)
    assert vision.passed == len(unique) == 2
    assert len(list((tmp_path / "vision").glob("*.safetensors"))) == 2

    later = Vision(tiny_vlm, tmp_path / "vision")
    runs = tower_runs(tiny_vlm)
    again = collate(rows, later.see)
    assert later.passed == 0
    assert len(runs) == 2  # the trial alone: features, and the whole model
    for one, other in zip(first.pictures, again.pictures, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one.features, other.features)


def test_the_same_picture_in_another_file_is_the_same(tiny_vlm, pictures, tmp_path):
    with Image.open(pictures[0]) as image:
        image.save(tmp_path / "other.bmp")
    row = tiny.examples(1)[0]
    keys = {encode(tiny_vlm, row.model_copy(update={"image": path}), **LIMITS).picture.key
            for path in (pictures[0], str(tmp_path / "other.bmp"))}  # fmt: skip
    assert len(keys) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "wrong size", "no header"])
def test_damaged_features_are_made_again(tiny_vlm, pictures, tmp_path, damage):
    rows = encoded(tiny_vlm, mixed(pictures, 1))
    vision = Vision(tiny_vlm, tmp_path / "vision")
    whole = collate(rows, vision.see)
    (path,) = (tmp_path / "vision").glob("*.safetensors")
    content = path.read_bytes()
    if damage == "foreign":
        save_file({"other": torch.zeros(1)}, path)
    elif damage == "wrong size":
        save_file({"features": torch.zeros(3, 32)}, path)
    else:
        path.write_bytes({"cut": content[:-7], "empty": b"", "no header": b"\0" * 40}[damage])
    later = Vision(tiny_vlm, tmp_path / "vision")
    again = collate(rows, later.see)
    assert later.passed == 1
    assert torch.equal(whole.pictures[1].features, again.pictures[1].features)
    assert torch.equal(load_file(path)["features"], whole.pictures[1].features)


def test_features_of_another_model_or_processor_are_not_taken(tiny_vlm, pictures, tmp_path):
    (row,) = encoded(tiny_vlm, [tiny.examples(1)[0].model_copy(update={"image": pictures[0]})])
    Vision(tiny_vlm, tmp_path).see(row.picture)
    other = copy.deepcopy(tiny_vlm)
    other.key = "another-key"
    otherwise = copy.deepcopy(tiny_vlm)
    otherwise.processor.image_processor.image_mean = [0.1, 0.1, 0.1]
    for vlm in (other, otherwise):
        vision = Vision(vlm, tmp_path)
        vision.see(row.picture)
        assert vision.passed == 1


# ---------------------------------------------------------------------------------------------------------- a whole run


def metrics(folder):
    rows = [json.loads(line) for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_text_alone_never_runs_the_vision_tower(any_vlm, tmp_path):
    runs = tower_runs(any_vlm)
    result = train(any_vlm, tiny.examples(), METHOD, QUICK, tmp_path, probe_examples=tiny.probe())
    assert runs == []
    assert not (tmp_path / "train" / "vision").exists()
    assert result.image_tokens == 0
    assert result.tokens > 0


def test_training_on_pictures_learns_and_counts_their_tokens_apart(any_vlm, pictures, tmp_path):
    rows = [row.model_copy(update={"image": pictures[number % 4]}) for number, row in enumerate(tiny.examples())]
    runs = tower_runs(any_vlm)
    text = train(copy.deepcopy(any_vlm), tiny.examples(), METHOD, QUICK, tmp_path / "text")
    result = train(any_vlm, rows, METHOD, QUICK.model_copy(update={"steps": 12}), tmp_path / "pictures")
    assert len(runs) == 4 + 2  # each picture once, and the trial
    per_picture = {"tiny-llava": 4, "tiny-idefics3": 1}[any_vlm.name]
    assert result.image_tokens == 12 * 6 * per_picture
    written = metrics(tmp_path / "pictures")
    assert [row["image_tokens"] for row in written] == [step * 6 * per_picture for step in range(1, 13)]
    assert written[-1]["tokens"] == result.tokens
    assert written[-1]["refuse_ce"] < written[0]["refuse_ce"] - 0.2
    # The words of both runs' first steps are the same but for those that the template puts around a picture.
    around = len(any_vlm.encode_picture("Hi", Image.new("RGB", (32, 32)))["input_ids"][0]) - per_picture
    around -= len(any_vlm.encode_prompt("Hi"))
    assert written[2]["tokens"] == text.tokens + 3 * 6 * around


def test_flops_count_pictures_in_the_language_model_and_in_the_tower_once(tiny_vlm, pictures, tmp_path):
    vlm = trained_looking(tiny_vlm)
    rows = encoded(vlm, mixed(pictures))
    injected = collate(rows, Vision(vlm, tmp_path).see)
    whole = collate(rows, by_pixels(vlm, tmp_path).see)
    needs = METHOD.needs
    one_look = forward_flops(vlm, 0, images=1)
    assert one_look > 0
    in_retain = sum(row.picture is not None for row in rows if row.role in needs.original)
    assert step_flops(vlm, whole, needs) - step_flops(vlm, injected, needs) == pytest.approx((4 + in_retain) * one_look)
    # Without their pictures the same rows are cheaper by what the language model does at the picture's places.
    assert injected.tokens == sum(row.length for row in rows)
    assert injected.image_tokens == 4 * 4
    bare = collate(encoded(vlm, tiny.examples(3)))
    assert step_flops(vlm, injected, needs) > step_flops(vlm, bare, needs)


class KilledError(Exception):
    pass


def test_a_run_on_pictures_that_is_killed_goes_on_to_the_same_bits(pictures, tmp_path, one_thread):
    rows = mixed(pictures, 4)
    whole = train(tiny.llava(), rows, METHOD, QUICK, tmp_path / "whole")

    def kill(step, _steps, _row):
        if step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(tiny.llava(), rows, METHOD, QUICK, tmp_path / "killed", progress=kill)
    moved = [
        row if row.image is None else row.model_copy(update={"image": str(_moved(row.image, tmp_path / "elsewhere"))})
        for row in rows
    ]
    resumed = train(tiny.llava(), moved, METHOD, QUICK, tmp_path / "killed")
    files = [tmp_path / run / "adapter" / "adapter_model.safetensors" for run in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "killed")
    assert (whole.tokens, whole.image_tokens) == (resumed.tokens, resumed.image_tokens)


def _moved(path, folder):
    folder.mkdir(exist_ok=True)
    target = folder / Path(path).name
    target.write_bytes(Path(path).read_bytes())
    return target
