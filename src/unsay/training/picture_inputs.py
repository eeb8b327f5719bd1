"""Training pictures: their features from the frozen vision tower, kept on disk, and their place in the forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from unsay.data.pictures import read_image
from unsay.errors import UserError
from unsay.files import atomic_path, content_key
from unsay.models.families import special_case
from unsay.models.vision import accepts_features, on_device, picture_features, whole_hidden
from unsay.models.vlm import VLM


@dataclass(frozen=True)
class Picture:
    """An example's picture and its place in the prompt.

    Attributes:
        path: the file.
        key: content key of its pixels.
        prompt: the words beside it.
        columns: positions of its placeholder tokens in the prompt; empty where the model has none.
    """

    path: str
    key: str
    prompt: str
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """A picture as it enters the forward pass of one row: as features, or as the processor's tensors.

    Attributes:
        columns: positions of its tokens in the row, [n].
        features: input embeddings at these positions, [n, H]; None if the whole model must run.
        inputs: in that case the processor's tensors for this row: `input_ids` of the prompt, pixels and more.
        answers: values of per-token tensors at an answer's tokens, if they differ from the prompt's last.
    """

    columns: Tensor
    features: Tensor | None
    inputs: Mapping[str, Tensor] | None = None
    answers: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Seen":
        """The same on a device."""
        features = None if self.features is None else self.features.to(device, non_blocking=True)
        inputs = None if self.inputs is None else {name: value.to(device) for name, value in self.inputs.items()}
        return Seen(self.columns.to(device), features, inputs, self.answers)


def pixel_groups(rows: Sequence[Seen | None]) -> list[list[int]]:
    """Rows whose processor tensors can be joined: equal in all but the first dimension, or one value per token."""
    groups: dict[object, list[int]] = {}
    for row, inputs in enumerate(map(_inputs, rows)):
        shapes = tuple(
            (name, tuple(value.shape[2 if _per_token(inputs, name) else 1 :])) for name, value in sorted(inputs.items())
        )
        groups.setdefault(shapes, []).append(row)
    return list(groups.values())


def joined(rows: Sequence[Seen | None], length: int) -> dict[str, Tensor]:
    """The processor's tensors of rows of one group, without ids and mask; per-token ones are extended to `length`.

    Per-token values, such as kinds of tokens, cover the prompt; an answer's are those of the prompt's last token, as in
    generation, unless `Seen.answers` has others.
    """
    return {
        name: torch.cat([_continued(row, name, length) for row in rows])
        for name in _inputs(rows[0])
        if name not in ("input_ids", "attention_mask")
    }


def _continued(row: Seen | None, name: str, length: int) -> Tensor:
    """A row's tensor; with one value per token, extended: [1, L, ...] → [1, length, ...]."""
    inputs = _inputs(row)
    values = inputs[name]
    if row is None or not _per_token(inputs, name):
        return values
    last = torch.full((length - values.shape[1],), values.shape[1] - 1, device=values.device)
    following = values.index_select(1, last)
    if name in row.answers:
        following = torch.full_like(following, row.answers[name])
    return torch.cat([values, following], dim=1)


def _inputs(row: Seen | None) -> Mapping[str, Tensor]:
    if row is None or row.inputs is None:
        raise ValueError("a row without pixels among rows that need them")
    return row.inputs


def _per_token(inputs: Mapping[str, Tensor], name: str) -> bool:
    return inputs[name].shape[:2] == inputs["input_ids"].shape


class Vision:
    """Gives each picture's input to the forward pass.

    Features are made at a picture's first use, one picture at a time, so that they do not depend on the others of a
    run. A model that cannot take them as embeddings gets pixels in every step instead; that is tried on the first
    picture, with the model as it is then.

    Attributes:
        passed: pictures whose features were computed here.
    """

    def __init__(self, vlm: VLM, folder: Path) -> None:
        """With the features of earlier sessions in `folder`; it may be deleted at any time."""
        self.vlm, self.folder = vlm, folder
        self.passed = 0
        self._takes_features: bool | None = None
        self._checked = False

    def see(self, picture: Picture) -> Seen:
        """A picture as it enters the forward pass.

        Raises:
            UserError: the image is missing or unreadable, the disk is full, or the model reads answers after pictures
                in both directions.
        """
        columns = torch.tensor(picture.columns, dtype=torch.long)
        if self._takes_features is None:
            self._takes_features = bool(picture.columns) and accepts_features(
                self.vlm, picture.prompt, read_image(picture.path)
            )
        if self._takes_features:
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
        """Content key of everything that decides a picture's features."""
        settings = getattr(self.vlm.processor, "image_processor", None)
        return content_key(
            *self.vlm.vision_key,
            picture.key,
            settings.to_json_string() if settings is not None else None,
            str(next(self.vlm.decoder.parameters()).dtype),
            transformers.__version__,
        )


@torch.no_grad()
def check_one_way(vlm: VLM, seen: Seen) -> None:
    """Assert that an answer after a picture and its prompt is read from left to right."""
    assert seen.inputs is not None  # for features, the check of the decoder is enough
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
    """Features from disk; None if there are none or the file is damaged."""
    try:
        return load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):
        return None
