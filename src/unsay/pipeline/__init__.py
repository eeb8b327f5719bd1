"""The stages of one run directory, from files to files."""

from unsay.pipeline.run import Run

__all__ = ["Run"]
