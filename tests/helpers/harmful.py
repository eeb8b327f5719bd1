"""Harmful examples as a run makes them, from requests and from answers."""

from collections.abc import Sequence

from unsay.data.recipe import OwnAnswer, RecipeSettings, forget_examples, refuse_examples
from unsay.records import Example, SourceRow


def harmful_examples(
    requests: Sequence[SourceRow], answers: Sequence[OwnAnswer], settings: RecipeSettings, seed: int
) -> list[Example]:
    """Forget examples of the answers, and refuse examples for every request."""
    return forget_examples(requests, answers, settings, seed) + refuse_examples(requests, settings, seed)
