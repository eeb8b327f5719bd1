"""Load any image-text-to-text model, find its language model, and adapt that alone."""

from unsay.models.loading import load
from unsay.models.lora import LoraSettings, attach, load_adapter, save_adapter
from unsay.models.vlm import VLM

__all__ = ["VLM", "LoraSettings", "attach", "load", "load_adapter", "save_adapter"]
