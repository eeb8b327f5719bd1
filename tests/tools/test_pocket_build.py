"""The pocket VLM's builder: each step at toy size, through its command line, with a tiny random language model."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from tools.pocket import build, conversations, join, magpie, measure, running, synthetic
from unsay.data.shape_scenes import Question
from unsay.errors import UserError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<a>", "<b>", "<file_sep>"]
TRAINING = ["characters", "tokens", "join", "pages", "together"]
CONVERSING = ("join", "together")
PAIRS = [
    synthetic.Pair(f"Write {n} lines about the number {n}.", f"{n} is a number, and so on.", n % 2 == 0)
    for n in range(300)
]
TEXTS = synthetic.Texts(PAIRS)


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
    arguments = ["--step", name, "--out", out, "--gguf", tiny, "--pairs", tiny / "pairs.json.gz", "--batch", 2]
    return build.main([str(part) for part in [*arguments, "--every", 1, *more]])


@pytest.fixture(scope="module")
def built(tiny, tmp_path_factory):
    """The folders of the training steps, each begun from the one before."""
    folders = [tmp_path_factory.mktemp(name) for name in TRAINING]
    assert step("characters", folders[0], tiny, "--steps", 3) == 0
    assert step("tokens", folders[1], tiny, "--steps", 3, "--init", folders[0]) == 0
    assert step("join", folders[2], tiny, "--steps", 3, "--batch", 10, "--init", folders[1]) == 0
    assert step("pages", folders[3], tiny, "--steps", 3, "--init", folders[2]) == 0
    assert step("together", folders[4], tiny, "--steps", 3, "--batch", 10, "--init", folders[3]) == 0
    return folders


def test_characters_then_tokens_then_join_go_on_from_each_other(built, tiny, tmp_path):
    characters, tokens, joined, seen, _ = built
    for path in (characters / "characters.json", tokens / "tokens.json", seen / "pages.json"):
        lines = json.loads(path.read_text())
        assert [line["step"] for line in lines] == [1, 2, 3]
        assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert {*synthetic.GOALS, "step"} <= set(json.loads((joined / "join.json").read_text())["history"][0])

    # The tokens step began with the tower of the characters step; joining leaves it as it is.
    name = "encoder.layers.0.mlp.fc1.weight"
    first, second, third, fourth, last = (load_file(one / "vision_tower.safetensors")[name].float() for one in built)
    assert 0 < (first - second).abs().max() < 0.02
    assert torch.equal(second, third)
    assert 0 < (third - fourth).abs().max() < 0.02
    assert 0 < (fourth - last).abs().max() < 0.02  # together, it learns from the language model's answers
    assert (joined / join.FILES[2]).read_bytes() == (seen / join.FILES[2]).read_bytes()
    model = join.with_adapter(build.vlm_around(language()), joined)
    saved = load_file(joined / join.FILES[2])
    loaded = dict(model.named_parameters())
    assert all(torch.equal(loaded[key.replace(".weight", ".default.weight")].half(), saved[key]) for key in saved)
    assert any(saved[key].any() for key in saved if "lora_B" in key)

    assert step("measure", tmp_path, tiny, "--init", joined, "--questions", 5, "--texts", 2) == 0
    numbers = json.loads((tmp_path / "measure.json").read_text())
    assert {"shapes", "shapes_named", "cer", "cer_plain", "tokens_prompts", "kl_image", "kl_text"} <= set(numbers)

    assert step("checkpoint", tmp_path / "whole", tiny, "--init", seen) == 0
    whole = LlavaForConditionalGeneration.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    ids = torch.tensor([conversations.Encoder(tokenizer()).prompt("Hello", image=False)])
    with torch.no_grad():
        assert torch.allclose(whole(input_ids=ids).logits, model(input_ids=ids).logits, atol=2e-3)  # merged, in float16


@pytest.mark.parametrize("name", TRAINING)
def test_a_killed_step_goes_on_to_the_same_weights(name, built, tiny, tmp_path):
    """`kill -9` after two of three steps; the last state was written after the first."""
    number = TRAINING.index(name)
    more = [
        "--steps",
        3,
        "--batch",
        10 if name in CONVERSING else 2,
        *(["--init", built[number - 1]] if number else []),
    ]
    child = os.fork()
    if not child:
        _killed_in_third_step(lambda: step(name, tmp_path, tiny, *more))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert torch.load(tmp_path / running.STATE_FILE)["done"] == 1

    assert step(name, tmp_path, tiny, *more) == 0
    for path in built[number].glob("*.safetensors"):
        whole, resumed = load_file(path), load_file(tmp_path / path.name)
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    history = json.loads((tmp_path / f"{name}.json").read_text())
    assert [line["step"] for line in (history["history"] if name in CONVERSING else history)] == [1, 2, 3]


def _killed_in_third_step(work):
    """Run `work` with a state after the first step, and die in the third; never returns."""
    one_step, write_state = running.Learner.step, running._write_state

    def dying_step(self, done):
        if done == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return one_step(self, done)

    def first_state(path, state):
        if state["done"] == 1:
            write_state(path, state)

    running.SAVE_SECONDS, running.Learner.step, running._write_state = -1.0, dying_step, first_state
    work()
    os._exit(1)


def test_a_state_of_another_seed_or_step_is_refused(built, tiny, capsys):
    assert step("tokens", built[1], tiny, "--steps", 4, "--seed", 7) == 2
    assert "was begun with --seed 0" in capsys.readouterr().err
    assert step("characters", built[1], tiny, "--steps", 4) == 2
    assert "the state of another model or step" in capsys.readouterr().err
    (built[0] / running.STATE_FILE).write_bytes(b"damaged")
    assert step("characters", built[0], tiny, "--steps", 4) == 2
    assert "not readable" in capsys.readouterr().err


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


def test_mixture_counts_and_held_out_instructions():
    counts = synthetic.Mixture().counts(100)
    assert counts == {"transcribe": 34, "follow": 24, "words": 10, "shapes": 26, "chat": 6}
    assert sum(synthetic.Mixture(0.36, 0.14, 0.1, 0.3, 0.1).counts(97).values()) == 97
    training, held_out = synthetic.split_pairs(PAIRS)
    assert sorted(training + held_out) == sorted(PAIRS)
    assert 0 < len(held_out) < 20
    assert synthetic.split_pairs(PAIRS[::-1])[1] == held_out[::-1]


def test_the_rate_rises_and_stays():
    assert running.rate(0) == 1 / running.WARMUP
    assert running.rate(running.WARMUP - 1) == running.rate(10**6) == 1


def test_written_weights_are_averages_of_the_last_tenth():
    weight = torch.nn.Parameter(torch.zeros(1))
    learner = running.Learner([({"w": weight}, 1.0)], torch.device("cpu"))
    seen = []
    for done in range(30):
        weight.grad = torch.ones(1)
        learner.step(done)
        seen.append(weight.item())
        if done < 10:
            assert learner.average["w"].item() == weight.item()  # a tenth of ten steps is the last one
    # From there on, step n counts 10/n: averages of the hand-computed recursion.
    average = seen[9]
    for number, value in enumerate(seen[10:], start=11):
        average += (value - average) * 10 / number
    assert learner.average["w"].item() == pytest.approx(average, rel=1e-5)


def test_only_matrices_between_layers_learn_by_muon():
    shapes = {
        "layer.weight": (4, 4),
        "layer.bias": (4,),
        "position_embedding.weight": (4, 4),
        "lora_A.weight": (4, 4),
    }
    weights = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    learner = running.Learner([(weights, 0.1)], torch.device("cpu"))
    for value in weights.values():
        value.grad = 1.5 + torch.arange(float(value.numel())).reshape(value.shape).sin()
    learner.step(running.WARMUP)
    # AdamW's first step is the rate in every entry. Muon's has singular values near 0.2 × √4 times the rate, whatever
    # those of the gradient are (arXiv 2502.16982, equation 4; five Newton–Schulz steps make them 0.7 to 1.2).
    for name in ("layer.bias", "position_embedding.weight", "lora_A.weight"):
        torch.testing.assert_close(weights[name].detach(), torch.full(shapes[name], -0.1))
    singular = torch.linalg.svdvals(weights["layer.weight"].detach()) / (0.1 * 0.2 * 2)
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_a_step_goes_on_at_the_rate_that_it_is_given_now(tmp_path):
    def learner(peak):
        return running.Learner([({"w": torch.nn.Parameter(torch.zeros(1))}, peak)], torch.device("cpu"))

    later = learner(0.5)
    later.restore(learner(1.0).state(), tmp_path)
    later.step(running.WARMUP)
    assert {group["lr"] for group in later.settings} == {0.5}


def test_a_batch_is_the_same_whoever_draws_it():
    def stream(workers, first=0):
        return running.batches(lambda rng: rng.random(), seed=3, workers=workers, first=first)

    alone = [next(one) for one in [stream(0)] for _ in range(6)]
    assert len(set(alone)) == 6
    assert [next(one) for one in [stream(2)] for _ in range(6)] == alone
    assert [next(one) for one in [stream(2, first=4)] for _ in range(2)] == alone[4:]


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
    assert step("characters", tmp_path, tiny) == 2
    assert "--step characters has no end: give --images, --steps or --seconds" in capsys.readouterr().err
    (tmp_path / "vision_tower.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="does not fit"):
        join.with_adapter(build.vlm_around(language()), tmp_path)
    with pytest.raises(UserError, match="--step text"):
        synthetic.read_pairs(tmp_path / "none.json.gz")
