"""From a mixed batch to what methods see: per-token log-probabilities and KL, in bounded memory."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unsay.methods.base import Needs, Part, RoleView
from unsay.models.vlm import VLM
from unsay.training.encoding import MixedBatch
from unsay.training.forward import answer_hidden
from unsay.training.head import FusedHead, Reference, fusible, kl_of_kept
from unsay.training.hidden import blocks_read, places_of


def role_views(
    vlm: VLM,
    batch: MixedBatch,
    needs: Needs,
    head_chunk: int,
    cached: Mapping[Part, Reference] | None = None,
) -> dict[Part, RoleView]:
    """One forward for all roles, and one without the adapter for the roles that need the original model.

    Args:
        vlm: the model with its adapter.
        batch: a mixed batch on the model's device.
        needs: what the method declared.
        head_chunk: answer positions that pass the output head at a time; bounds memory at
            `head_chunk × vocabulary` floats.
        cached: what the original model says, per role in the order of the batch's answer tokens; with None it is run.
    """
    reading = needs.original if cached is None else frozenset[Part]()
    states = answer_hidden(vlm, batch, reading, blocks_read(vlm, needs))
    hidden, original = states.current, states.original  # [N, H] each
    views: dict[Part, RoleView] = {}
    for role in needs.parts:
        rows = [row for row, read in enumerate(batch.rows_of(frozenset({role}))) if read]
        chosen = batch.index(batch.scored_in(frozenset({role})))
        said = original is not None and role in needs.reference | needs.kl
        before = Reference(hidden=original[chosen]) if original is not None and said else None
        policy, reference, kl = head_pass(
            vlm.lm_head,
            hidden[chosen],
            batch.targets[chosen],
            before if cached is None else cached.get(role),
            role in needs.kl,
            head_chunk,
        )
        answers = [len(batch.examples[row].answer_ids) for row in rows]
        index = (
            batch.index([place for place, length in enumerate(answers) for _ in range(length)]),
            batch.index([column for length in answers for column in range(length)]),
        )
        shape = (len(rows), max(answers))
        places = places_of(vlm, needs, role) if role in needs.hidden else []
        views[role] = RoleView(
            policy=_scatter(policy, index, shape),
            mask=_scatter(torch.ones_like(policy, dtype=torch.bool), index, shape),
            reference=_scatter(reference, index, shape) if reference is not None and role in needs.reference else None,
            kl=None if kl is None else _scatter(kl, index, shape),
            hidden=_placed(states.blocks, chosen, places, index, shape),
            reference_hidden=_placed(states.original_blocks, chosen, places, index, shape)
            if role in needs.reference_hidden
            else None,
        )
    return views


def head_pass(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    original: Reference | Tensor | None,
    with_kl: bool,
    chunk: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Log-probabilities of the targets and KL(original ‖ current), by chunks of positions.

    Neither logits nor anything else as large as positions × vocabulary is kept for the backward pass: a frozen linear
    head has its gradients made on the way (see `FusedHead`); any other has its logits computed again.

    Args:
        head: hidden states → logits.
        hidden: current model's hidden states, [N, H].
        targets: token ids, [N].
        original: what the original model says at the same positions, or its hidden states [N, H], or None.
        with_kl: whether to compute the KL over the whole vocabulary.
        chunk: positions at a time.

    Returns:
        policy log-probabilities [N]; the original's [N] or None; KL in nats [N] or None.
    """
    reference = Reference(hidden=original) if isinstance(original, Tensor) else original
    if fusible(head):
        policy, before, kl = FusedHead.apply(hidden, head, targets, reference, with_kl, chunk)  # type: ignore[no-untyped-call]
        return policy, before if reference is not None else None, kl if with_kl else None
    return _head_twice(head, hidden, targets, reference, with_kl, chunk)


def _head_twice(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    reference: Reference | None,
    with_kl: bool,
    chunk: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The same for a head that is not a plain frozen linear: its logits are made again in the backward pass."""

    def one(hidden: Tensor, targets: Tensor, reference: Reference | None) -> tuple[Tensor, ...]:
        current = torch.log_softmax(head(hidden).float().to(hidden.device), dim=-1)
        out = [current.gather(1, targets[:, None])[:, 0]]
        if reference is None:
            return tuple(out)
        if reference.hidden is None:
            assert reference.logp is not None  # a reference is one or the other
            return (
                (*out, reference.logp, kl_of_kept(current, reference, False)[0]) if with_kl else (*out, reference.logp)
            )
        with torch.no_grad():
            before = torch.log_softmax(head(reference.hidden).float().to(hidden.device), dim=-1)
        out.append(before.gather(1, targets[:, None])[:, 0])
        if with_kl:
            out.append(torch.nn.functional.kl_div(current, before, reduction="none", log_target=True).sum(dim=-1))
        return tuple(out)

    parts = []
    for start in range(0, len(targets), chunk):
        window = slice(start, start + chunk)
        arguments: tuple[Any, ...] = (
            hidden[window],
            targets[window],
            None if reference is None else reference.part(window),
        )
        if hidden.requires_grad:  # nothing in here draws random numbers, so there is no state of theirs to keep
            parts.append(checkpoint(one, *arguments, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(one(*arguments))
    joined = [torch.cat(columns) for columns in zip(*parts, strict=True)]
    return joined[0], joined[1] if len(joined) > 1 else None, joined[2] if len(joined) > 2 else None


def _scatter(values: Tensor, index: tuple[Tensor, Tensor], shape: tuple[int, int]) -> Tensor:
    """[N, ...] values to their places in [n, T, ...]; the rest is zero (False)."""
    return values.new_zeros(shape + values.shape[1:]).index_put(index, values)


def _placed(
    states: Tensor | None, chosen: Tensor, places: list[int], index: tuple[Tensor, Tensor], shape: tuple[int, int]
) -> Tensor | None:
    """Of [N, blocks read, H] states those of one part and its blocks, [n, T, K, H] in float32; None if it has none."""
    if states is None or not places:
        return None
    return _scatter(states[chosen][:, places].float(), index, shape)
