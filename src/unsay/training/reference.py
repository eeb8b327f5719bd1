"""The original model's log-probabilities of each example, computed once and kept.

Running the original in every step costs a forward pass, which is repeated where examples are seen several times or
several runs train on the same data. Kept are the exact log-probability of every answer token and, if KL is needed, the
k likeliest tokens with theirs (see `head.top_k_kl` for what is lost).

Each file holds some examples under keys of everything that decides them (the model, the token ids and so the chat
template, k), and their cost. Files are written whole or not at all, so that a killed run loses the last of them at
most.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unsay.files import atomic_path, content_key
from unsay.methods.base import Needs, Part
from unsay.models.vlm import VLM
from unsay.training.encode import Encoded, collate
from unsay.training.flops import original_flops
from unsay.training.forward import answer_hidden
from unsay.training.head import Reference
from unsay.training.settings import TrainSettings

FORMAT = 2
"""Raise when the code changes what is kept, so that it is computed again."""

BATCH = 16
"""Examples that the original model reads together."""

PER_FILE = 64
"""Examples in one file, which a killed run may have to compute again."""


class Price(NamedTuple):
    """What one or more examples cost."""

    flops: float
    seconds: float


class ReferenceCache:
    """The original model's log-probabilities by example, in memory and under `folder`.

    Of several processes that train together each computes them, and one `writes`.
    """

    def __init__(self, folder: Path, settings: TrainSettings, model: str, *, writes: bool = True) -> None:
        self.folder, self.settings, self._writes = folder, settings, writes
        self._model = model
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._prices: dict[str, Price] = {}
        self._paid: set[str] = set()
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    price = Price(*(float(file.metadata()[name]) for name in Price._fields))
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                continue  # damaged: its examples are computed again
            for name, tensor in tensors.items():
                key, part = name.split(".", 1)
                self._kept.setdefault(key, {})[part] = tensor
                self._prices[key] = price

    def fill(self, vlm: VLM, examples: Iterable[Encoded], needs: Needs) -> Price:
        """Compute what is missing, with the adapter switched off.

        Returns:
            The cost of these examples, here or in a session that was killed, unless it was paid before.
        """
        examples = _read_by_original(examples, needs)
        missing = {key: e for e in examples if (key := self._key(e, needs)) not in self._kept}
        order = sorted(missing, key=lambda key: (missing[key].length, key))
        for start in range(0, len(order), PER_FILE):
            part = order[start : start + PER_FILE]
            began, flops = time.monotonic(), 0.0
            for first in range(0, len(part), BATCH):
                keys = part[first : first + BATCH]
                flops += self._compute(vlm, keys, [missing[key] for key in keys], needs)
            each = Price(flops / len(part), (time.monotonic() - began) / len(part))
            self._prices |= dict.fromkeys(part, each)
            if self._writes:
                self._write(part, each)
        keys_due = dict.fromkeys(key for e in examples if (key := self._key(e, needs)) not in self._paid)
        due = [self._prices[key] for key in keys_due]
        self.paid(examples, needs)
        return Price(sum(price.flops for price in due), sum(price.seconds for price in due))

    def paid(self, examples: Iterable[Encoded], needs: Needs) -> None:
        """Mark these examples' cost as counted already: `fill` will not return it."""
        self._paid |= {self._key(example, needs) for example in _read_by_original(examples, needs)}

    def _write(self, part: Sequence[str], each: Price) -> None:
        flat = {f"{key}.{name}": tensor for key in part for name, tensor in self._kept[key].items()}
        with atomic_path(self.folder / f"{content_key(part)}.safetensors") as path:
            # Through memory: given a path, safetensors reports a full disk as an error of its own.
            path.write_bytes(save(flat, {name: repr(value) for name, value in each._asdict().items()}))

    def of(self, examples: Sequence[Encoded], needs: Needs, device: torch.device) -> dict[Part, Reference]:
        """The results of `fill` for each role that needs the original, in the order of a batch's answer tokens."""
        references = {}
        for role in needs.parts:
            rows = [self._kept[self._key(e, needs)] for e in examples if e.role is role and role in needs.original]
            if rows:
                references[role] = Reference(
                    logp=_joined(rows, "logp", device),
                    kept=_joined(rows, "kept", device) if role in needs.kl else None,
                    kept_logp=_joined(rows, "kept_logp", device) if role in needs.kl else None,
                )
        return references

    def _key(self, example: Encoded, needs: Needs) -> str:
        k = self.settings.reference_top_k if example.role in needs.kl else 0
        return content_key(FORMAT, self._model, example.prompt_ids, example.answer_ids, k)

    @torch.no_grad()
    def _compute(self, vlm: VLM, keys: Sequence[str], examples: Sequence[Encoded], needs: Needs) -> float:
        batch = collate(examples).to(vlm.device)
        with vlm.model.disable_adapter():
            hidden = answer_hidden(vlm, batch).current
        wanted = [example.role in needs.kl for example in examples]
        parts: dict[str, list[Tensor]] = {"logp": [], "kept": [], "kept_logp": []}
        for start in range(0, len(hidden), self.settings.head_chunk):
            here = slice(start, start + self.settings.head_chunk)
            log_q = torch.log_softmax(vlm.lm_head(hidden[here]).float(), dim=-1)
            top = log_q.topk(min(self.settings.reference_top_k, log_q.shape[-1]) if any(wanted) else 1, dim=-1)
            parts["logp"].append(log_q.gather(1, batch.targets[here, None])[:, 0])
            parts["kept"].append(top.indices.int())
            parts["kept_logp"].append(top.values)
        whole = {name: torch.cat(values).cpu() for name, values in parts.items()}
        lengths = [len(example.answer_ids) for example in examples]
        for name, values in whole.items():
            for key, kl, rows in zip(keys, wanted, torch.split(values, lengths), strict=True):
                if kl or name == "logp":
                    self._kept.setdefault(key, {})[name] = rows.clone()
        return original_flops(vlm, batch, needs, head_passes=1)


def _read_by_original(examples: Iterable[Encoded], needs: Needs) -> list[Encoded]:
    return [example for example in examples if example.role in needs.original]


def _joined(rows: Iterable[Mapping[str, Tensor]], name: str, device: torch.device) -> Tensor:
    return torch.cat([row[name] for row in rows]).to(device, non_blocking=True)
