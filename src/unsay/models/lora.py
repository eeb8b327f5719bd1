"""LoRA: trained on the language model's linears and on nothing else, and loaded wherever it was trained.

A plain LoRA linear is computed in one operation instead of PEFT's eight, without their intermediate tensors:

    y = W x + c + s · B A x        ∂y/∂x = W + s · B A

The thin products are added onto the wide one in place, forward and backward. PEFT multiplies by s, adds, and adds the
two gradients of x in tensors of their own, which on a CPU takes as long as the thin products themselves. The result is
PEFT's up to the order of rounding; whatever is not plain goes PEFT's way.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import Linear
from peft.utils import ModulesToSaveWrapper
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from unsay.errors import UserError
from unsay.files import atomic_path, content_key, file_key, read_json
from unsay.models import pocket
from unsay.models.checks import check_adapter_acts, check_head, check_one_way, check_only_language
from unsay.models.failures import out_of_memory, reason
from unsay.models.layers import shared_layers
from unsay.models.vision import picture_logits
from unsay.models.vlm import VLM

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files of an adapter in PEFT format."""

SAVED = "base_model.model."
"""How PEFT begins the name of every weight of an adapter."""

WIDE = (torch.float32, torch.bfloat16)
"""Precisions that hold any gradient's size; in float16 small ones would become 0."""


class LoraSettings(BaseModel):
    """Where the adapter sits and how large it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1, description="rank r of the update")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    modules: Literal["attention", "mlp", "all"] = Field(
        "all",
        description="attention projections, the linears outside attention, or every linear; in a mixture of experts "
        "neither the router nor experts stored in one piece",
    )
    layers: Literal["all", "upper half", "upper third"] = Field(
        "all", description="which decoder layers are adapted; layers below the lowest one need no backward pass"
    )


def attach(vlm: VLM, settings: LoraSettings, seed: int) -> VLM:
    """A VLM with a fresh adapter on its language model; the rest of the weights is frozen.

    The model is changed in place; `detach` gives the original back.

    Raises:
        UserError: the model cannot be trained on text alone or has an adapter already, or one would land outside the
            language model.
    """
    if isinstance(vlm.model, PeftModel):
        raise UserError(
            f"{vlm.name}: has an adapter already, and training begins with a fresh one: merge it into a checkpoint, "
            "and train the checkpoint"
        )
    check_head(vlm)
    check_one_way(vlm)
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
    fuse_lora(model)
    adapted = VLM(vlm.name, model, vlm.processor, vlm.key, adapter_key="untrained")
    try:
        check_only_language(adapted)
        adapted.shared_layers = shared_layers(adapted)
    except BaseException:
        detach(adapted)
        raise
    return adapted


def load_adapter(vlm: VLM, folder: Path) -> VLM:
    """A VLM with a trained adapter in PEFT format; the model is changed in place, or left as it was on an error.

    The adapter may have been trained on the vision side, too (`VLM.adapts_vision`).

    Raises:
        UserError: the folder holds no adapter, or the adapter does not fit the model (all versions of the pocket VLM
            have the same shapes, so that one's would fit another by accident), does not change it, or could not be
            detached again.
    """
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file() or not (folder / ADAPTER_CONFIG).is_file():
        raise UserError(f"{folder}: no PEFT adapter there ({ADAPTER_CONFIG} and {ADAPTER_WEIGHTS})")
    try:
        config = PeftConfig.from_pretrained(str(folder))
        tensors = load_file(weights)
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise UserError(f"{folder}: not a readable PEFT adapter: {reason(error)}") from error
    if getattr(config, "bias", "none") != "none":
        # PEFT would write them over the model's own.
        raise UserError(
            f"{folder}: contains biases of the model itself (bias: {config.bias}), so it could not be taken off again: "
            "merge it into a checkpoint, and evaluate that"
        )
    here = getattr(vlm.base, "name_or_path", None)
    _check_same_pocket(folder, Path(config.base_model_name_or_path or "").name, Path(here or "").name)
    config.inference_mode = True
    config.base_model_name_or_path = here  # peft warns of any other name
    try:
        model = get_peft_model(vlm.model, config)
    except (ValueError, KeyError, MemoryError, RuntimeError) as error:
        raise _misfit(folder, vlm, error) from error
    fuse_lora(model)
    adapted = VLM(vlm.name, model.eval(), vlm.processor, vlm.key, adapter_key=adapter_key(folder))
    try:
        # PEFT would only warn of names that the model lacks, and ignore their weights.
        odd = tensors.keys() ^ get_peft_model_state_dict(model, save_embedding_layers=False).keys()
        if odd:
            raise UserError(f"{folder}: this adapter does not fit {vlm.name}: {len(odd)} weights differ, as {min(odd)}")
        set_peft_model_state_dict(model, tensors)
        adapted.adapts_vision = bool(weights_outside_language(adapted, tensors))
        check_adapter_acts(adapted, *([picture_logits] if adapted.adapts_vision else []))
    except (MemoryError, RuntimeError) as error:
        detach(adapted)
        raise _misfit(folder, vlm, error) from error
    except BaseException:
        detach(adapted)
        raise
    model.requires_grad_(False)  # switching an adapter off and on makes it trainable
    return adapted


def _check_same_pocket(folder: Path, base: str, here: str) -> None:
    """Raise if the folder of the adapter's base model and this model's are two versions of the pocket VLM."""
    if base == here:  # the rule, in which no weights are read
        return
    trained_on, version = pocket.version_of(base), pocket.version_of(here)
    if trained_on and version and trained_on != version:
        raise UserError(
            f"{folder}: this adapter was trained on {trained_on}, and the model is {version}: load {trained_on}"
        )


def _misfit(folder: Path, vlm: VLM, error: BaseException) -> UserError:
    if out_of_memory(error):
        return UserError(
            f"{folder}: out of memory while this adapter was put on {vlm.name}: model_settings.dtype, quantisation and "
            "device_map make room, or a device with more memory"
        )
    return UserError(f"{folder}: this adapter does not fit {vlm.name}: {reason(error)}")


def adapter_key(folder: Path) -> str:
    """Content key of a saved adapter, independent of its base model's path.

    PEFT writes its sets in no fixed order, so lists are sorted first.
    """
    config = read_json(folder / ADAPTER_CONFIG)
    stable = {
        key: sorted(map(str, value)) if isinstance(value, list) else value
        for key, value in config.items()
        if key != "base_model_name_or_path"
    }
    return content_key(file_key(folder / ADAPTER_WEIGHTS), stable)


def weight_names(folder: Path) -> list[str]:
    """The names of an adapter's weights, without reading them; a `UserError` for a damaged file."""
    path = folder / ADAPTER_WEIGHTS
    try:
        with safe_open(path, framework="pt") as weights:
            return list(weights.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); is it damaged?") from None


def detach(vlm: VLM) -> VLM:
    """The original model again; its weights are the same objects."""
    if not isinstance(vlm.model, PeftModel):
        return vlm
    for module in list(vlm.model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ModulesToSaveWrapper):  # PEFT would leave the trained module in place of the original
                setattr(module, name, child.original_module)
    return VLM(vlm.name, vlm.model.unload(), vlm.processor, vlm.key)


def save_adapter(vlm: VLM, folder: Path) -> VLM:
    """Write the adapter in PEFT format, so that plain peft loads it; returns the model under its new key."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            # By default, PEFT asks the model hub whether the vocabulary has grown.
            vlm.model.save_pretrained(temporary, safe_serialization=True, save_embedding_layers=False)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"cannot write {folder}: {reason(error)} (in {temporary}): free some space there, or name another "
                "folder in TMPDIR, and run the same command again"
            ) from error
        for source in sorted(Path(temporary).iterdir()):
            with atomic_path(folder / source.name) as whole:
                shutil.copyfile(source, whole)
    return VLM(vlm.name, vlm.model, vlm.processor, vlm.key, adapter_key=adapter_key(folder))


def language_linears(vlm: VLM, settings: LoraSettings) -> list[str]:
    """Full names of the linears to adapt.

    Identified by module: a linear qualifies because it *is* inside the decoder's layers, whatever its name, so that a
    vision tower that also has a `q_proj` is never adapted. Layers that only read pictures are left out, because a text
    gives them no gradient.

    In a mixture of experts these are attention, shared experts, and experts that are modules of their own. Experts that
    are stored in one piece, as in most families, have no linears and get no adapter. Neither does the router: what is
    learned must not depend on a different choice of experts.

    Raises:
        UserError: the decoder has no list of layers, or no linear qualifies.
    """
    layers = vlm.text_layers
    first = {"all": 0, "upper half": len(layers) // 2, "upper third": 2 * len(layers) // 3}[settings.layers]
    wanted = {
        id(module)
        for layer in layers[first:]
        for name, module in layer.named_modules()
        if _adaptable(module)
        and (settings.modules == "all" or ("attn" in name.split(".")[0]) == (settings.modules == "attention"))
    }
    wanted -= {id(linear) for layer in layers for linear in _routers(layer)}
    names = [name for name, module in vlm.base.named_modules() if id(module) in wanted]
    if not names:
        raise UserError(f"{vlm.name}: found no linear layers to adapt in its language model ({settings.modules})")
    return names


def _adaptable(module: nn.Module) -> bool:
    """Whether a module computes what a linear computes, so that an update can be added to it.

    Not every subclass does: Llama 4's router returns a tuple, and FP8 kernels have no gradient. Those of bitsandbytes
    are linears with packed weights, which PEFT supports.
    """
    if not isinstance(module, nn.Linear):
        return False
    packed = any(kind.__module__.partition(".")[0] == "bitsandbytes" for kind in type(module).__mro__)
    return packed or type(module).forward is nn.Linear.forward


def _routers(layer: nn.Module) -> Iterator[nn.Linear]:
    """The linears of a layer that choose among its experts: siblings of the experts with one output for each expert.

    A shared expert is a sibling, too, and may be as narrow, but leads back to the model's width.
    """
    for block in layer.modules():
        experts = getattr(block, "experts", None)  # their name in every family of transformers
        if not isinstance(experts, nn.Module):
            continue
        count = len(experts) if isinstance(experts, nn.ModuleList) else next(experts.parameters()).shape[0]
        for beside in block.children():
            linears = [module for module in beside.modules() if isinstance(module, nn.Linear)]
            if beside is not experts and all(linear.out_features == count for linear in linears):
                yield from linears


def weights_outside_language(vlm: VLM, names: Iterable[str]) -> list[str]:
    """Those of an adapter's weights that no text passes: in a tower, a projector, or layers that only read pictures."""
    passed = {id(module) for module in _passed_by_text(vlm)}
    paths = tuple(f"{SAVED}{name}." for name, module in vlm.base.named_modules() if id(module) in passed)
    return [name for name in names if not name.startswith(paths)]


def _passed_by_text(vlm: VLM) -> list[nn.Module]:
    # Beside its layers a decoder has embeddings, norms and linears. A part with blocks of its own is a tower, as
    # Phi-4-multimodal's.
    beside = [child for child in vlm.decoder.children() if not any(map(_has_blocks, child.modules()))]
    head = vlm.base.get_output_embeddings()
    return [*vlm.text_layers, *beside, *([] if head is None else [head])]


def _has_blocks(module: nn.Module) -> bool:
    """Whether a module is a list of more than plain linears, as Gemma-3n's; PEFT's own stand around those."""
    if not isinstance(module, nn.ModuleList):
        return False
    return any(next(getattr(part, "base_layer", part).children(), None) is not None for part in module)


def fuse_lora(model: nn.Module) -> None:
    """Let every plain LoRA linear of a model compute in one operation, in place; names and weights stay the same."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear and not _hooked(module.base_layer):
            module.__class__ = FusedLoraLinear


class FusedLoraLinear(Linear):  # type: ignore[misc]
    """PEFT's LoRA linear with a forward of its own for the plain case: one adapter, no dropout."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """PEFT's result, in one operation if the case is plain."""
        names = self.active_adapters
        if self.disable_adapters or self.merged or args or kwargs or len(names) != 1:
            return self._pefts(x, *args, **kwargs)
        name, weight = names[0], self.base_layer.weight
        if name not in self.lora_A or name in self.lora_variant or type(self.lora_dropout[name]) is not nn.Identity:
            return self._pefts(x)
        a, b = self.lora_A[name], self.lora_B[name]
        precise = x.dtype == weight.dtype and x.dtype in WIDE
        if b.bias is not None or not precise or torch.is_autocast_enabled(x.device.type):
            return self._pefts(x)
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = _Updated.apply(rows, weight, self.base_layer.bias, a.weight, b.weight, self.scaling[name])  # type: ignore[no-untyped-call]
        # Shaped here and not inside: autograd forbids adding in place to a view made there, as Llama 4's experts do.
        return out.view(*x.shape[:-1], -1)

    def _pefts(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = super().forward(x, *args, **kwargs)
        return out


class _Updated(torch.autograd.Function):
    """(x [n, in], frozen W [out, in], frozen c [out] or None, A [r, in], B [out, r], s) → [n, out]."""

    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, c: Tensor | None, a: Tensor, b: Tensor, s: float) -> Tensor:
        """W x + c + s · B A x."""
        out = linear(x, w, c)
        context.exact = a.dtype
        a, b = a.to(x.dtype), b.to(x.dtype)  # one rounding of a few numbers; PEFT widens all of x instead
        thin = x @ a.t()
        out.addmm_(thin, b.t(), alpha=s)
        context.save_for_backward(x, w, a, b, thin)
        context.s = s
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, to_out: Tensor) -> tuple[Tensor | None, ...]:
        """The needed gradients; W and c are frozen."""
        x, w, a, b, thin = context.saved_tensors
        to_thin = (to_out @ b).mul_(context.s)
        to_x = None
        if context.needs_input_grad[0]:
            to_x = (to_out @ w).addmm_(to_thin, a)
        to_a = (to_thin.t() @ x).to(context.exact) if context.needs_input_grad[3] else None
        to_b = (to_out.t() @ thin).mul_(context.s).to(context.exact) if context.needs_input_grad[4] else None
        return to_x, None, None, to_a, to_b, None


def _hooked(module: nn.Module) -> bool:
    """Whether this module has hooks, as from accelerate where weights are spread over devices."""
    return bool("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)
