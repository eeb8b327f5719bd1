"""The way from pixels into a model: the processor's own numbers, with gradients, or none at all."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from helpers import tiny
from unsay.models.checks import PROMPT
from unsay.models.pixels import as_picture, pixel_path

SIDE = tiny.IMAGE_SIZE


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(params=tiny.FAMILIES)
def vlm(request):
    return tiny.FAMILIES[request.param]()


def test_it_is_what_the_processor_computes(vlm):
    path = pixel_path(vlm, Image.new("RGB", (SIDE, SIDE)))
    assert (path.width, path.height) == (SIDE, SIDE)
    image = noise(SIDE, SIDE)
    wanted = vlm.encode_picture(PROMPT, image)[path.name]
    assert torch.allclose(path(path.fit(image)), wanted, atol=1e-5)


def test_a_picture_that_is_resized_is_taken_at_the_size_that_it_gets(vlm):
    path = pixel_path(vlm, noise(3 * SIDE, 3 * SIDE))
    assert path.fit(noise(3 * SIDE, 3 * SIDE)).shape == (SIDE, SIDE, 3)


def test_every_pixel_has_its_gradient():
    path = pixel_path(tiny.llava(), Image.new("RGB", (SIDE, SIDE)))
    pixels = path.fit(noise(SIDE, SIDE)).requires_grad_()
    path(pixels).sum().backward()
    assert torch.allclose(pixels.grad, torch.full_like(pixels, 1 / 127.5))  # of x / 127.5 − 1


def test_a_saved_picture_is_exactly_what_was_computed():
    pixels = torch.arange(0, 256).repeat(SIDE * SIDE * 3 // 256 + 1)[: SIDE * SIDE * 3].view(SIDE, SIDE, 3).float()
    path = pixel_path(tiny.llava(), Image.new("RGB", (SIDE, SIDE)))
    assert torch.equal(path.fit(as_picture(pixels)), pixels)


def test_a_processor_that_blends_neighbours_has_no_path(monkeypatch):
    vlm = tiny.llava()
    encode = vlm.encode_picture
    monkeypatch.setattr(vlm, "encode_picture", lambda words, image: encode(words, image.filter(ImageFilter.BoxBlur(1))))
    assert pixel_path(vlm, Image.new("RGB", (SIDE, SIDE))) is None


def test_a_processor_that_does_not_rescale_evenly_has_no_path(monkeypatch):
    vlm = tiny.llava()
    encode = vlm.encode_picture
    curve = [round(255 * (level / 255) ** 2) for level in range(256)] * 3
    monkeypatch.setattr(vlm, "encode_picture", lambda words, image: encode(words, image.point(curve)))
    assert pixel_path(vlm, Image.new("RGB", (SIDE, SIDE))) is None


def test_a_processor_that_looks_at_no_pixels_has_no_path(monkeypatch):
    vlm = tiny.llava()
    encode = vlm.encode_picture
    blank = Image.new("RGB", (SIDE, SIDE))
    monkeypatch.setattr(vlm, "encode_picture", lambda words, _image: encode(words, blank))
    assert pixel_path(vlm, blank) is None
