"""Pictures small enough to live inside the page."""

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

LARGEST = 320
"""Pixels on the longer side."""


def data_uri(path: Path) -> str | None:
    """A `data:` URI of a thumbnail, PNG or JPEG, whichever is smaller; None for a missing or unreadable picture.

    A report is worth having without its pictures, so a picture that moved is no error.
    """
    try:
        with Image.open(path) as opened:
            opened.thumbnail((LARGEST, LARGEST))
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    found = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 80})):
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        found.append((kind, buffer.getvalue()))
    kind, data = min(found, key=lambda item: len(item[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
