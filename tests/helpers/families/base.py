"""What every tiny family is made of: a tokenizer with its own tokens, small dimensions, a checkpoint folder."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from helpers import tiny

SIDE = 32
"""Pixels of a tiny picture's side."""

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,  # large enough that layers matter
}

TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
    "initializer_range": 0.2,
}


@dataclass(frozen=True)
class Family:
    """One family of models in miniature.

    Attributes:
        name: as people call it.
        checkpoint: a published checkpoint whose layout is imitated; never fetched.
        build: writes a checkpoint folder with a random model of the real class and a real processor.
        answer_end: what ends an answer in the family's template.
        needs: packages that the family's own processor imports.
    """

    name: str
    checkpoint: str
    build: Callable[[Path], None]
    answer_end: str
    needs: tuple[str, ...] = ()

    @property
    def lacks(self) -> list[str]:
        """What it needs and is not installed here."""
        return [package for package in self.needs if find_spec(package) is None]


def tokenizer(
    *tokens: str,
    bos: str | None = None,
    eos: str = "<|im_end|>",
    pad: str | None = None,
    named: Mapping[str, str] | None = None,
    adds_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE after the pocket VLM's, with a family's tokens behind its own.

    Args:
        tokens: special tokens of the family.
        bos: beginning of a sequence.
        eos: end of a sequence.
        pad: padding; the end of a sequence if there is none.
        named: tokens that the family's processor asks the tokenizer for by attribute.
        adds_bos: whether the tokenizer itself puts `bos` before every text, as LLaVA-1.5's does.
    """
    core = copy.deepcopy(tiny.tokenizer().backend_tokenizer)
    special = [token for token in (bos, eos, pad, *tokens, *(named or {}).values()) if token]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in dict.fromkeys(special)])
    if adds_bos:
        core.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
        )  # fmt: skip
    more = {"extra_special_tokens": dict(named)} if named else {}
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token=eos, pad_token=pad or eos, **more)
    made.padding_side = "left"
    return made


def ids(coded: PreTrainedTokenizerFast, *tokens: str) -> list[int]:
    """Token ids by token; every one must be known."""
    found = [coded.convert_tokens_to_ids(token) for token in tokens]
    assert all(isinstance(number, int) and number < len(coded) for number in found), tokens
    return found


def save(folder: Path, model_class: type, config: Any, processor: Any, *, ends: list[int], seed: int = 0) -> None:
    """Draw random weights and write a standard checkpoint."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # Gates and projections that begin at zero would hide the picture from the language model.
                if parameter.ndim and not bool(parameter.any()):
                    parameter.normal_(0, 0.2)
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = ends[0]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
