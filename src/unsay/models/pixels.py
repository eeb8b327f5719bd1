"""The way from a picture's pixels into a model, with gradients: what an attack on pixels needs.

Processors work on numpy and give no gradient. But on a picture of a size that it keeps, a processor only moves pixels
about (into tiles, patches, a list of patches) and rescales each of them:

    input[i] = scale[i] · pixel[place[i]] + shift[i]

Which numbers these are is read off the processor itself, from five pictures, and tried out on a sixth. So no list of
families is needed, and a processor that does anything else (blends neighbours, adds an overview) fails the trial.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unsay.models.checks import PROMPT
from unsay.models.vlm import VLM

DIGITS = 3
"""Base-256 digits of a pixel's number: pictures of up to 2²⁴ values, 2,364 pixels square."""

CLOSE = 1e-2
"""Largest error that passes as rounding, in levels of a pixel (0 to 255)."""


@dataclass(frozen=True)
class PixelPath:
    """How a processor turns the pixels of a picture of one size into a model's input.

    Attributes:
        width: pixels.
        height: pixels.
        name: of the processor's tensor that holds the picture.
        place: which of the picture's values, counted through [height, width, 3], each input value is, in its shape.
        scale: factor of each input value, in its shape; 0 for padding.
        shift: what is added, in its shape.
    """

    width: int
    height: int
    name: str
    place: Tensor
    scale: Tensor
    shift: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixel values [height, width, 3] from 0 to 255 → the model's input, with gradient."""
        return self.scale * pixels.flatten()[self.place] + self.shift

    def fit(self, image: Image.Image) -> Tensor:
        """A picture at this path's size, as pixel values [height, width, 3] in float32."""
        picture = image.convert("RGB")
        if picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(picture, dtype=np.float32))


def as_picture(pixels: Tensor) -> Image.Image:
    """Pixel values [height, width, 3], whole numbers from 0 to 255, as an 8-bit picture."""
    return Image.fromarray(pixels.round().clamp(0, 255).to(torch.uint8).cpu().numpy())


def pixel_path(vlm: VLM, image: Image.Image) -> PixelPath | None:
    """The path of pictures of this picture's size, or else of the size that the processor makes of it.

    None if the processor does more than move and rescale pixels, so that there is no gradient.
    """
    tensors = vlm.encode_picture(PROMPT, image)
    made = [tuple(value.shape[-2:]) for value in tensors.values() if value.is_floating_point() and value.ndim >= 4]
    for width, height in dict.fromkeys([image.size, *((width, height) for height, width in made)]):
        path = _read_off(vlm, width, height)
        if path is not None:
            return path
    return None


def _read_off(vlm: VLM, width: int, height: int) -> PixelPath | None:
    """The path of pictures of this size; None if the processor has none."""
    values = 3 * width * height
    if values > 256**DIGITS:
        return None

    def processed(pixels: NDArray[Any]) -> dict[str, Tensor]:
        picture = Image.fromarray(pixels.reshape(height, width, 3).astype(np.uint8))
        tensors = vlm.encode_picture(PROMPT, picture)
        return {name: value.double() for name, value in tensors.items() if value.is_floating_point()}

    black, white = processed(np.zeros(values)), processed(np.full(values, 255))
    changed = [name for name, value in black.items() if not _same(value, white.get(name))]
    if len(changed) != 1 or black[changed[0]].shape != white[changed[0]].shape:
        return None
    name = changed[0]
    shift, scale = black[name], (white[name] - black[name]) / 255
    seen = scale != 0
    place = torch.zeros_like(shift, dtype=torch.long)
    for digit in range(DIGITS):
        coded = processed(np.arange(values) // 256**digit % 256).get(name)
        if coded is None or coded.shape != shift.shape:
            return None
        read = torch.where(seen, (coded - shift) / torch.where(seen, scale, 1), 0)
        place += read.round().long() * 256**digit
    if int(place.min()) < 0 or int(place.max()) >= values:
        return None
    path = PixelPath(width, height, name, place, scale.float(), shift.float())
    noise = np.random.default_rng(0).integers(0, 256, values)  # neighbours that have nothing in common
    tried = path(torch.from_numpy(noise.astype(np.float32))).double()
    error = (tried - processed(noise)[name]).abs() / torch.where(seen, scale.abs(), 1)
    return path if float(error.max()) <= CLOSE else None


def _same(first: Tensor, second: Tensor | None) -> bool:
    return second is not None and first.shape == second.shape and torch.equal(first, second)
