"""LoRA on the language model's linears, and on nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from unsay.errors import UserError
from unsay.files import content_key, file_key, read_json
from unsay.models.vlm import VLM

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


class LoraSettings(BaseModel):
    """Where the adapter sits and how large it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1, description="rank r of the update")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    modules: Literal["attention", "all"] = Field("all", description="attention projections, or every linear")
    layers: Literal["all", "upper half", "upper third"] = Field(
        "all", description="which decoder layers are adapted; layers below the lowest one need no backward pass"
    )


def language_linears(vlm: VLM, settings: LoraSettings) -> list[str]:
    """Full names of the linears to adapt.

    They are found by identity: a linear qualifies because it *is* a module inside the decoder's layers, whatever
    its name, so a vision tower that also has a `q_proj` is never touched.

    Raises:
        UserError: the decoder has no list of layers, or no linear qualifies.
    """
    layers = decoder_layers(vlm)
    first = {"all": 0, "upper half": len(layers) // 2, "upper third": 2 * len(layers) // 3}[settings.layers]
    wanted = {
        id(module)
        for layer in layers[first:]
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear) and (settings.modules == "all" or name.rsplit(".", 1)[-1] in ATTENTION)
    }
    names = [name for name, module in vlm.base.named_modules() if id(module) in wanted]
    if not names:
        raise UserError(f"{vlm.name}: found no linear layers to adapt in its language model ({settings.modules})")
    return names


def decoder_layers(vlm: VLM) -> Sequence[nn.Module]:
    """The language model's transformer blocks, lowest first."""
    decoder = vlm.decoder
    lists = [module for module in decoder.children() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise UserError(f"{vlm.name}: its language model ({type(decoder).__name__}) has no list of layers")
    return list(max(lists, key=len))


def attach(vlm: VLM, settings: LoraSettings, seed: int) -> VLM:
    """A VLM with a fresh adapter on its language model; the rest of the weights is frozen.

    Raises:
        UserError: an adapter would land outside the language model.
    """
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=language_linears(vlm, settings),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(vlm.model, config)
    adapted = VLM(vlm.name, model, vlm.processor, vlm.key, adapter_key="untrained")
    check_only_language(adapted)
    return adapted


def load_adapter(vlm: VLM, folder: Path) -> VLM:
    """A VLM with a trained adapter in PEFT format.

    Raises:
        UserError: the folder holds no adapter, or the adapter does not fit the model or does nothing to it.
    """
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file() or not (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder}: no PEFT adapter there (adapter_config.json and adapter_model.safetensors)")
    try:
        model = PeftModel.from_pretrained(vlm.model, str(folder))
    except (ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{folder}: this adapter does not fit {vlm.name}: {str(error).splitlines()[0]}") from error
    adapted = VLM(vlm.name, model.eval(), vlm.processor, vlm.key, adapter_key=adapter_key(folder))
    check_only_language(adapted)
    check_adapter_acts(adapted)
    return adapted


def adapter_key(folder: Path) -> str:
    """Content key of a saved adapter; PEFT writes its sets in no fixed order, so lists are sorted first."""
    config = read_json(folder / "adapter_config.json")
    settled = {key: sorted(map(str, value)) if isinstance(value, list) else value for key, value in config.items()}
    return content_key(file_key(folder / "adapter_model.safetensors"), settled)


def detach(vlm: VLM) -> VLM:
    """The original model again; its weights are the same objects."""
    if not isinstance(vlm.model, PeftModel):
        return vlm
    return VLM(vlm.name, vlm.model.unload(), vlm.processor, vlm.key)


def save_adapter(vlm: VLM, folder: Path) -> VLM:
    """Write the adapter in PEFT format, so that plain peft loads it; returns the model under its new key."""
    vlm.model.save_pretrained(str(folder), safe_serialization=True)
    return VLM(vlm.name, vlm.model, vlm.processor, vlm.key, adapter_key=adapter_key(folder))


def check_only_language(vlm: VLM) -> None:
    """Assert that every trainable parameter belongs to the decoder.

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
    ids = torch.tensor([vlm.encode_prompt("Say something.")], device=vlm.device)

    def logits() -> Any:
        return vlm.lm_head(vlm.decoder(input_ids=ids).last_hidden_state[:, -1])

    on = logits()
    with vlm.model.disable_adapter():
        off = logits()
    if torch.equal(on, off):
        raise UserError(f"{vlm.name}: the adapter changes nothing (its updates are zero, or it was not applied)")
