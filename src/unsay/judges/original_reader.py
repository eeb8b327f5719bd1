"""The probe that reads with the model under test, as it was before unlearning: a larger judge without a download.

The probe of `probe.py` needs any frozen language model. Here it is the run's own original: an adapter that is on it is
switched off while it reads, so that what is unlearned never judges. The fit is made once for each model, on PyRIT's
human labels, and kept in the cache.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from unsay.assets import derived
from unsay.files import content_key, read_json, write_text
from unsay.judges import agreement, probe_features
from unsay.judges.base import Original
from unsay.judges.label_sets import pyrit_objective
from unsay.judges.probe import ProbeJudge, fit
from unsay.judges.probe_fit import FittedProbe, ProbeSettings
from unsay.judges.rules import rules_key
from unsay.judges.soundness import Reader, Soundness
from unsay.models import VLM

VERSION: Final = 1
"""Raise when the same labels and the same model give another fit."""

DEPTH: Final = 0.4
"""Of the blocks that are read: 12 of SmolLM2's 30, on which the packaged probe was chosen."""

PACKAGED_HIDDEN: Final = 576
"""Hidden units of the packaged probe's reader."""


class _ChatTokenizer:
    """A vision-language model's tokenizer, with the chat format that its processor has."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm

    def __call__(self, text: str, **options: Any) -> Any:
        return self._vlm.tokenizer(text, **options)

    def decode(self, ids: list[int], **options: Any) -> str:
        return str(self._vlm.tokenizer.decode(ids, **options))

    def apply_chat_template(self, chat: list[dict[str, str]], **_options: Any) -> str:
        return self._vlm.render(chat[0]["content"]) + self._vlm.answer_lead


@contextmanager
def reading(original: Original) -> Iterator[Reader]:
    """The original model and its tokenizer; an adapter that is on the model is off meanwhile."""
    vlm: VLM = original.open()
    off = vlm.model.disable_adapter() if vlm.adapter_key is not None else nullcontext()
    with off:
        yield vlm.base, _ChatTokenizer(vlm)


class OriginalProbe(ProbeJudge):
    """The judge `probe` with another reader; the shared first step keeps SmolLM2, by which its limits were set."""

    def __init__(self, original: Original, fitted: FittedProbe) -> None:
        super().__init__(None, None, fitted, Soundness())
        self._original = original

    def reading(self) -> AbstractContextManager[Reader]:
        """The original model, for as long as it is read with; an adapter that is on it is off."""
        return reading(self._original)


def settings_for(depth: int, hidden: int) -> ProbeSettings:
    """Settings of a fit on a model with `depth` blocks of `hidden` units.

    The penalty is that of the packaged probe for each source of evidence: what all hidden units together may say, and
    what all wording features may, has the same prior spread whatever their number.
    """
    packaged = ProbeSettings()
    share = hidden / PACKAGED_HIDDEN
    return packaged.model_copy(
        update={
            "layers": (max(1, round(DEPTH * depth)),),
            "regularisation": packaged.regularisation / share,
            "wording_weight": packaged.wording_weight * share**0.5,
        }
    )


def original_probe(original: Original) -> ProbeJudge:
    """The probe of this model: fitted at first use, then from the cache, which loads no model.

    Raises:
        UserError: the labels cannot be fetched.
    """
    rows = pyrit_objective()
    key = content_key(VERSION, original.key, probe_features.VERSION, agreement.VERSION, rules_key(), rows)

    def build(folder: Path) -> None:
        with reading(original) as (model, tokenizer):
            config = model.config.get_text_config()
            settings = settings_for(config.num_hidden_layers, config.hidden_size)
            fitted = fit(model, tokenizer, rows, settings, key=key)
        write_text(folder / "probe.json", fitted.model_dump_json())

    fitted = FittedProbe.model_validate(read_json(derived("original-probe", key, build) / "probe.json"))
    return OriginalProbe(original, fitted)
