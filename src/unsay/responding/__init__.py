"""Batched generation, resumable."""

from unsay.responding.images import check_images
from unsay.responding.respond import respond
from unsay.responding.settings import GenerationSettings

__all__ = ["GenerationSettings", "check_images", "respond"]
