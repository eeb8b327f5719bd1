"""The output head over answer positions: log-probabilities and KL in bounded memory, with their gradients.

Vocabularies have 50,000 to 260,000 entries, so logits of all positions are never held: a chunk's are made, used and
dropped. That usually means making them a second time in the backward pass. It is not needed here: the head is frozen,
and for one position with logits z = W h + b, current probabilities p and original ones q,

    ∂ log p_y / ∂h = W^T (onehot(y) − p)            ∂ KL(q ‖ p) / ∂h = W^T (p − q)

Neither depends on the loss, which only scales them. So they are computed while the logits are at hand, and the backward
pass is a product with the incoming gradients, which saves a third of the head's operations. Gradients in the forward
pass are the idea of fused linear cross-entropy (Liger, arXiv 2410.10989); KL and one value per position are added here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from unsay.methods.base import Needs, Part, RoleView
from unsay.models.vlm import VLM
from unsay.training.encode import MixedBatch
from unsay.training.forward import answer_hidden


@dataclass(frozen=True)
class Reference:
    """The original model at N positions: its hidden states, or its cached log-probabilities.

    Attributes:
        hidden: its last hidden states, [N, H], if it was run in this step.
        logp: its cached log-probability of each target, [N].
        kept: token ids of its likeliest tokens, [N, k], if KL is needed of a cached original.
        kept_logp: their log-probabilities, [N, k].
    """

    hidden: Tensor | None = None
    logp: Tensor | None = None
    kept: Tensor | None = None
    kept_logp: Tensor | None = None

    def part(self, here: slice) -> "Reference":
        """The same of some positions."""
        values = (self.hidden, self.logp, self.kept, self.kept_logp)
        return Reference(*(None if value is None else value[here] for value in values))


def fusible(head: object) -> bool:
    """Whether the formulas above hold for this head: a frozen linear without hooks."""
    return (
        type(head) is nn.Linear
        and not head.weight.requires_grad
        and (head.bias is None or not head.bias.requires_grad)
        and not head._forward_hooks
        and not head._forward_pre_hooks
        and "forward" not in vars(head)  # accelerate replaces it where a model's parts are in several places
    )


class FusedHead(torch.autograd.Function):
    """(hidden, head, targets, reference, with KL, chunk) → log p(target), log q(target), KL(q ‖ p), each [N] or [0].

    With KL, its gradient is made in the forward pass and that of the log-probabilities only if the loss uses them:
    methods that anchor a role by KL do not.
    """

    @staticmethod
    def forward(
        context: Any,
        hidden: Tensor,
        head: nn.Linear,
        targets: Tensor,
        reference: Reference | None,
        with_kl: bool,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The values, and the gradients that the backward pass scales."""
        context.set_materialize_grads(False)
        wanted = context.needs_input_grad[0]
        exact = torch.promote_types(hidden.dtype, torch.float32)
        count = len(targets)
        policy, before = hidden.new_empty(count, dtype=exact), hidden.new_empty(count, dtype=exact)
        kl = hidden.new_empty(count if with_kl else 0, dtype=exact)
        gradient = torch.empty_like(hidden) if wanted else None
        for start in range(0, count, chunk):
            here = slice(start, start + chunk)
            log_p = _log_softmax(head, hidden[here], exact)
            policy[here] = log_p.gather(1, targets[here, None])[:, 0]
            if reference is not None:
                before[here], kl_here, pull = _against(
                    head, log_p, targets[here], reference.part(here), with_kl, wanted
                )
                if kl_here is not None:
                    kl[here] = kl_here
                if gradient is not None and pull is not None:
                    gradient[here] = pull.to(hidden.dtype) @ head.weight
                    continue
            if gradient is not None:
                gradient[here] = _of_log_p(head, log_p, targets[here])
        context.save_for_backward(hidden, targets, gradient)
        context.head, context.chunk, context.of_kl = head, chunk, with_kl
        before = before[: count if reference is not None else 0]
        context.mark_non_differentiable(before)
        return policy, before, kl

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, to_policy: Tensor | None, _to_before: Tensor | None, to_kl: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Scale the gradients of the forward pass; make those that it left out."""
        hidden, targets, gradient = context.saved_tensors
        total = torch.zeros_like(hidden)
        ready = to_kl if context.of_kl else to_policy
        if ready is not None:
            total += gradient * ready[:, None].to(gradient.dtype)
        if context.of_kl and to_policy is not None:
            for start in range(0, len(targets), context.chunk):
                here = slice(start, start + context.chunk)
                log_p = _log_softmax(context.head, hidden[here], to_policy.dtype)
                late = _of_log_p(context.head, log_p, targets[here])
                total[here] += late * to_policy[here, None].to(late.dtype)
        return total, None, None, None, None, None


def _log_softmax(head: nn.Linear, hidden: Tensor, exact: torch.dtype) -> Tensor:
    """Log-probabilities, [n, V], in place of the logits, so that no second tensor of that size is kept."""
    logits = linear(hidden, head.weight, head.bias).to(exact)
    return logits.sub_(torch.logsumexp(logits, dim=-1, keepdim=True))


def _of_log_p(head: nn.Linear, log_p: Tensor, targets: Tensor) -> Tensor:
    """∂ log p(target) / ∂h, [n, H]; overwrites `log_p`."""
    pull = log_p.exp_().neg_()
    # Before rounding to the head's precision: with a half-precision p near 1, 1 − p would be 0.
    pull.scatter_add_(1, targets[:, None], pull.new_ones(len(targets), 1))
    return pull.to(head.weight.dtype) @ head.weight


def _against(
    head: nn.Linear, log_p: Tensor, targets: Tensor, reference: Reference, with_kl: bool, wanted: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The original's log-probability of each target; KL; and, if wanted, ∂KL/∂z = p − q, which overwrites `log_p`."""
    if reference.hidden is None:
        assert reference.logp is not None  # a reference is one or the other
        if not with_kl:
            return reference.logp, None, None
        kl, pull = top_k_kl(log_p, reference, wanted)
        return reference.logp, kl, pull
    log_q = _log_softmax(head, reference.hidden, log_p.dtype)
    before = log_q.gather(1, targets[:, None])[:, 0]
    if not with_kl:
        return before, None, None
    q = log_q.exp()
    kl = torch.einsum("nv,nv->n", q, log_q.sub_(log_p))
    return before, kl, q.neg_().add_(log_p.exp_()) if wanted else None


def top_k_kl(log_p: Tensor, reference: Reference, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """KL(q ‖ p) if only the likeliest tokens K of q are known, and the total mass r_q of the rest.

        KL_K = Σ_{i ∈ K} q_i log(q_i / p_i) + r_q log(r_q / r_p)

    The rest counts as one token. By the log-sum inequality KL_K is never more than KL; what is missing is
    r_q · KL(q given the rest ‖ p given the rest). Its gradient is p − q̂ with q̂_i = q_i in K and r_q p_i / r_p
    elsewhere.

    Args:
        log_p: the current model's log-probabilities, [n, V]; overwritten if the gradient is wanted.
        reference: with `kept` and `kept_logp`.
        wanted: whether the gradient with respect to the logits is.

    Returns:
        KL_K [n], and its gradient [n, V] or None.
    """
    assert reference.kept is not None
    assert reference.kept_logp is not None
    kept, log_q = reference.kept.long(), reference.kept_logp.to(log_p.dtype)
    q, kept_log_p = log_q.exp(), log_p.gather(1, kept)
    p = log_p.exp_() if wanted else log_p.exp()
    kept_p = p.gather(1, kept)
    tiny = torch.finfo(log_p.dtype).tiny
    # Summed over the rest itself: one minus the sum over K would lose a small rest to rounding.
    rest_p = p.scatter_(1, kept, 0.0) if wanted else p.scatter(1, kept, 0.0)
    r_p = rest_p.sum(dim=1).clamp_min(tiny)
    r_q = (1 - q.sum(dim=1)).clamp_min(0)
    rest = torch.where(r_q > 0, r_q * (r_q.clamp_min(tiny).log() - r_p.log()), 0)
    kl = (q * (log_q - kept_log_p)).sum(dim=1) + rest
    if not wanted:
        return kl, None
    p.mul_((1 - r_q / r_p)[:, None])  # outside K: p − r_q p / r_p
    return kl, p.scatter_(1, kept, kept_p - q)


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
        needs: the method's.
        head_chunk: answer positions that pass the output head at a time; bounds memory at
            `head_chunk × vocabulary` floats.
        cached: the original model's log-probabilities, per role in the order of the batch's answer tokens; with None
            it is run.
    """
    reading = needs.original if cached is None else frozenset[Part]()
    depth = len(vlm.layers) if needs.hidden else 0
    states = answer_hidden(vlm, batch, reading, needs.blocks(depth))
    hidden, original = states.current, states.original  # [N, H] each
    views: dict[Part, RoleView] = {}
    for role in needs.parts:
        rows = [row for row, read in enumerate(batch.rows_of(frozenset({role}))) if read]
        chosen = batch.index(batch.scored_in(frozenset({role})))
        compared = role in needs.reference | needs.kl
        before = Reference(hidden=original[chosen]) if original is not None and compared else None
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
        places = needs.block_places(role, depth)
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

    Nothing as large as positions × vocabulary is kept for the backward pass: gradients of a frozen linear head are made
    in the forward pass (see `FusedHead`); any other head computes its logits again.

    Args:
        head: hidden states → logits.
        hidden: current model's hidden states, [N, H].
        targets: token ids, [N].
        original: the original model at the same positions, or its hidden states [N, H], or None.
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
    """`head_pass` of a head that is not a plain frozen linear: its logits are made again in the backward pass."""

    def one(hidden: Tensor, targets: Tensor, reference: Reference | None) -> tuple[Tensor, ...]:
        current = torch.log_softmax(head(hidden).float().to(hidden.device), dim=-1)
        out = [current.gather(1, targets[:, None])[:, 0]]
        if reference is None:
            return tuple(out)
        if reference.hidden is None:
            assert reference.logp is not None  # a reference is one or the other
            return (*out, reference.logp, top_k_kl(current, reference, False)[0]) if with_kl else (*out, reference.logp)
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
        if hidden.requires_grad:  # no random numbers are drawn here, so there is no state to keep
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
    """One part's blocks out of [N, all needed blocks, H] states: [n, T, K, H] in float32; None if it has none."""
    if states is None or not places:
        return None
    return _scatter(states[chosen][:, places].float(), index, shape)
