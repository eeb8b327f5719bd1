"""How much of KL a cached reference loses by keeping only the k likeliest tokens, on the pocket VLM.

    exact KL(original ‖ current) against KL_k, in which all other tokens count as one; never more than exact

Usage: python benchmarks/kept_kl.py [--model pocket] [--adapter FOLDER ...] [--batches 1]
Adapters are drawn at random, `--scale`, the size of LoRA's B, says how far they go from the original; and trained ones.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from recipes import plan

from data import SETTINGS, examples
from unsay.models import attach, load
from unsay.models.vlm import VLM
from unsay.records import Role
from unsay.training.encode import Encoded, collate
from unsay.training.forward import answer_hidden
from unsay.training.head import Reference, top_k_kl

KEPT = (16, 64, 256)


@torch.no_grad()
def errors(vlm: VLM, rows: list[Encoded], adapter: str) -> dict[str, Any]:
    """Exact KL per answer token, the original's mass outside the k likeliest, and what KL_k misses, in nats.

    Args:
        vlm: with its adapter.
        rows: retain examples.
        adapter: what it is.
    """
    states = answer_hidden(vlm, collate(rows).to(vlm.device), frozenset({Role.RETAIN}))
    assert states.original is not None  # retain rows alone
    log_p, log_q = (torch.log_softmax(vlm.lm_head(hidden).float(), dim=-1) for hidden in states[:2])
    exact = (log_q.exp() * (log_q - log_p)).sum(dim=1)
    found: dict[str, Any] = {"adapter": adapter, "tokens": len(exact), "exact": float(exact.mean()), "kept": []}
    for k in KEPT:
        top = log_q.topk(min(k, log_q.shape[1]), dim=-1)
        kl, _ = top_k_kl(log_p, Reference(kept=top.indices, kept_logp=top.values), wanted=False)
        missing = exact - kl
        found["kept"].append(
            {
                "k": k,
                "rest": float((1 - top.values.exp().sum(dim=1)).clamp_min(0).mean()),
                "missing": float(missing.mean()),
                "worst": float(missing.max()),
                "share": float(missing.sum() / exact.sum()),
            }
        )
    return found


@torch.no_grad()
def draw(vlm: VLM, scale: float) -> None:
    """Draw the adapter's B anew, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in vlm.model.named_parameters():
        if "lora_B" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def markdown(found: list[dict[str, Any]]) -> str:
    """The table, for people."""
    lines = [
        "| adapter | exact KL, nats | k | mass of the rest | missing, nats | worst token | share of KL missing |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {part['adapter']} | {part['exact']:.3g} | {row['k']} | {row['rest']:.1%} | {row['missing']:.2g} "
        f"| {row['worst']:.2g} | {row['share']:.1%} |"
        for part in found
        for row in part["kept"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--adapter", type=Path, nargs="*", default=[])
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--scale", type=float, nargs="*", default=[0.003, 0.01])
    parser.add_argument("--out", type=Path, default=Path("docs/results/kept_kl.json"))
    given = parser.parse_args()
    vlm = load(given.model)
    steps = plan(vlm, examples(), SETTINGS)[: given.batches]
    rows = [row for batch in steps for row in batch if row.role is Role.RETAIN]
    found = []
    if given.scale:
        adapted = attach(vlm, SETTINGS.lora, 0)
        for scale in given.scale:
            draw(adapted, scale)
            found.append(errors(adapted, rows, f"random, {scale}"))
    found += [errors(load(given.model, adapter=folder), rows, "trained") for folder in given.adapter]
    print(markdown(found))
    given.out.write_text(json.dumps({"model": given.model, "rows": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
