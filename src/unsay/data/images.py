"""Reading pictures, whoever made them, and telling whether two are the same."""

import hashlib
from pathlib import Path

from PIL import Image

from unsay.errors import UserError

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


def pixel_key(image: Image.Image) -> str:
    """A 16-hex-digit key of a picture's size and pixels, equal for the same picture in another file format."""
    digest = hashlib.sha256(f"{image.mode}/{image.width}x{image.height}/".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:16]
