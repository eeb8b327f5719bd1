"""Load any image-text-to-text model, find its language model, and adapt that alone."""

from unsay.models.loading import load, model_key
from unsay.models.lora import LoraSettings, attach, detach, load_adapter, save_adapter
from unsay.models.precision import ModelSettings, resolved
from unsay.models.vlm import VLM

__all__ = [
    "VLM",
    "LoraSettings",
    "ModelSettings",
    "attach",
    "detach",
    "load",
    "load_adapter",
    "model_key",
    "resolved",
    "save_adapter",
]
