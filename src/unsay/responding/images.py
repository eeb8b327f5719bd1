"""Pictures of prompts, read before work is spent on them."""

from collections.abc import Sequence

from unsay.data.images import read_image
from unsay.records import Prompt


def check_images(prompts: Sequence[Prompt]) -> None:
    """Read every image once, so that a bad one is named before work is spent.

    Raises:
        UserError: an image is missing or unreadable.
    """
    for path in dict.fromkeys(prompt.image for prompt in prompts):
        if path is not None:
            read_image(path)
