"""`load`: any image-text-to-text checkpoint, or the pocket VLM, by name or by folder."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as transformers_logging

from unsay.errors import UserError
from unsay.files import content_key, file_key
from unsay.models import pocket
from unsay.models.lora import load_adapter
from unsay.models.vlm import VLM

NAMED: dict[str, Callable[[], Path]] = {"pocket": pocket.folder}
"""Models that have a name of their own → the folder of their checkpoint, made at first use."""


def load(name_or_path: str = "pocket", *, adapter: Path | None = None, device: str = "cpu") -> VLM:
    """Load a vision-language model and its processor, in evaluation mode and float32.

    Args:
        name_or_path: `pocket`, a local checkpoint folder, or a model id that transformers resolves.
        adapter: folder of a trained adapter in PEFT format to put on top.
        device: torch device for the whole model.

    Raises:
        UserError: no such model, or the checkpoint is not an image-text-to-text model.
    """
    source = _source(name_or_path)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name_or_path}: cannot be loaded as an image-text-to-text model: {reason}") from error
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "chat_template", None) is None:
        raise UserError(f"{name_or_path}: its processor has no chat template; add a chat_template.jinja to its folder")
    model.requires_grad_(False)
    try:
        model.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"device: '{device}' cannot be used here: {reason}") from error
    vlm = VLM(name_or_path, model, processor, model_key(name_or_path))
    return load_adapter(vlm, adapter) if adapter is not None else vlm


@cache
def model_key(name_or_path: str) -> str:
    """Content key of a checkpoint folder, without loading it; of the bare name where the files are elsewhere.

    Remembered for the life of the process: checkpoints are large, and nobody edits them while they run.
    """
    folder = Path(_source(name_or_path))
    if not folder.is_dir():
        return content_key(name_or_path)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".jinja"))
    return content_key({path.name: file_key(path) for path in files})


def _source(name_or_path: str) -> str:
    return str(NAMED[name_or_path]()) if name_or_path in NAMED else name_or_path
