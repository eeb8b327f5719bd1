"""Pictures in front of a language model: features of the frozen vision tower, and the tower out of the way.

Vision tower and projector are never trained, so a picture's features at its placeholder tokens are the same in every
step. Computed once, they enter as plain input embeddings, and a training step runs the language model alone. Not every
family allows that: some hand the picture to deeper layers too, give its tokens positions on a grid, or let them attend
to each other. `accepts_features` tries it out.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from unsay.errors import UserError
from unsay.models.checks import PROMPT
from unsay.models.vlm import VLM

LOOSE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest difference of logits, as a share of the largest logit, that passes as rounding; 3e-2 in half precision."""

TRIED = 16
"""Last positions of a prompt whose logits are compared."""


class _ReachedError(Exception):
    """The forward pass has reached the language model, and ends here."""


@torch.no_grad()
def picture_features(vlm: VLM, image: Image.Image) -> Tensor:
    """A picture's features at its placeholder tokens in the language model's input, [tokens, H].

    Raises:
        UserError: the model has no placeholder tokens, or gives its language model no embeddings.
    """
    # With a neutral prompt, so that features that depend on the words fail the trial in `accepts_features`.
    return features_of(vlm, on_device(vlm, vlm.encode_picture(PROMPT, image))).clone()


def features_of(vlm: VLM, inputs: Mapping[str, Tensor]) -> Tensor:
    """The features of the picture in a processor's tensors, [tokens, H], with gradient if the pixels have one.

    The model's own forward is run up to its language model, so that nothing here depends on the family.
    """
    caught: list[Tensor | None] = []

    def stop(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        caught.append(kwargs.get("inputs_embeds"))
        raise _ReachedError

    handle = vlm.decoder.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        vlm.base(**inputs, use_cache=False)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    if not caught or caught[0] is None or vlm.image_token_id is None:
        raise UserError(f"{vlm.name}: pictures do not enter its language model as embeddings of placeholder tokens")
    return caught[0][_places(vlm, inputs["input_ids"])]


def _places(vlm: VLM, ids: Tensor) -> Tensor:
    """Where pictures stand among token ids, bool of their shape."""
    return torch.isin(ids, torch.tensor([vlm.image_token_id], device=ids.device))


def with_features(vlm: VLM, ids: Tensor, rows: Tensor, columns: Tensor, features: Tensor) -> Tensor:
    """Input embeddings of token ids with pictures' features in their places.

    Args:
        vlm: the model.
        ids: [B, L].
        rows: row of each feature, [n].
        columns: its column, [n].
        features: [n, H].

    Returns:
        [B, L, H].
    """
    embedded: Tensor = vlm.base.get_input_embeddings()(ids)
    return embedded.index_put((rows, columns), features.to(embedded.dtype))


def whole_hidden(vlm: VLM, inputs: Mapping[str, Tensor]) -> Tensor:
    """Last hidden states of the language model in a forward of the whole model, pixels included, [B, L, H]."""
    kept: list[Tensor] = []
    handle = vlm.decoder.register_forward_hook(lambda *call: kept.append(call[-1].last_hidden_state))
    # The head runs on answer positions elsewhere; here on one position, if the family allows it, to save its cost.
    few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(type(vlm.base).forward).parameters else {}
    try:
        vlm.base(**inputs, use_cache=False, **few)
    finally:
        handle.remove()
    return kept[0]


def noise_image() -> Image.Image:
    """A picture of coloured noise, the same on every machine."""
    side = 64
    noise = torch.randint(0, 256, (side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Image.fromarray(noise.numpy())


@torch.no_grad()
def picture_logits(vlm: VLM) -> Tensor:
    """Logits of a short prompt beside a picture, through the whole model, [1, length, vocabulary]."""
    logits: Tensor = vlm.base(**on_device(vlm, vlm.encode_picture(PROMPT, noise_image())), use_cache=False).logits
    return logits


@torch.no_grad()
def accepts_features(vlm: VLM, prompt: str, image: Image.Image) -> bool:
    """Whether features as input embeddings give the logits of a forward of the whole model, on this example."""
    try:
        features = picture_features(vlm, image)
        inputs = on_device(vlm, vlm.encode_picture(prompt, image))
        ids = inputs["input_ids"]
        rows, columns = torch.where(_places(vlm, ids))
        embedded = with_features(vlm, ids, rows, columns, features)
        short = vlm.decoder(
            inputs_embeds=embedded, attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state
    except (UserError, AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError):
        return False
    # A difference in the picture reaches the words after it; logits of all its positions would take gigabytes.
    whole = vlm.lm_head(whole_hidden(vlm, inputs)[:, -TRIED:]).float()
    difference = (vlm.lm_head(short[:, -TRIED:]).float() - whole).abs().max()
    return bool(difference <= LOOSE.get(short.dtype, 3e-2) * whole.abs().max())


def on_device(vlm: VLM, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors where the model is; pixels in its precision."""
    weights = next(weight for weight in vlm.decoder.parameters() if weight.is_floating_point())  # others are 4-bit
    return {
        name: value.to(weights.device, weights.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }


HOST = torch.device("cpu")


def vision_parts(vlm: VLM) -> list[nn.Module]:
    """The largest parts of the model that a text does not pass: all but its language model and output head.

    Identified by module, not by name. A tower inside the language model, as Phi-4-multimodal's, is not among them.
    """
    read = {id(module) for part in (vlm.decoder, vlm.lm_head) for module in part.modules()}

    def outside(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if id(child) in read:
                continue
            if any(id(inner) in read for inner in child.modules()):
                yield from outside(child)
            else:
                yield child

    return list(outside(vlm.base))


@contextmanager
def vision_on_host(vlm: VLM, wanted: bool) -> Iterator[None]:
    """Within this context, the parts that only pictures pass are in the host's memory; afterwards where they were.

    What is spread over devices or quantised cannot be moved and stays.
    """
    home = vlm.device
    parts = vision_parts(vlm) if wanted and _movable(vlm) else []
    for part in parts:
        part.to(HOST)
    try:
        yield
    finally:
        for part in parts:
            part.to(home)


def _movable(vlm: VLM) -> bool:
    spread = getattr(vlm.base, "hf_device_map", None) is not None or getattr(vlm.base, "is_quantized", False)
    return vlm.device != HOST and not spread
