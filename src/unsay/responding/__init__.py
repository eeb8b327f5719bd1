"""Batched generation, resumable."""

from unsay.responding.respond import respond
from unsay.responding.settings import GenerationSettings

__all__ = ["GenerationSettings", "respond"]
