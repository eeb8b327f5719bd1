"""Reading pictures that other people made."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from unsay.errors import UserError
from unsay.records import Prompt

PAPER = (255, 255, 255, 255)


def read_image(path: str | Path) -> Image.Image:
    """An image in RGB; what is transparent becomes white, for dark letters on nothing would vanish in black.

    Raises:
        UserError: the file is missing or is no image.
    """
    try:
        with Image.open(path) as image:
            if not image.has_transparency_data:
                return image.convert("RGB")
            layer = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layer.size, PAPER), layer).convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise UserError(f"{path}: not a readable image ({type(error).__name__})") from None


def check_images(prompts: Sequence[Prompt]) -> None:
    """Read every image once, so that a bad one is named before work is spent.

    Raises:
        UserError: an image is missing or unreadable.
    """
    for path in dict.fromkeys(prompt.image for prompt in prompts):
        if path is not None:
            read_image(path)
