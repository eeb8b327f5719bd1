"""What cannot be read off a model's configuration and modules: a short table of special cases, each with its reason."""

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class SpecialCase:
    """What cannot be read off a checkpoint of this family.

    Attributes:
        reason: why the general rule fails.
        auto_class: the transformers auto class that opens it.
        template: its chat template, if it is published without one.
        one_way: whether attention over text must be made causal.
        as_written: whether the template writes the whole text, so that the processor must add nothing to it.
        answer_kind: `token_type_ids` of an answer's tokens after a prompt with a picture; None repeats the prompt's
            last.
    """

    reason: str
    auto_class: str = "AutoModelForImageTextToText"
    template: str | None = None
    one_way: bool = False
    as_written: bool = False
    answer_kind: int | None = None


SPECIAL_CASES: dict[str, SpecialCase] = {
    "paligemma": SpecialCase(
        "published without a chat template: it takes a picture, a line of text, and a line break. Its attention is "
        "marked as two-way because prompts with pictures bring their own mask; a text without padding brings none, so "
        "the tokens of an answer would see those that they predict",
        one_way=True,
        as_written=True,
        answer_kind=1,  # its suffix, which is read from left to right
        template=(
            "{% for m in messages %}{% if m['role'] == 'assistant' %}"
            "{% if m['content'] is string %}{{ m['content'] }}{% else %}{{ m['content'][0]['text'] }}{% endif %}<eos>"
            "{% else %}{% for p in m['content'] if p['type'] == 'image' %}<image>{% endfor %}<bos>"
            "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}"
            "{{ '\n' }}{% endif %}{% endfor %}"
        ),
    ),
    "phi4_multimodal": SpecialCase(
        "it also takes audio, so transformers lists it under any-to-text models and not under image-text-to-text",
        auto_class="AutoModelForMultimodalLM",
    ),
}
"""`model_type` of a configuration → its special case."""


def special_case(config: Any) -> SpecialCase | None:
    """The special case that a model's configuration falls under, if any."""
    return SPECIAL_CASES.get(getattr(config, "model_type", ""))


def as_written(images: Any = None, text: Any = None, **_more: Any) -> tuple[Any, Any, None, None]:
    """In place of a processor's `prepare_inputs_layout` that adds control tokens and line breaks of its own."""
    return images, text, None, None


def make_one_way(decoder: nn.Module) -> None:
    """Make attention causal unless a mask says otherwise; prompts with pictures still bring their own mask."""
    for module in decoder.modules():
        if getattr(module, "is_causal", None) is False:
            setattr(module, "is_causal", True)  # noqa: B010  (typed as a tensor otherwise)
