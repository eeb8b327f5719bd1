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
from unsay.models.families import special_case
from unsay.models.vision import injects, on_device, picture_features, whole_hidden
from unsay.models.vlm import VLM
from unsay.training.pictures import Picture, Seen, joined


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
        self._checked = False

    def see(self, picture: Picture) -> Seen:
        """A picture as it enters the forward pass.

        Raises:
            UserError: the image is missing or unreadable, or the disk is full; beside pictures the model would see the
                tokens that it is to predict.
        """
        columns = torch.tensor(picture.columns, dtype=torch.long)
        if self._injects is None:
            self._injects = bool(picture.columns) and injects(self.vlm, picture.prompt, read_image(picture.path))
        if self._injects:
            return Seen(columns, self._features(picture))
        inputs = self.vlm.encode_picture(picture.prompt, read_image(picture.path))
        case = special_case(self.vlm.base.config)
        answers = {} if case is None or case.answer_kind is None else {"token_type_ids": case.answer_kind}
        seen = Seen(columns, None, on_device(self.vlm, inputs), answers)
        if not self._checked:
            check_one_way(self.vlm, seen)
            self._checked = True
        return seen

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
            *self.vlm.sight,
            picture.key,
            settings.to_json_string() if settings is not None else None,
            str(next(self.vlm.decoder.parameters()).dtype),
            transformers.__version__,
        )


@torch.no_grad()
def check_one_way(vlm: VLM, seen: Seen) -> None:
    """Assert that an answer behind a picture and its prompt is read from left to right, as it is written.

    Args:
        vlm: the model.
        seen: a picture that goes in as pixels.

    Raises:
        UserError: another last token changes the states before it.
    """
    assert seen.inputs is not None  # of a picture that goes in as features, the decoder alone decides
    prompt = seen.inputs["input_ids"]
    more = joined([seen], prompt.shape[1] + 2)
    word, *_, end = vlm.encode_answer("Yes.")

    def before(last: int) -> Tensor:
        ids = torch.cat([prompt, prompt.new_tensor([[word, last]])], dim=1)
        return whole_hidden(vlm, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more})[:, :-1]

    first, second = before(word), before(end)
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max())):
        raise UserError(
            f"{vlm.name}: beside a picture it reads answers in both directions; it cannot be trained on pictures"
        )


def _read(path: Path) -> Tensor | None:
    """Features from disk; None where there are none or the file is damaged."""
    try:
        return load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):
        return None
