"""The pocket VLM's builder: each step at toy size, through its command line, with a tiny random language model."""

import itertools
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tools.pocket import build, conversations, join, magpie, measure, places, running, synthetic
from unsay.data.shape_scenes import Question
from unsay.errors import UserError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<a>", "<b>", "<file_sep>"]
PAIRS = [
    synthetic.Pair(f"Write {n} lines about the number {n}.", f"{n} is a number, and so on.", n % 2 == 0)
    for n in range(300)
]


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: n for n, token in enumerate(SPECIAL + alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>")


def language():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        pad_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a tiny language model and a sample of pairs."""
    folder = tmp_path_factory.mktemp("tiny")
    language().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    magpie.write(PAIRS, folder / "pairs.json.gz")
    return folder


def step(name, out, tiny, *more):
    arguments = [
        "--step",
        name,
        "--out",
        out,
        "--gguf",
        tiny,
        "--pairs",
        tiny / "pairs.json.gz",
        "--batch",
        2,
        "--every",
        1,
    ]
    return build.main([str(part) for part in [*arguments, *more]])


def test_characters_then_tokens_then_join_go_on_from_each_other(tiny, tmp_path):
    folders = [tmp_path / name for name in ("characters", "tokens", "join")]
    assert step("characters", folders[0], tiny, "--steps", 2) == 0
    assert step("tokens", folders[1], tiny, "--steps", 2, "--init", folders[0]) == 0
    assert (
        step("join", folders[2], tiny, "--steps", 2, "--batch", 6, "--questions", 5, "--texts", 2, "--init", folders[1])
        == 0
    )

    for path in (folders[0] / "characters.json", folders[1] / "tokens.json"):
        lines = json.loads(path.read_text())
        assert [line["step"] for line in lines] == [1, 2]
        assert all(np.isfinite(list(line.values())).all() for line in lines)
    report = json.loads((folders[2] / "join.json").read_text())
    assert {"transcribe", "shapes", "kl"} <= set(report["history"][0])
    assert report["before"]["kl_text"] == pytest.approx(0, abs=1e-5)  # a fresh adapter changes nothing
    assert report["before"].keys() == report["after"].keys()

    # What was written loads, and each step started from the weights of the one before rather than afresh.
    towers = [load_file(folder / "vision_tower.safetensors") for folder in folders]
    name = "encoder.layers.0.mlp.fc1.weight"
    for before, after in itertools.pairwise(towers):
        moved = (before[name].float() - after[name].float()).abs().max()
        assert 0 < moved < 0.01
    model = join.with_adapter(build.vlm_around(language()), folders[2])
    saved = load_file(folders[2] / join.FILES[2])
    loaded = dict(model.named_parameters())
    assert all(torch.equal(loaded[key.replace(".weight", ".default.weight")].half(), saved[key]) for key in saved)


def test_text_step_writes_pairs_and_goes_on(tiny, tmp_path, monkeypatch):
    said = iter(f"Please name {n} birds." for n in range(100))
    monkeypatch.setattr(magpie, "instructions", lambda *_, **__: [next(said), next(said)])
    assert step("text", tmp_path, tiny, "--images", 2) == 0
    first = synthetic.read_pairs(tmp_path / "pairs.json.gz")
    assert step("text", tmp_path, tiny, "--images", 5) == 0
    pairs = synthetic.read_pairs(tmp_path / "pairs.json.gz")
    assert pairs[:2] == first
    assert len({pair.instruction for pair in pairs}) == 5


def test_sampled_instructions_are_whole_and_usable():
    class Says:
        def generate(self, input_ids, **_):
            coded = tokenizer()
            turns = [
                "Name three large birds.<|im_end|>x",
                "Never ended and so of no use",
                "é è ê not ASCII at all<|im_end|>",
            ]
            rows = [coded(turn)["input_ids"] for turn in turns]
            longest = max(map(len, rows))
            return torch.cat([input_ids, torch.tensor([row + [0] * (longest - len(row)) for row in rows])], dim=1)

    encoder = conversations.Encoder(tokenizer())
    assert magpie.instructions(Says(), encoder, 3, device=torch.device("cpu")) == ["Name three large birds."]


def test_scored_tokens_are_exactly_the_answers():
    encoder = conversations.Encoder(tokenizer(), patches=4)
    image = np.zeros((32, 32, 3), np.uint8)
    shapes = synthetic.Sample("shapes", image, (("How many?", "Two."), ("What color?", "Red.")))
    ids, scored = encoder.conversation(shapes)
    assert encoder.tokenizer.decode([ids[position] for position in scored]) == "Two.<|im_end|>Red.<|im_end|>"
    assert ids.count(conversations.IMAGE_ID) == 4
    cut = synthetic.Sample("chat", None, (("Hi", "Well, it"),), ended=False, reference="Hi")
    batch = encoder.batch([shapes, cut])
    flat, reference = batch["ids"].reshape(-1), batch["reference_ids"].reshape(-1)
    assert encoder.tokenizer.decode(flat[batch["policy_at"] + 1]) == "Well, it"
    assert encoder.tokenizer.decode(reference[batch["reference_at"] + 1]) == "Well, it"
    assert (flat[batch["shapes_at"] + 1] == batch["shapes_is"]).all()


def test_losses_equal_the_plain_computation_and_only_the_policy_learns():
    encoder = conversations.Encoder(tokenizer())
    model = join.with_adapter(build.vlm_around(language()), None)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    samples = [
        synthetic.transcription(PAIRS, random.Random(0)),
        synthetic.chat(PAIRS, random.Random(1)),
        synthetic.chat(PAIRS, random.Random(2)),
    ]
    batch = conversations.to_device(encoder.batch(samples), torch.device("cpu"))
    terms = conversations.losses(model, batch)

    row, scored = encoder.conversation(samples[0])
    logits = model(input_ids=torch.tensor([row]), pixel_values=batch["pixel_values"]).logits[0]
    expected = torch.nn.functional.cross_entropy(
        logits[[at - 1 for at in scored]], torch.tensor([row[at] for at in scored])
    )
    assert terms["transcribe"].item() == pytest.approx(expected.item(), rel=1e-4)

    values = []
    for sample in samples[1:]:
        row, scored = encoder.conversation(sample)
        at = [position - 1 for position in scored]
        policy = model(input_ids=torch.tensor([row])).logits[0, at].log_softmax(-1)
        with model.disable_adapter():
            original = model(input_ids=torch.tensor([row])).logits[0, at].log_softmax(-1)
        values.append((original.exp() * (original - policy)).sum(-1))
    assert terms["kl"].item() == pytest.approx(torch.cat(values).mean().item(), rel=1e-3)
    assert terms["kl"].item() > 1e-4

    sum(terms.values()).backward()
    learns = {
        name.split(".")[3] for name, value in model.named_parameters() if value.grad is not None and value.grad.any()
    }
    assert learns == {"vision_tower", "multi_modal_projector", "language_model"}
    assert all(
        "lora_" in name
        for name, value in model.named_parameters()
        if "language_model" in name and value.grad is not None
    )


def test_loss_falls_when_the_same_batch_is_seen_again():
    encoder = conversations.Encoder(tokenizer())
    batch = join.batch_drawer(encoder, PAIRS, synthetic.Mixture(), 4)(random.Random(0))
    model = join.with_adapter(build.vlm_around(language()), None)
    optimizer = running.optimiser(
        [([value for value in model.parameters() if value.requires_grad], 2e-2)], torch.device("cpu")
    )
    cpu = torch.device("cpu")

    def loss(arrays):
        return conversations.losses(model, conversations.to_device(arrays, cpu))

    history = running.train(
        iter(lambda: batch, None), loss, {}, optimizer, running.Budget(steps=8), device=cpu, every=1
    )
    for goal in ("transcribe", "shapes"):  # a frozen random language model has little to give, but it gives it
        assert history[-1][goal] < history[0][goal] - 0.08


def test_places_name_the_patches_where_the_text_stands():
    arrays = places.token_batch(PAIRS, random.Random(0), 4, tokenizer())
    for image, tokens in zip(arrays["images"], arrays["tokens"], strict=True):
        grid = image.reshape(14, 16, 14, 16, 3).transpose(0, 2, 1, 3, 4).reshape(196, -1, 3).astype(int)
        inked = np.ptp(grid, axis=1).sum(-1) > 0
        assert (tokens >= 0).sum() > 3
        assert inked[tokens >= 0].mean() > 0.9
    characters = places.character_batch(PAIRS, random.Random(0), 4)["characters"]
    assert characters.max() < places.CLASSES
    assert ((characters > 0).any(-1) == (arrays["tokens"] >= 0)).mean() > 0.95  # one byte a token here


def test_mixture_counts_and_held_out_instructions():
    assert synthetic.Mixture().counts(100) == {"transcribe": 32, "follow": 40, "shapes": 16, "chat": 12}
    assert sum(synthetic.Mixture(0.36, 0.24, 0.3, 0.1).counts(97).values()) == 97
    training, held_out = synthetic.split_pairs(PAIRS)
    assert sorted(training + held_out) == sorted(PAIRS)
    assert 0 < len(held_out) < 20
    assert synthetic.split_pairs(PAIRS[::-1])[1] == held_out[::-1]


def test_budget_rises_then_falls():
    budget = running.Budget(steps=100, warmup=0.1)
    rates = []
    for budget.done in range(100):
        rates.append(budget.rate())
    assert rates[0] < 0.05
    assert max(rates) > 0.9
    assert rates.index(max(rates)) in range(8, 14)
    assert rates[-1] < 0.05


def test_workers_draw_different_batches():
    stream = running.batches(lambda rng: {"number": np.array([rng.random()])}, seed=0, workers=2)
    assert len({float(next(stream)["number"][0]) for _ in range(6)}) == 6


@pytest.mark.parametrize(
    ("said", "answer", "topic", "right"),
    [
        ("Two.", "two", "count", True),
        ("There are 2 circles.", "two", "count", True),
        ("Two or three.", "two", "count", False),
        ("The star is red.", "red", "colour", True),
        ("red and blue", "red", "colour", False),
        ("Circles.", "circle", "kind", True),
        ("", "yes", "exists", False),
    ],
)
def test_only_the_right_answer_alone_counts(said, answer, topic, right):
    assert measure.is_right(said, Question("?", answer, topic)) is right


def test_edit_distance():
    assert measure.edit_distance("kitten", "sitting") == 3
    assert measure.edit_distance("", "abc") == 3
    assert measure.edit_distance("same", "same") == 0


def test_mistakes_are_told_in_one_line(tiny, tmp_path, capsys):
    assert step("join", tmp_path, tiny) == 2
    assert "--step join has no end: give --images, --steps or --seconds" in capsys.readouterr().err
    (tmp_path / "vision_tower.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="does not fit"):
        join.with_adapter(build.vlm_around(language()), tmp_path)
    with pytest.raises(UserError, match="--step text"):
        synthetic.read_pairs(tmp_path / "none.json.gz")
