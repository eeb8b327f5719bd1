"""The frozen language model that judges read answers with, and what it takes to read."""

import hashlib
from typing import Any, TypeAlias

Reader: TypeAlias = tuple[Any, Any]
"""A frozen language model and its tokenizer, which has a chat template."""

_PLACEHOLDER = "\u241e"
"""Stands for the request while the chat template is rendered; no request contains it."""


def original_reader() -> Reader:
    """The original SmolLM2-135M-Instruct, fetched at first use.

    Raises:
        UserError: it cannot be fetched.
    """
    from unsay.models.pocket import original_language_model

    return original_language_model()


def chat_frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids before the request, and between request and answer, in the model's chat format."""
    chat = [{"role": "user", "content": _PLACEHOLDER}]
    before, after = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True).split(_PLACEHOLDER)
    return token_ids(tokenizer, before), token_ids(tokenizer, after)


def token_ids(tokenizer: Any, text: str, limit: int | None = None) -> list[int]:
    """The first `limit` token ids of a text, or all of them, without special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])[:limit]


def first_tokens(tokenizer: Any, text: str, count: int) -> str:
    """The text of the first `count` tokens."""
    ids = token_ids(tokenizer, text)
    return text if len(ids) <= count else str(tokenizer.decode(ids[:count], skip_special_tokens=True))


def weights_key(model: Any) -> str:
    """A key of a model's weights, from about 64 evenly spaced values of each tensor.

    Training changes nearly every value, so a sample tells two models apart in a fraction of the time.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().flatten()
        sample = values[:: max(1, len(values) // 64)].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]
