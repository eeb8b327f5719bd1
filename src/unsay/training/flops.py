"""Estimated floating-point operations of training and evaluation: two per parameter and token, the usual count."""

from collections.abc import Iterable

from torch import nn

from unsay.methods.base import Needs
from unsay.models.vlm import VLM
from unsay.training.encode import MixedBatch
from unsay.training.head import fusible


def step_flops(vlm: VLM, batch: MixedBatch, needs: Needs, *, original: bool = True, recompute: bool = False) -> float:
    """Estimated operations of one step; a prefix that rows share is counted for each of them.

    Forward; backward down to the lowest adapter; the original model's forward on the roles that need it. A head that is
    not a plain linear computes its logits once more in the backward pass, those of the original, too. Pictures' tokens
    count in the language model like any other; the vision tower counts only if the whole model runs in every step.
    """
    again = 0 if fusible(vlm.lm_head) else 1
    current = forward_flops(vlm, batch.tokens, head_tokens=len(batch.targets), images=batch.whole)
    reached = backward_flops(vlm, batch.tokens)  # equal to a forward pass of the same layers
    current += 2 * reached if recompute else reached
    head_backward = forward_flops(vlm, 0, head_tokens=len(batch.targets))
    head_again = forward_flops(vlm, 0, head_tokens=again * len(batch.targets))
    before = original_flops(vlm, batch, needs, head_passes=1 + again) if original else 0.0
    return current + head_backward + head_again + before


def probe_flops(vlm: VLM, batch: MixedBatch, needs: Needs) -> float:
    """Estimated operations of one look at the probe, which has no backward pass."""
    current = forward_flops(vlm, batch.tokens, head_tokens=len(batch.targets), images=batch.whole)
    return current + original_flops(vlm, batch, needs, head_passes=1)


def original_flops(vlm: VLM, batch: MixedBatch, needs: Needs, *, head_passes: int) -> float:
    """Estimated operations of the original model's forward, without layers shared with the current model."""
    read = batch.rows_of(needs.original)
    tokens = sum(example.length for example, kept in zip(batch.examples, read, strict=True) if kept)
    whole = sum(
        seen is not None and seen.features is None for seen, kept in zip(batch.pictures, read, strict=False) if kept
    )
    chosen = batch.scored_in(needs.reference | needs.kl)
    below = 0 if batch.whole else vlm.shared_layers  # a forward of the whole model shares none
    body = forward_flops(vlm, tokens) * (1 - below / len(vlm.layers))
    body += forward_flops(vlm, 0, images=whole)
    return body + forward_flops(vlm, 0, head_tokens=head_passes * len(chosen))


def forward_flops(vlm: VLM, tokens: int, *, head_tokens: int = 0, images: int = 0) -> float:
    """Operations of forward passes.

    Args:
        vlm: the model.
        tokens: positions that pass the language model, image positions included.
        head_tokens: positions that pass the output head.
        images: pictures that pass the vision tower, each with its full number of patches; not counted for a model
            whose pictures have no fixed size.
    """
    total = 2.0 * _size(vlm.text_layers) * tokens + 2.0 * _size([vlm.lm_head]) * head_tokens
    vision = getattr(vlm.base.config, "vision_config", None)
    side = getattr(vision, "image_size", None)
    if images and vision is not None and isinstance(side, int):
        total += 2.0 * _vision_size(vlm) * (side // vision.patch_size) ** 2 * images
    return total


def backward_flops(vlm: VLM, tokens: int) -> float:
    """Operations of the backward pass through the decoder, from the top down to the lowest trained layer.

    All weights but the adapter's are frozen, so that almost all gradients are of activations.
    """
    layers = vlm.text_layers
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    lowest = trained.index(True) if True in trained else len(trained)
    return 2.0 * _size(layers[lowest:]) * tokens


def _size(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _vision_size(vlm: VLM) -> int:
    """Parameters that are neither the decoder's nor the head's: vision tower and projector."""
    language = {id(parameter) for module in (vlm.decoder, vlm.lm_head) for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in vlm.base.parameters() if id(parameter) not in language)
