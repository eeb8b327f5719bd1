"""Estimated floating-point operations: two per parameter and token, the usual count."""

from collections.abc import Iterable

from torch import nn

from unsay.models.vlm import VLM


def forward_flops(vlm: VLM, tokens: int, *, head_tokens: int = 0, images: int = 0) -> float:
    """Operations of forward passes.

    Args:
        vlm: the model.
        tokens: positions that pass the language model, image positions included.
        head_tokens: positions that pass the output head.
        images: pictures that pass the vision tower, at the tower's full number of patches each; a model whose
            pictures have no fixed size counts none.
    """
    total = 2.0 * _size(vlm.text_layers) * tokens + 2.0 * _size([vlm.lm_head]) * head_tokens
    vision = getattr(vlm.base.config, "vision_config", None)
    side = getattr(vision, "image_size", None)
    if images and vision is not None and isinstance(side, int):
        total += 2.0 * _seeing(vlm) * (side // vision.patch_size) ** 2 * images
    return total


def backward_flops(vlm: VLM, tokens: int) -> float:
    """Operations of the backward pass through the decoder, from the top down to the lowest trained layer.

    Weights are frozen but for the adapter, so there are gradients of activations and hardly any of weights.
    """
    layers = vlm.text_layers
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    lowest = trained.index(True) if True in trained else len(trained)
    return 2.0 * _size(layers[lowest:]) * tokens


def _size(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _seeing(vlm: VLM) -> int:
    """Parameters that are neither the decoder's nor the head's: vision tower and projector."""
    language = {id(parameter) for module in (vlm.decoder, vlm.lm_head) for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in vlm.base.parameters() if id(parameter) not in language)
