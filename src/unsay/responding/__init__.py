"""Batched generation, resumable."""

from unsay.responding.images import check_images, read_image
from unsay.responding.respond import respond
from unsay.responding.settings import GenerationSettings

__all__ = ["GenerationSettings", "check_images", "read_image", "respond"]
