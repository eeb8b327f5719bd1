"""A model that answers by a rule, in place of generation: for checks of how attacks are made and counted."""

from collections.abc import Callable
from typing import Any

from unsay.records import Prompt, Response

REFUSAL = "I'm sorry, but I can't help with that."

Rule = Callable[[Prompt, bool], str]
"""(prompt, whether the unlearned model is asked) → its answer."""


def script(monkeypatch: Any, rule: Rule) -> list[Prompt]:
    """Answer everything that the bench asks by this rule; returns the list that asked prompts are added to."""
    asked: list[Prompt] = []

    def respond(vlm: Any, prompts: Any, *_arguments: Any, **_options: Any) -> list[Response]:
        asked.extend(prompts)
        unlearned = hasattr(vlm.model, "get_base_model")
        return [
            Response.of(row, response=rule(row, unlearned), finish_reason="stop", tokens=4, model_key=vlm.key)
            for row in prompts
        ]

    monkeypatch.setattr("unsay.robustness.bench.respond", respond)
    return asked
