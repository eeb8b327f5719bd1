"""unsay: make a vision-language model unsay harmful answers, with text alone (arXiv 2406.02575)."""

__version__ = "0.1.0"
