"""Table 3: answers a second, against one-by-one and plain batched `generate`."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import now, synchronise
from PIL import Image, ImageDraw

from data import prompts
from unsay.generation import GenerationSettings
from unsay.generation import prompts as features_module
from unsay.generation.prompts import encode_prompts, model_inputs
from unsay.generation.responses import generate
from unsay.models.vlm import VLM
from unsay.records import Prompt

PLAIN_BATCH = 8
Answers = dict[str, str]


def table(vlm: VLM, device: str, rounds: int, text: int, pictured: int, longest: int = 32) -> list[dict[str, Any]]:
    """For text and for pictures: prompts a second of three ways, and whether they say the same."""
    settings = GenerationSettings(max_new_tokens=longest)
    with tempfile.TemporaryDirectory() as folder:
        suites = {"text": prompts(text), "image": prompts(pictured, _pictures(Path(folder), pictured))}
        return [_suite(vlm, name, rows, settings, device, rounds) for name, rows in suites.items() if rows]


def _suite(
    vlm: VLM, name: str, rows: list[Prompt], settings: GenerationSettings, device: str, rounds: int
) -> dict[str, Any]:
    ways: dict[str, Callable[[], Answers]] = {
        "one": lambda: _plain(vlm, rows, settings, 1),
        "batched": lambda: _plain(vlm, rows, settings, PLAIN_BATCH),
        "unsay": lambda: {row.id: row.response for batch in generate(vlm, rows, settings) for row in batch},
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    said: dict[str, Answers] = {}
    list(generate(vlm, rows[:2], settings))  # what is done once per model
    for _ in range(rounds):
        for way, answers in ways.items():
            features_module._STORES.clear()
            synchronise(device)
            began = now()
            said[way] = answers()
            synchronise(device)
            seconds[way].append(now() - began)
    taken = {way: median(values) for way, values in seconds.items()}
    return {
        "suite": name,
        "prompts": len(rows),
        "rates": {way: len(rows) / value for way, value in taken.items()},
        "against_one": taken["one"] / taken["unsay"],
        "against_batched": taken["batched"] / taken["unsay"],
        "same": sum(said["one"][row.id] == said["unsay"][row.id] for row in rows) / len(rows),
    }


@torch.inference_mode()
def _plain(vlm: VLM, rows: Sequence[Prompt], settings: GenerationSettings, size: int) -> Answers:
    """`generate` on rows as they come, padded to the longest of each batch."""
    answers: Answers = {}
    asked = encode_prompts(vlm, rows, settings)
    for start in range(0, len(asked), size):
        batch = asked[start : start + size]
        inputs = model_inputs(vlm, batch).to(vlm.device)
        output = vlm.base.generate(
            **inputs, do_sample=False, max_new_tokens=settings.max_new_tokens, pad_token_id=vlm.tokenizer.pad_token_id
        )
        texts = vlm.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers.update((row.prompt.id, text.strip()) for row, text in zip(batch, texts, strict=True))
    return answers


def _pictures(folder: Path, count: int) -> list[str]:
    paths = []
    for number in range(count):
        image = Image.new("RGB", (224, 224), "white")
        ImageDraw.Draw(image).text((20, 20), f"Picture {number}", fill="black")
        image.save(folder / f"{number}.png")
        paths.append(str(folder / f"{number}.png"))
    return paths
