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
from torch import Tensor
from torch.nn import functional

from tools.pocket import packed, places, renditions, synthetic
from tools.pocket.conversations import Encoder
from tools.pocket.pages import Page, random_page
from tools.pocket.tower import pixel_values
from unsay.data import shape_scenes, typography
from unsay.models.vlm import VLM

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
    """Character error rate and share read exactly: instructions in random styles, and (`_plain`) in the plain one.

    `tokens` is what tower and projector see of them, before any language model: see `tokens_right`.
    """
    rng = random.Random(MEASURING_SEED)
    texts = [pair.instruction for pair in pairs]
    looks = {"": [random_page(text, rng) for text in texts], "_plain": [_plain_page(text) for text in texts]}
    asked = [synthetic.TRANSCRIBE[0]] * len(texts)
    characters = sum(len(text.strip()) for text in texts)
    numbers = {}
    for name, pages in looks.items():
        said = answer(model, encoder, [page.pixels for page in pages], asked, 64, device=device, batch=batch)
        wrong = [edit_distance(one.strip(), text.strip()) for one, text in zip(said, texts, strict=True)]
        numbers[f"cer{name}"] = sum(wrong) / characters
        numbers[f"read_exactly{name}"] = sum(errors == 0 for errors in wrong) / len(wrong)
        numbers[f"tokens{name}"] = tokens_right(packed.opened(model), encoder.tokenizer, texts, pages)
    return numbers


def _plain_page(text: str) -> Page:
    layout = typography.lay_out(text, style=typography.Style())
    return Page(np.asarray(typography.render_layout(layout)), layout.centres())


@torch.no_grad()
def tokens_right(vlm: VLM, tokenizer: Any, texts: Sequence[str], pages: Sequence[Page]) -> float:
    """Share of tokens whose own input embedding, of the whole vocabulary's, is nearest to what is seen at their patch.

    Nearest is by cosine.
    """
    vocabulary = functional.normalize(vlm.base.get_input_embeddings().weight.float(), dim=-1)
    right: list[Tensor] = []
    for text, page in zip(texts, pages, strict=True):
        tokens, patches = zip(
            *places.settled(places.text_places(text, page, tokenizer), len(page.pixels) // places.PATCH), strict=True
        )
        seen = functional.normalize(packed.picture_states(vlm, page.pixels[None])[0, list(patches)].float(), dim=-1)
        right.append((seen @ vocabulary.T).argmax(-1).cpu() == torch.tensor(tokens))
    return float(torch.cat(right).float().mean())


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
