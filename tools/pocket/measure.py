"""What the pocket VLM can do: shapes by question, characters read wrongly, and how far its answers moved."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tools.pocket import packed, renditions, synthetic
from tools.pocket.conversations import Encoder
from tools.pocket.pages import random_page
from tools.pocket.tower import pixel_values
from unsay.data import shape_scenes, typography

MEASURING_SEED = 20_240_607
"""Apart from every training seed, so that no picture that is measured was ever trained on."""

_DIGITS = {str(number): word for number, word in enumerate(shape_scenes.NUMBERS)}
_VOCABULARY: dict[str, frozenset[str]] = {
    "colour": frozenset(shape_scenes.COLOURS),
    "count": frozenset(shape_scenes.NUMBERS),
    "exists": frozenset({"yes", "no"}),
    "kind": frozenset(shape_scenes.KINDS),
    "side": frozenset({"left", "right"}),
}


def measure(
    model: Any,
    encoder: Encoder,
    held_out: Sequence[synthetic.Pair],
    prompts: Sequence[synthetic.Pair],
    *,
    device: torch.device,
    shape_questions: int = 256,
    texts: int = 64,
    batch: int = 64,
) -> dict[str, float]:
    """Every number that the builder prints, by name.

    Args:
        model: the VLM with its adapter (peft), so that switching the adapter off gives the original.
        encoder: turns conversations into tokens.
        held_out: instructions that were not trained on, in SmolLM2's own words.
        prompts: the same in other people's words; what is read of them ends in `_prompts`.
        device: where the model is.
        shape_questions: how many shape questions, spread evenly over the five topics.
        texts: how many instructions to read and to follow.
        batch: rows per forward pass.
    """
    was_training = model.training
    model.eval()
    numbers = shape_accuracy(model, encoder, device=device, number=shape_questions, batch=batch)
    chosen = held_out[:texts]
    numbers |= reading(model, encoder, chosen, device=device, batch=batch)
    others = reading(model, encoder, prompts[:texts], device=device, batch=batch)
    numbers |= {f"{name}_prompts": value for name, value in others.items()}
    numbers |= drift(model, encoder, chosen, device=device, batch=batch)
    model.train(was_training)
    return numbers


def shape_accuracy(model: Any, encoder: Encoder, *, device: torch.device, number: int, batch: int) -> dict[str, float]:
    """Share of right answers on `number` fresh scenes, overall and by topic (one question each, answers balanced).

    `shapes_named` is the share where the shapes' names are written in their places: what is missing there is not sight.
    """
    asked, scenes = shape_exam(number)
    questions = [question.question for question in asked]

    def right(images: Sequence[NDArray[np.uint8]]) -> list[bool]:
        said = answer(model, encoder, images, questions, 8, device=device, batch=batch)
        return [is_right(*pair) for pair in zip(said, asked, strict=True)]

    seen = right([np.asarray(shape_scenes.render_scene(scene)) for scene in scenes])
    by_topic: dict[str, list[bool]] = defaultdict(list)
    for question, one in zip(asked, seen, strict=True):
        by_topic[question.topic].append(one)
    numbers = {
        "shapes": sum(seen) / number,
        "shapes_named": sum(right([renditions.labelled(scene) for scene in scenes])) / number,
    }
    return numbers | {f"shapes_{topic}": sum(ones) / len(ones) for topic, ones in sorted(by_topic.items())}


def shape_exam(number: int) -> tuple[list[shape_scenes.Question], list[shape_scenes.ShapeScene]]:
    """`number` scenes with one question each, the topics in turn; always the same ones."""
    rng = random.Random(MEASURING_SEED)
    asked: list[shape_scenes.Question] = []
    scenes = []
    while len(asked) < number:
        scene = shape_scenes.random_scene(rng)
        topic = synthetic.TOPICS[len(asked) % len(synthetic.TOPICS)]
        choices = [question for question in shape_scenes.questions(scene, rng) if question.topic == topic]
        if choices:
            asked.append(synthetic.balanced(choices, rng))
            scenes.append(scene)
    return asked, scenes


def is_right(said: str, question: shape_scenes.Question) -> bool:
    """Whether an answer names the right thing and nothing else of its sort (`Two.`, `2` and `There are two.`)."""
    words = {_DIGITS.get(word, word) for word in re.findall(r"[a-z]+|\d+", said.lower())}
    words |= {word.removesuffix("s") for word in words}
    return words & _VOCABULARY[question.topic] == {question.answer}


def reading(
    model: Any, encoder: Encoder, pairs: Sequence[synthetic.Pair], *, device: torch.device, batch: int
) -> dict[str, float]:
    """Character error rate and share read exactly: instructions in random styles, and (`_plain`) in the plain one."""
    rng = random.Random(MEASURING_SEED)
    random_styles = [random_page(pair.instruction, rng).pixels for pair in pairs]
    plain = [np.asarray(typography.render_text(pair.instruction, style=typography.Style())) for pair in pairs]
    asked = [synthetic.TRANSCRIBE[0]] * len(pairs)
    characters = sum(len(pair.instruction.strip()) for pair in pairs)
    numbers = {}
    for name, images in (("", random_styles), ("_plain", plain)):
        said = answer(model, encoder, images, asked, 64, device=device, batch=batch)
        wrong = [edit_distance(one.strip(), pair.instruction.strip()) for one, pair in zip(said, pairs, strict=True)]
        numbers[f"cer{name}"] = sum(wrong) / characters
        numbers[f"read_exactly{name}"] = sum(errors == 0 for errors in wrong) / len(wrong)
    return numbers


@torch.no_grad()
def drift(
    model: Any, encoder: Encoder, pairs: Sequence[synthetic.Pair], *, device: torch.device, batch: int
) -> dict[str, float]:
    """KL(original on the text ‖ this model), nats per answer token: on text, and with the request as pixels.

    `_first` is the same for the first answer token alone, where a model decides whether to answer at all.
    """
    rng = random.Random(MEASURING_SEED)
    shown = []
    for pair in pairs:
        image = random_page(pair.instruction, rng).pixels
        turns = ((synthetic.FOLLOW[0], pair.response),)
        shown.append(synthetic.Sample("follow", image, turns, pair.done, pair.instruction))
    told = [
        synthetic.Sample("chat", None, ((pair.instruction, pair.response),), pair.done, pair.instruction)
        for pair in pairs
    ]
    vlm = packed.opened(model)
    numbers = {}
    for name, samples in (("kl_image", shown), ("kl_text", told)):
        terms: list[torch.Tensor] = []
        for start in range(0, len(samples), batch):
            rows = [encoder.row(sample) for sample in samples[start : start + batch]]
            terms += packed.terms(vlm, rows, len(encoder.opening), None)
        numbers[name] = float(torch.cat(terms).mean())
        numbers[f"{name}_first"] = float(torch.stack([values[0] for values in terms]).mean())
    return numbers


@torch.no_grad()
def answer(
    model: Any,
    encoder: Encoder,
    images: Sequence[NDArray[np.uint8]],
    asked: Sequence[str],
    new_tokens: int,
    *,
    device: torch.device,
    batch: int,
) -> list[str]:
    """Greedy answers to one question per image."""
    said: list[str] = []
    for start in range(0, len(asked), batch):
        ids, mask = encoder.left_padded([encoder.prompt(text, image=True) for text in asked[start : start + batch]])
        out = model.generate(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            pixel_values=pixel_values(np.stack(images[start : start + batch]), device).to(model.dtype),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=encoder.end,
            pad_token_id=encoder.end,
        )
        said += encoder.tokenizer.batch_decode(
            out[:, ids.shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    return said


def edit_distance(left: str, right: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions of single characters."""
    row = list(range(len(right) + 1))
    for number, one in enumerate(left, start=1):
        previous, row[0] = row[0], number
        for column, other in enumerate(right, start=1):
            previous, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, previous + (one != other))
    return row[-1]
