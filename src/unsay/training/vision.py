"""A run's pictures, seen once each: features of the frozen vision tower, kept on disk."""

from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from unsay.data.images import read_image
from unsay.errors import UserError
from unsay.files import atomic_path, content_key
from unsay.models.vision import injects, on_device, picture_features
from unsay.models.vlm import VLM
from unsay.training.pictures import Picture, Seen


class Vision:
    """What pictures become in front of the language model.

    Features are made when a picture is first met, one picture at a time, so that they do not depend on which others a
    run has. A model that cannot take them as embeddings gets pixels in every step instead; that is tried out on the
    first picture, with the model as it is then.

    Attributes:
        passed: pictures that went through the vision tower here to have their features taken.
    """

    def __init__(self, vlm: VLM, folder: Path) -> None:
        """With the features of earlier sessions in `folder`; it may be deleted at any time."""
        self.vlm, self.folder = vlm, folder
        self.passed = 0
        self._injects: bool | None = None

    def see(self, picture: Picture) -> Seen:
        """A picture as it enters the forward pass.

        Raises:
            UserError: the image is missing or unreadable, or the disk is full.
        """
        columns = torch.tensor(picture.columns, dtype=torch.long)
        if self._injects is None:
            self._injects = bool(picture.columns) and injects(self.vlm, picture.prompt, read_image(picture.path))
        if self._injects:
            return Seen(columns, self._features(picture))
        inputs = self.vlm.encode_picture(picture.prompt, read_image(picture.path))
        return Seen(columns, None, on_device(self.vlm, inputs))

    def _features(self, picture: Picture) -> Tensor:
        path = self.folder / f"{self._key(picture)}.safetensors"
        known = _read(path)
        if known is not None and len(known) == len(picture.columns):
            return known
        features = picture_features(self.vlm, read_image(picture.path)).cpu().contiguous()
        self.passed += 1
        if len(features) != len(picture.columns):
            raise UserError(
                f"{picture.path}: gives {len(features)} features for {len(picture.columns)} tokens of "
                f"{self.vlm.name}; was it changed during the run?"
            )
        with atomic_path(path) as temporary:
            temporary.write_bytes(save({"features": features}))
        return features

    def _key(self, picture: Picture) -> str:
        """Of all that decides a picture's features."""
        settings = getattr(self.vlm.processor, "image_processor", None)
        return content_key(
            self.vlm.key,
            picture.key,
            settings.to_json_string() if settings is not None else None,
            str(next(self.vlm.decoder.parameters()).dtype),
            transformers.__version__,
        )


def _read(path: Path) -> Tensor | None:
    """Features from disk; None where there are none or the file is damaged."""
    try:
        return load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):
        return None
