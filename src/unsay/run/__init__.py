"""The stages of one run directory, from files to files."""

from unsay.run.directory import Run

__all__ = ["Run"]
