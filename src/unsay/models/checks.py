"""Checks before a VLM is trained or measured; each of them catches a bug that others have shipped."""

from collections.abc import Callable

import torch
from torch import Tensor

from unsay.errors import UserError
from unsay.models.vlm import VLM

PROMPT = "Say something."


def check_only_language(vlm: VLM) -> None:
    """Assert that every adapter and every trainable parameter belongs to the language model's own layers.

    Adapters from elsewhere may reach further and are measured all the same (`lora.weights_outside_language`). The
    decoder as a whole would be too wide: Phi-4-multimodal's holds its vision tower, too.
    """
    inside = {id(parameter) for layer in vlm.text_layers for parameter in layer.parameters()}
    for name, parameter in vlm.model.named_parameters():
        if ("lora_" in name or parameter.requires_grad) and id(parameter) not in inside:
            raise UserError(f"{vlm.name}: {name} would be trained, but it is not part of the language model")


@torch.no_grad()
def check_adapter_acts(vlm: VLM, *tried: Callable[[VLM], Tensor]) -> None:
    """Assert that switching the adapter off changes the model's logits: a silent no-op is a known bug.

    `tried` also give logits; they are tried after `short_logits` until one differs.
    """
    if not any(_acts(vlm, logits) for logits in (short_logits, *tried)):
        raise UserError(f"{vlm.name}: the adapter changes nothing (its updates are zero, or it was not applied)")


def _acts(vlm: VLM, logits: Callable[[VLM], Tensor]) -> bool:
    on = logits(vlm)
    with vlm.model.disable_adapter():
        return not torch.equal(on, logits(vlm))


@torch.no_grad()
def check_head(vlm: VLM) -> None:
    """Assert that decoder and head alone give the whole model's logits, as training on text alone assumes.

    Raises:
        UserError: the model changes its logits further, by scaling or capping them.
    """
    ids = torch.tensor([vlm.encode_prompt(PROMPT)], device=vlm.device)
    whole = vlm.base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    if (short_logits(vlm).float().to(whole.device) - whole).abs().max() > 1e-2 * whole.abs().max():
        raise UserError(f"{vlm.name}: its logits are not its output head's alone (scaled or capped?); not supported")


@torch.no_grad()
def check_one_way(vlm: VLM) -> None:
    """Assert that the decoder reads text from left to right: otherwise an answer's tokens see what they predict."""
    ids = torch.tensor([vlm.encode_prompt(PROMPT)], device=vlm.device)
    other = ids.clone()
    other[0, -1] = ids[0, 0] if ids[0, 0] != ids[0, -1] else ids[0, 1]
    first, second = (vlm.decoder(input_ids=row, use_cache=False).last_hidden_state[:, :-1] for row in (ids, other))
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max())):
        raise UserError(
            f"{vlm.name}: its language model reads text in both directions; it cannot be trained on answers"
        )


def short_logits(vlm: VLM) -> Tensor:
    """Logits of a short prompt through decoder and head, [1, length, vocabulary]."""
    ids = torch.tensor([vlm.encode_prompt(PROMPT)], device=vlm.device)
    logits: Tensor = vlm.lm_head(vlm.decoder(input_ids=ids, use_cache=False).last_hidden_state)
    return logits
