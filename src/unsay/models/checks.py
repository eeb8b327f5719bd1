"""What must hold before a VLM is trained or measured; each check is there because somebody shipped the bug."""

import torch
from torch import Tensor

from unsay.errors import UserError
from unsay.models.vlm import VLM


def check_only_language(vlm: VLM) -> None:
    """Assert that every adapter and every trainable parameter belongs to the decoder.

    Raises:
        UserError: names the first parameter outside it.
    """
    inside = {id(parameter) for parameter in vlm.decoder.parameters()}
    for name, parameter in vlm.model.named_parameters():
        if ("lora_" in name or parameter.requires_grad) and id(parameter) not in inside:
            raise UserError(f"{vlm.name}: {name} would be trained, but it is not part of the language model")


@torch.no_grad()
def check_adapter_acts(vlm: VLM) -> None:
    """Assert that switching the adapter off changes what the model says: a silent no-op is a known bug.

    Raises:
        UserError: logits are the same with the adapter on and off.
    """
    on = short_logits(vlm)
    with vlm.model.disable_adapter():
        off = short_logits(vlm)
    if torch.equal(on, off):
        raise UserError(f"{vlm.name}: the adapter changes nothing (its updates are zero, or it was not applied)")


@torch.no_grad()
def check_head(vlm: VLM) -> None:
    """Assert that decoder and head alone give the whole model's logits, as training on text alone takes for granted.

    Raises:
        UserError: the model does something more to its logits, such as scaling or capping them.
    """
    ids = torch.tensor([vlm.encode_prompt(PROMPT)], device=vlm.device)
    whole = vlm.base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    if (short_logits(vlm).float() - whole).abs().max() > 1e-2 * whole.abs().max():
        raise UserError(f"{vlm.name}: its logits are not its output head's alone (scaled or capped?); not supported")


PROMPT = "Say something."


def short_logits(vlm: VLM) -> Tensor:
    """Logits of a short prompt through decoder and head, [1, length, vocabulary]."""
    ids = torch.tensor([vlm.encode_prompt(PROMPT)], device=vlm.device)
    logits: Tensor = vlm.lm_head(vlm.decoder(input_ids=ids, use_cache=False).last_hidden_state)
    return logits
