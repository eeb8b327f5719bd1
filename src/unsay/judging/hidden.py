"""What a language model's middle layers hold while it reads an answer to a request."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]

_PLACE = "\u241e"
"""Stands where the request goes while the chat template is rendered; no request holds it."""


class _EnoughError(Exception):
    """Ends a forward pass once the last layer of interest has run."""


def answer_states(
    language_model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    *,
    layers: Sequence[int],
    cuts: Sequence[int],
    prompt_tokens: int,
    batch_size: int = 16,
) -> Array:
    """Hidden states of answers, averaged over layers and over the answers' first tokens.

    The model reads each request and answer in its own chat format. Attention is causal, so the state of a token does
    not depend on what follows: one pass gives the states of the answer cut off after any number of tokens.

    Args:
        language_model: a decoder-only model with `get_decoder().layers`.
        tokenizer: its tokenizer, with a chat template.
        pairs: (request, answer) texts; an answer has at least one token.
        layers: which layers to average, counted from 1; later layers are not run.
        cuts: answer lengths in tokens; an answer that is shorter is taken whole.
        prompt_tokens: longer requests are cut off after so many tokens.
        batch_size: sequences in one forward pass.

    Returns:
        Array of shape (len(pairs), len(cuts), hidden size).

    Raises:
        ValueError: an answer without tokens, or a layer that the model lacks.
    """
    decoder = language_model.get_decoder()
    if not 1 <= min(layers) <= max(layers) <= len(decoder.layers):
        raise ValueError(f"layers {tuple(layers)} of a model that has {len(decoder.layers)}")
    sequences = _tokens(tokenizer, pairs, prompt_tokens, max(cuts))
    states = np.zeros((len(pairs), len(cuts), language_model.config.hidden_size), dtype=np.float32)
    order = sorted(range(len(pairs)), key=lambda index: sum(map(len, sequences[index])))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        hidden = _layer_mean(decoder, [sequences[index] for index in batch], set(layers))
        for row, index in enumerate(batch):
            asked, answered = map(len, sequences[index])
            for column, cut in enumerate(cuts):
                span = hidden[row, asked : asked + min(answered, cut)]
                states[index, column] = span.mean(0).float().cpu().numpy()
    return states


def first_tokens(tokenizer: Any, text: str, count: int) -> str:
    """The text of the first `count` tokens."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return text if len(ids) <= count else str(tokenizer.decode(ids[:count], skip_special_tokens=True))


def chat_frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids before the request and between request and answer, in the model's chat format."""
    chat = [{"role": "user", "content": _PLACE}]
    before, after = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True).split(_PLACE)
    return _ids(tokenizer, before), _ids(tokenizer, after)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _tokens(
    tokenizer: Any, pairs: Sequence[tuple[str, str]], prompt_tokens: int, answer_tokens: int
) -> list[tuple[list[int], list[int]]]:
    """(request in its chat format, answer) as token ids, each tokenised apart."""
    opening, closing = chat_frame(tokenizer)
    sequences = []
    for request, answer in pairs:
        answer_ids = _ids(tokenizer, answer)[:answer_tokens]
        if not answer_ids:
            raise ValueError("an answer without tokens has no states")
        sequences.append((opening + _ids(tokenizer, request)[:prompt_tokens] + closing, answer_ids))
    return sequences


@torch.inference_mode()
def _layer_mean(decoder: Any, sequences: list[tuple[list[int], list[int]]], layers: set[int]) -> torch.Tensor:
    """Outputs of the wanted layers averaged, shape (batch, longest, hidden); padding stands on the right."""
    device = next(decoder.parameters()).device
    longest = max(len(asked) + len(answered) for asked, answered in sequences)
    # Masked and never read, so any valid id pads.
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (asked, answered) in enumerate(sequences):
        ids[row, : len(asked) + len(answered)] = torch.tensor(asked + answered)
        mask[row, : len(asked) + len(answered)] = 1
    outputs: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)
        if len(outputs) == len(layers):
            raise _EnoughError

    hooks = [decoder.layers[layer - 1].register_forward_hook(keep) for layer in layers]
    try:
        decoder(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    except _EnoughError:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(outputs).mean(0)
