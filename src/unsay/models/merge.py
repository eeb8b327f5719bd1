"""A merged checkpoint: the adapter added into the weights, written, opened again and compared."""

import errno
import gc
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from unsay.errors import UserError
from unsay.files import content_key
from unsay.models.loading import DEFAULTS, DTYPES, load
from unsay.models.precision import ModelSettings
from unsay.models.vision import noise_image
from unsay.models.vlm import VLM

Precision = Literal["float32", "bfloat16", "float16"]

TOLERANCE: dict[str, float] = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 8e-2}
"""Allowed difference of logits, as a share of the largest: about ten roundings of each precision in a deep model."""

PROMPTS = ("Say something.", "What is the capital of France, and why do people go there?")
SHARD = "5GB"


@dataclass(frozen=True)
class Parity:
    """Differences between the merged checkpoint, read back from disk, and the model with its adapter on.

    Attributes:
        text: largest difference of logits on text prompts, as a share of the largest logit.
        image: the same on a prompt with a picture.
        effect: the adapter's effect on the text prompts, in the same measure; differences must stay well below it.
    """

    text: float
    image: float
    effect: float


def write_merged(vlm: VLM, folder: Path, dtype: Precision, settings: ModelSettings = DEFAULTS) -> Parity:
    """Merge the adapter into the weights and write a standard checkpoint with its processor.

    The model cannot be used afterwards. The written checkpoint is opened again and must give the adapted model's
    logits, on text and on a picture.

    Args:
        vlm: the model with its adapter, not quantised.
        folder: an empty or absent folder.
        dtype: precision of the weights on disk.
        settings: how the model was loaded; the checkpoint is opened in the same way, device map included.

    Raises:
        UserError: a model that cannot be merged as it was loaded, a full disk, or a checkpoint whose logits differ from
            the adapted model's.
    """
    _check_mergeable(vlm)
    inputs = [_text(vlm, prompt) for prompt in PROMPTS] + [_picture(vlm)]
    wanted = [_logits(vlm.model, item) for item in inputs]
    with vlm.model.disable_adapter():
        original = [_logits(vlm.model, item) for item in inputs]
    # In the precision of the logits above, whatever `auto` would resolve to in the written checkpoint.
    precision = str(next(vlm.base.parameters()).dtype).removeprefix("torch.")
    device, name = str(vlm.device), vlm.name
    merged = vlm.model.merge_and_unload(safe_merge=True).to(DTYPES[dtype])
    _save(merged, vlm.processor, folder)
    vlm.model = merged = None  # two copies of a large model may not fit
    gc.collect()  # the hooks of a model that is spread hold it in a circle
    again = load(str(folder), device=device, settings=settings.model_copy(update={"dtype": precision}))
    merged_logits = [_logits(again.model, item) for item in inputs]
    *text, image = [_difference(*pair) for pair in zip(merged_logits, wanted, strict=True)]
    effect = max(_difference(*pair) for pair in zip(original[:-1], wanted[:-1], strict=True))
    parity = Parity(max(text), image, effect)
    _check(name, parity, max(dtype, precision, key=TOLERANCE.__getitem__))
    return parity


def merged(vlm: VLM) -> VLM:
    """The model with its adapter added into the weights, changed in place; one without an adapter is returned as it is.

    Raises:
        UserError: weights in 4 bits, or not all in memory.
    """
    if vlm.adapter_key is None:
        return vlm
    _check_mergeable(vlm)
    key = content_key(vlm.key, vlm.adapter_key)
    return VLM(vlm.name, vlm.model.merge_and_unload(safe_merge=True), vlm.processor, key)


def _check_mergeable(vlm: VLM) -> None:
    if getattr(vlm.base, "is_quantized", False):
        raise UserError(
            f"{vlm.name}: weights in 4 bits cannot be merged without loss: load the model without quantisation"
        )
    if any(parameter.is_meta for parameter in vlm.base.parameters()):
        raise UserError(
            f"{vlm.name}: does not fit the devices of its map, so a part of it is not in memory and cannot be merged: "
            "export with --device cpu"
        )


def _check(name: str, parity: Parity, dtype: str) -> None:
    """Refuse differences that rounding does not explain; `dtype` is the coarser of the weights' and the logits'."""
    worst = max(parity.text, parity.image)
    if not worst <= TOLERANCE[dtype]:  # so that NaN fails too
        raise UserError(
            f"{name}: the merged checkpoint does not say what the adapter says: logits differ by {worst:.1%} of the "
            f"largest ({TOLERANCE[dtype]:.1%} allowed in {dtype}); nothing was written"
        )
    if not worst <= parity.effect / 2:
        raise UserError(
            f"{name}: rounding to {dtype} ({worst:.1%}) is not small against what the adapter does "
            f"({parity.effect:.1%}): export with --dtype float32; nothing was written"
        )


def _text(vlm: VLM, prompt: str) -> dict[str, Tensor]:
    ids = torch.tensor([vlm.encode_prompt(prompt)], device=vlm.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _picture(vlm: VLM) -> Any:
    """A prompt with a picture of noise."""
    text = [vlm.render("What is this?", image=True)]
    inputs = vlm.processor(images=[[noise_image()]], text=text, return_tensors="pt", add_special_tokens=False).to(
        vlm.device
    )
    dtype = next(vlm.base.parameters()).dtype
    return {
        key: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in inputs.items()
    }


@torch.no_grad()
def _logits(model: Any, inputs: Any) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits.float().cpu()


def _difference(logits: Tensor, wanted: Tensor) -> float:
    return float((logits - wanted).abs().max() / wanted.abs().max())


def _save(model: Any, processor: Any, folder: Path) -> None:
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"disk full: {folder.parent} has {free / 1e9:.1f} GB free, the merged checkpoint needs {size / 1e9:.1f} GB"
        )
    try:
        _plain_generation(model)
        model.save_pretrained(folder, max_shard_size=SHARD)
        processor.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):  # written for their owner alone; a server may be another user
            shutil.copymode(folder / "config.json", path)
    except SafetensorError as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise UserError(
                f"disk full while writing {folder}: free some space and run the same command again"
            ) from error
        raise


def _plain_generation(model: Any) -> None:
    """Sampling settings without sampling have no effect, but transformers refuses to save them."""
    config = model.generation_config
    if not config.do_sample:
        for name in ("temperature", "top_p", "top_k", "min_p", "typical_p"):
            if getattr(config, name, None) is not None:
                setattr(config, name, None)
