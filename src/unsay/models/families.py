"""What `unsay` knows of a family of models: read off its configuration and modules, but for a short table.

Where the language model is, which of its layers text passes, how pictures come in and what stays frozen can all be
seen from the model itself. What cannot stands in `SPECIAL_CASES`, each with its reason.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from unsay.models.vlm import VLM


@dataclass(frozen=True)
class SpecialCase:
    """What cannot be read off a checkpoint of this family.

    Attributes:
        reason: why the general rule does not do.
        auto_class: the transformers auto class that opens it.
        template: its chat template, where it is published without one.
        one_way: whether attention over text must be made causal.
        answer_kind: `token_type_ids` of an answer's tokens behind a prompt with a picture; None if they go on as the
            prompt ends.
    """

    reason: str
    auto_class: str = "AutoModelForImageTextToText"
    template: str | None = None
    one_way: bool = False
    answer_kind: int | None = None


SPECIAL_CASES: dict[str, SpecialCase] = {
    "paligemma": SpecialCase(
        "published without a chat template: it takes a picture, a line of text, and a line break. And its attention is "
        "marked as two-way for the sake of prompts with pictures, which bring their own mask; a text without padding "
        "brings none, and the tokens of an answer would see those that they are to predict",
        one_way=True,
        answer_kind=1,  # what it calls a suffix, and reads from left to right
        template=(
            "{% for m in messages %}{% if m['role'] == 'assistant' %}"
            "{% if m['content'] is string %}{{ m['content'] }}{% else %}{{ m['content'][0]['text'] }}{% endif %}<eos>"
            "{% else %}{% for p in m['content'] if p['type'] == 'image' %}<image>{% endfor %}<bos>"
            "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}"
            "{{ '\n' }}{% endif %}{% endfor %}"
        ),
    ),
    "phi4_multimodal": SpecialCase(
        "it listens too, so transformers lists it under any-to-text models and not under image-text-to-text",
        auto_class="AutoModelForMultimodalLM",
    ),
}
"""`model_type` of a configuration → what must be known besides."""


@dataclass(frozen=True)
class Layout:
    """Where things are in one model.

    Attributes:
        model_type: transformers' name of the family.
        language: path of the language model, `""` where it is the whole.
        layers: decoder layers that text passes.
        pictures: how pictures come in: as embeddings in the place of tokens, or by cross-attention layers.
        frozen: paths of the topmost modules with weights outside the language model's layers.
    """

    model_type: str
    language: str
    layers: int
    pictures: Literal["placeholders", "cross-attention"]
    frozen: tuple[str, ...]


def special_case(config: Any) -> SpecialCase | None:
    """The special case that a model's configuration falls under, if any."""
    return SPECIAL_CASES.get(getattr(config, "model_type", ""))


def make_one_way(decoder: nn.Module) -> None:
    """Make attention causal wherever no mask says otherwise; pictures' prompts still bring their own mask."""
    for module in decoder.modules():
        if getattr(module, "is_causal", None) is False:
            setattr(module, "is_causal", True)  # noqa: B010  (typed as a tensor otherwise)


def layout(vlm: VLM) -> Layout:
    """Read a model's layout off its modules.

    Raises:
        UserError: the decoder has no list of layers.
    """
    decoder, layers = vlm.decoder, vlm.text_layers
    names = {id(module): name for name, module in vlm.base.named_modules()}
    return Layout(
        model_type=vlm.base.config.model_type,
        language=names.get(id(decoder), ""),
        layers=len(layers),
        pictures="placeholders" if len(layers) == len(vlm.layers) else "cross-attention",
        frozen=tuple(_frozen(vlm.base, {id(layer) for layer in layers}, "")),
    )


def _frozen(module: nn.Module, trained: set[int], path: str) -> list[str]:
    """Topmost modules that have weights and hold none of the trained layers."""
    if id(module) in trained or next(module.parameters(), None) is None:
        return []
    if not any(id(inner) in trained for inner in module.modules()):
        return [path]
    return [
        name
        for child, inner in module.named_children()
        for name in _frozen(inner, trained, f"{path}.{child}".lstrip("."))
    ]
