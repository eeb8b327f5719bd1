"""Table 4: how the cost of a step grows with length, batch, roles, adapted layers and vocabulary."""

from typing import Any

import torch
from machine import timed
from recipes import plan

from data import SETTINGS, examples
from unsay.methods import build_method
from unsay.models import attach, detach
from unsay.models.vlm import VLM
from unsay.records import Role
from unsay.training.encode import Encoded, collate
from unsay.training.head import head_pass, role_views

VOCABULARIES = (49_152, 152_064, 262_144)
"""SmolLM2's, Qwen2.5's, Gemma 3's."""


def table(vlm: VLM, device: str, runs: int, vocabularies: tuple[int, ...] = VOCABULARIES) -> list[dict[str, Any]]:
    """Seconds of forward and backward, each against the first row of its kind."""
    batch = plan(vlm, examples(), SETTINGS)[0]
    rows: list[dict[str, Any]] = []
    for layers in ("all", "upper half"):
        lora = SETTINGS.lora.model_copy(update={"layers": layers})
        adapted = attach(vlm, lora, 0)
        try:
            if layers == "all":
                rows += _series(
                    "prompt tokens", {f"+{more}": [_longer(row, more) for row in batch[::4]] for more in (0, 64, 192)},
                    adapted, device, runs,
                )  # fmt: skip
                rows += _series("examples", {str(len(part)): part for part in (batch[::4], batch[::2], batch)}, adapted,
                                device, runs)  # fmt: skip
                few = {str(number): _with_roles(batch, number) for number in (1, 2, 3)}
                rows += _series("roles, 5 examples each", few, adapted, device, runs)
            rows += _series("adapted layers", {layers: batch[::2]}, adapted, device, runs)
        finally:
            detach(adapted)
    rows[-1]["times"] = rows[-1]["seconds"] / rows[-2]["seconds"]
    return rows + _vocabularies(vlm, device, runs, vocabularies)


def _series(what: str, parts: dict[str, list[Encoded]], vlm: VLM, device: str, runs: int) -> list[dict[str, Any]]:
    seconds = {
        name: timed(lambda part=part: _step(vlm, part), device, warm=1, runs=runs) for name, part in parts.items()
    }
    first = next(iter(seconds.values()))
    return [{"what": what, "value": name, "seconds": value, "times": value / first} for name, value in seconds.items()]


def _step(vlm: VLM, rows: list[Encoded]) -> None:
    """Every role is made likely, and those that retain are held by KL: what is needed follows from who is there."""
    method = build_method("textual-unlearning")
    roles = frozenset(row.role for row in rows)
    needs = type(method.needs)(roles=roles, kl=method.needs.kl & roles)
    views = role_views(vlm, collate(rows).to(vlm.device), needs, SETTINGS.head_chunk)
    terms = [(view.policy if view.kl is None else view.kl).sum() for view in views.values()]
    torch.stack(terms).sum().backward()
    for parameter in vlm.model.parameters():
        parameter.grad = None


def _longer(row: Encoded, more: int) -> Encoded:
    """The same with more prompt, in front of its last token: rows keep a common beginning only as far as they had."""
    return Encoded(row.id, row.role, (*row.prompt_ids[:-1], *(row.answer_ids * more)[:more], row.prompt_ids[-1]),
                   row.answer_ids)  # fmt: skip


def _with_roles(batch: list[Encoded], number: int) -> list[Encoded]:
    return [row for role in list(Role)[:number] for row in [e for e in batch if e.role is role][:5]]


def _vocabularies(vlm: VLM, device: str, runs: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """The output head alone, with KL, on 256 positions."""
    wide = vlm.base.get_input_embeddings().weight.shape[1]
    dtype = next(vlm.decoder.parameters()).dtype
    hidden = torch.randn(256, wide, device=device, dtype=dtype, requires_grad=True)
    original, targets = torch.randn_like(hidden).detach(), torch.zeros(256, dtype=torch.long, device=device)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        head = torch.nn.Linear(wide, size, bias=False, device=device, dtype=dtype).requires_grad_(False)

        def work(head: torch.nn.Linear = head) -> None:
            _, _, kl = head_pass(head, hidden, targets, original, True, SETTINGS.head_chunk)
            assert kl is not None  # it was asked for
            kl.sum().backward()

        seconds = timed(work, device, warm=1, runs=runs)
        first = rows[0]["seconds"] if rows else seconds
        rows.append(
            {"what": "vocabulary (head alone)", "value": f"{size:,}", "seconds": seconds, "times": seconds / first}
        )
    return rows
