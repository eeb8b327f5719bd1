"""Batched generation, resumable."""

from unsay.generation.responses import check_images, respond
from unsay.generation.settings import GenerationSettings

__all__ = ["GenerationSettings", "check_images", "respond"]
