"""How far an adapter reaches: into the language model alone, or into what only pictures pass as well."""

from collections.abc import Iterable

from torch import nn

from unsay.models.vlm import VLM

SAVED = "base_model.model."
"""How PEFT begins the name of every weight of an adapter."""


def beside_language(vlm: VLM, names: Iterable[str]) -> list[str]:
    """Those of an adapter's weights that no text meets: in a tower, a projector, or layers that only look at pictures.

    Args:
        vlm: the model, with the adapter or without; weights of its own are not needed.
        names: of the adapter's weights, as PEFT saves them.

    Raises:
        UserError: the decoder has no list of layers.
    """
    met = {id(module) for module in _met_by_text(vlm)}
    paths = tuple(f"{SAVED}{name}." for name, module in vlm.base.named_modules() if id(module) in met)
    return [name for name in names if not name.startswith(paths)]


def _met_by_text(vlm: VLM) -> list[nn.Module]:
    # Beside its layers a decoder has embeddings, norms and linears. What has blocks of its own there is a tower, as
    # Phi-4-multimodal's.
    beside = [child for child in vlm.decoder.children() if not any(map(_has_blocks, child.modules()))]
    head = vlm.base.get_output_embeddings()
    return [*vlm.text_layers, *beside, *([] if head is None else [head])]


def _has_blocks(module: nn.Module) -> bool:
    """Whether a module is a list of more than plain linears, as Gemma-3n's; PEFT's own stand around those."""
    if not isinstance(module, nn.ModuleList):
        return False
    return any(next(getattr(part, "base_layer", part).children(), None) is not None for part in module)
