"""Your own training examples, with or without pictures."""

import os
import random
from pathlib import Path

from unsay.data.images import read_image
from unsay.errors import UserError
from unsay.files import file_key, read_numbered_rows, read_rows
from unsay.records import Example, Role


def read_examples(path: Path, probe: int, seed: int) -> tuple[list[Example], list[Example]]:
    """The user's examples; a part of the retain ones, never more than a tenth, is set aside as the probe.

    Paths of images are relative to the file.

    Raises:
        UserError: names the file and the line: a malformed row, a repeated id, a missing or unreadable image.
    """
    numbered = read_numbered_rows(path, Example)
    if not numbered:
        raise UserError(f"{path}: holds no examples")
    seen: set[str] = set()
    for line, example in numbered:
        if example.id in seen:
            raise UserError(f"{path}:{line}: id: an earlier row has the same one")
        seen.add(example.id)
    examples = [_opened(path, line, example) for line, example in numbered]
    retain = [example for example in examples if example.role is Role.RETAIN]
    aside = set(random.Random(seed).sample([e.id for e in retain], min(probe, len(retain) // 10)))
    return [e for e in examples if e.id not in aside], [e for e in retain if e.id in aside]


def _opened(path: Path, line: int, example: Example) -> Example:
    """The example with an absolute path to its picture.

    Raises:
        UserError: the picture is missing or unreadable; names the file and the line.
    """
    if example.image is None:
        return example
    image = os.path.abspath(path.parent / example.image)
    try:
        read_image(image)
    except UserError as error:
        raise UserError(f"{path}:{line}: image: {error}") from None
    return example.model_copy(update={"image": image})


def examples_key(path: Path | None) -> list[object] | None:
    """The user's examples by content, pictures included; None where there is no such file."""
    return None if path is None or not path.is_file() else [file_key(path), pictures_key(path)]


def pictures_key(path: Path) -> list[str]:
    """The user's pictures by content: a picture that was edited is other training data."""
    images = [example.image for example in readable(path) if example.image is not None]
    return [file_key(file) for image in images if (file := path.parent / image).is_file()]


def readable(path: Path) -> list[Example]:
    """The rows of a file, or none where it is missing or malformed: that is said where it is read in earnest."""
    try:
        return read_rows(path, Example)
    except UserError:
        return []
