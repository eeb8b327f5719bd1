"""Twenty steps at the shapes of 7B models, text-only, multimodal and by the usual recipe: random weights, bf16, LoRA.

Needs one accelerator of 80 GB or so and no download; what does not fit is said not to fit. Usage:
python benchmarks/gpu_shapes.py [--device cuda] [--steps 20] [--shapes llava-1.5-7b qwen2.5-vl-7b] [--toy]
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from machine import describe, matmul_rate, peak_bytes, synchronise
from recipes import operations, usual_recipe
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from unsay.methods import build_method
from unsay.models import VLM, LoraSettings, attach, detach
from unsay.records import Role
from unsay.training import BatchSettings, TrainingPlan, TrainSettings
from unsay.training.encode import Encoded, collate
from unsay.training.head import head_pass, role_views
from unsay.training.trainer import Trainer

IMAGE_TOKEN = 7
PROMPT_TOKENS, ANSWER_TOKENS = 64, 48


class NumberTokens:
    """Stands where a tokenizer would: random weights know no language, and no download is needed."""

    eos_token_id, bos_token, bos_token_id, pad_token, pad_token_id = 2, None, None, "0", 0
    all_special_tokens = ()  # no text spells one

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        """One token per character."""
        return {"input_ids": [20 + ord(character) % 60 for character in text] or [20]}


def llava(toy: bool) -> tuple[Any, int]:
    """LLaVA-1.5-7B's shape: Vicuna-7B, CLIP ViT-L/14 at 336 pixels, 576 image tokens."""
    vision = (
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
         "patch_size": 14, "projection_dim": 32}
        if toy
        else {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
              "image_size": 336, "patch_size": 14, "projection_dim": 768}
    )  # fmt: skip
    text = (
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 4, "vocab_size": 128}
        if toy
        else {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
              "num_key_value_heads": 32, "vocab_size": 32064}
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=LlamaConfig(**text),
        image_token_index=IMAGE_TOKEN,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config), (vision["image_size"] // 14) ** 2


def qwen(toy: bool) -> tuple[Any, int]:
    """Qwen2.5-VL-7B's shape, with pictures of 448 × 448 pixels: 256 image tokens."""
    text = (
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 128,
         "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"}}
        if toy
        else {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
              "num_key_value_heads": 4, "vocab_size": 152064,
              "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24], "rope_type": "default"}}
    )  # fmt: skip
    vision = (
        {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
         "fullatt_block_indexes": [1]}
        if toy
        else {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    )  # fmt: skip
    special = {
        "image_token_id": IMAGE_TOKEN,
        "video_token_id": 8,
        "vision_start_token_id": 9,
        "vision_end_token_id": 10,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **special)
    return Qwen2_5_VLForConditionalGeneration(config), 16 if toy else 256


SHAPES = {"llava-1.5-7b": llava, "qwen2.5-vl-7b": qwen}


def measure(shape: str, device: str, steps: int, toy: bool) -> dict[str, Any]:
    """Median step time, real tokens a second, peak memory and the share of the matmul rate, both ways."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model, image_tokens = SHAPES[shape](toy)
    finally:
        torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = 2
    tokens = NumberTokens()
    processor = SimpleNamespace(tokenizer=tokens, apply_chat_template=lambda chat, **_: str(chat))
    vlm = VLM(shape, model.eval().requires_grad_(False), processor, shape)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    size = BatchSettings(forget=1, refuse=1, retain=2) if toy else BatchSettings(forget=5, refuse=7, retain=14)
    settings = TrainSettings(steps=steps, batch=size, lora=LoraSettings())
    batch = _batch(size, model.config.get_text_config().vocab_size)
    method = build_method("textual-unlearning")
    count = sum(row.length for row in batch)
    adapted = attach(vlm, settings.lora, 0)
    layers = sum(p.numel() for layer in adapted.layers for p in layer.parameters())
    with tempfile.TemporaryDirectory() as folder:
        training = Trainer(adapted, TrainingPlan(method, settings), Path(folder))
        text = _timed(lambda: training.one_step(batch), device, steps)
        parts = {"weights": weights, "adapter": _adapter_bytes(adapted), "activations": _activations(training, batch)}
        pictured = _as_many_rows_as_fit(
            lambda rows: _timed(lambda: _multimodal(training, batch, shape, image_tokens, rows), device, steps),
            len(batch),
        )
    usual = _or_out_of_memory(lambda: _timed(usual_recipe(detach(adapted), [batch], settings), device, steps))
    rate = matmul_rate(device, dtype)
    return {
        "shape": shape + (" (toy)" if toy else ""),
        "machine": describe(device),
        "steps": steps,
        "text": {**text, "tokens_per_second": count / text["seconds"],
                 "matmul_share": operations(batch, method) * layers / text["seconds"] / rate},
        "parts_bytes": parts,
        # The target is 1.2: nothing but these three, and a fifth on top.
        "peak_times_parts": text["peak_bytes"] / sum(parts.values()) if device.startswith("cuda") else None,
        "usual_recipe": usual,
        "usual_recipe_times_text": usual["seconds"] / text["seconds"] if "seconds" in usual else None,
        "multimodal": {**pictured, "image_tokens": image_tokens},
        "multimodal_times_text": pictured["seconds"] / text["seconds"] if "seconds" in pictured else None,
        "matmul_flops_per_second": rate,
    }  # fmt: skip


def _adapter_bytes(vlm: VLM) -> int:
    """The adapter with its gradients and Adam's two moments."""
    return sum(4 * p.numel() * p.element_size() for p in vlm.model.parameters() if p.requires_grad)


def _activations(training: Trainer, batch: list[Encoded]) -> int:
    """What one batch's forward leaves for its backward pass; 0 on a CPU, where nobody counts."""
    if training.vlm.device.type != "cuda":
        return 0
    before = torch.cuda.memory_allocated()
    views = role_views(training.vlm, training.collated(batch), training.method.needs, training.settings.head_chunk)
    kept = torch.cuda.memory_allocated() - before
    del views
    return kept


def _as_many_rows_as_fit(work: Callable[[int], dict[str, float]], rows: int) -> dict[str, Any]:
    """The work with all rows at once, or half as many until it fits."""
    found = _or_out_of_memory(partial(work, rows))
    while "seconds" not in found and rows > 1:
        rows = -(-rows // 2)
        found = _or_out_of_memory(partial(work, rows))
    return {**found, "rows_at_a_time": rows}


def _or_out_of_memory(work: Callable[[], dict[str, float]]) -> dict[str, Any]:
    try:
        return dict(work())
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"out_of_memory": True}


def _batch(size: BatchSettings, vocabulary: int) -> list[Encoded]:
    rng = random.Random(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(20, vocabulary) for _ in range(count))

    start = ids(16)  # the chat format's head, which all rows share
    return [
        Encoded(f"{role.value}-{number}", role, start + ids(rng.randint(PROMPT_TOKENS // 2, PROMPT_TOKENS)),
                ids(ANSWER_TOKENS))
        for role in Role
        for number in range(size.of(role))
    ]  # fmt: skip


def _multimodal(training: Trainer, batch: list[Encoded], shape: str, image_tokens: int, size: int) -> None:
    """The same step with a picture before every prompt: the same loss and output head, by `size` padded rows."""
    vlm = training.vlm
    for start in range(0, len(batch), size):
        rows = batch[start : start + size]
        terms = []
        for role in dict.fromkeys(row.role for row in rows):
            part = [row for row in rows if row.role is role]
            seen, targets = _with_pictures(vlm, part, shape, image_tokens)
            before = None
            if role is Role.RETAIN:
                with torch.no_grad(), vlm.model.disable_adapter():
                    before = _answer_states(vlm, part, seen, image_tokens)
            hidden = _answer_states(vlm, part, seen, image_tokens)
            policy, _, kl = head_pass(
                vlm.lm_head, hidden, targets, before, before is not None, training.settings.head_chunk
            )
            terms.append(-policy.mean() if kl is None else kl.mean())
        torch.stack(terms).sum().backward()
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)


def _answer_states(vlm: VLM, rows: list[Encoded], inputs: dict[str, Tensor], image_tokens: int) -> Tensor:
    """Hidden states where answers are predicted, [N, H]; pictures have moved them by so many columns."""
    hidden: Tensor = vlm.base.model(**inputs, use_cache=False).last_hidden_state
    batch = collate(rows).to(vlm.device)
    return hidden[batch.rows, batch.predictors + image_tokens]


def _with_pictures(vlm: VLM, rows: list[Encoded], shape: str, image_tokens: int) -> tuple[dict[str, Tensor], Tensor]:
    """Right-padded inputs of the whole model, and the scored tokens, [N]."""
    config, device = vlm.base.config, vlm.device
    dtype = next(vlm.decoder.parameters()).dtype
    batch = collate(rows).to(device)
    place = batch.input_ids.new_full((len(rows), image_tokens), IMAGE_TOKEN)
    ids = torch.cat([batch.input_ids[:, :1], place, batch.input_ids[:, 1:]], dim=1)
    mask = torch.cat([torch.ones_like(place), batch.attention_mask], dim=1)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if shape.startswith("llava"):
        side = config.vision_config.image_size
        pixels = torch.randn(len(rows), 3, side, side, device=device, dtype=dtype)
        return {**inputs, "pixel_values": pixels}, batch.targets
    side = 2 * round(image_tokens**0.5)  # four patches become one token
    patch = 3 * config.vision_config.temporal_patch_size * config.vision_config.patch_size**2
    inputs["pixel_values"] = torch.randn(len(rows) * side * side, patch, device=device, dtype=dtype)
    inputs["image_grid_thw"] = torch.tensor([[1, side, side]] * len(rows), device=device)
    inputs["mm_token_type_ids"] = (ids == IMAGE_TOKEN).int()
    return inputs, batch.targets


def _timed(work: Any, device: str, steps: int) -> dict[str, float]:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(steps):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    # The first step allocates and compiles.
    return {"seconds": median(seconds[1:] or seconds), "peak_bytes": float(peak_bytes(device))}


def main() -> None:
    """Measure and print; with figures of a real card, write them to `docs/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--toy", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("docs/results/gpu_shapes.json"))
    given = parser.parse_args()
    if given.device == "cpu" and not given.toy:
        parser.error("7B shapes need an accelerator; --toy runs tiny ones on a CPU")
    found = [measure(shape, given.device, given.steps, given.toy) for shape in given.shapes]
    print(json.dumps(found, indent=2))
    if not given.toy:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
