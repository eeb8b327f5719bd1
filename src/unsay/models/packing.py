"""Rows of different lengths as one row without padding: only attention needs to know where each begins.

Everything else in a decoder treats tokens one by one. So all rows, and once their common prefix, pass it as a single
row [1, T] with positions of their own; attention alone separates the rows, in groups of like length. Query heads that
share keys and values are stacked instead of repeating the keys and values for each.

Not every family allows it: some keep states, use sliding windows, or give their attention more than queries, keys and
values. `packs` tries it out.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unsay.models.checks import PROMPT
from unsay.models.vlm import VLM

KERNEL = "sdpa"
"""The attention implementation that is replaced while packed rows pass; a model that uses another one is not packed."""

MIN_PREFIX = 8
"""Tokens: a shorter common prefix is not worth a forward pass of its own."""

PADDING = 0.15
"""Padding that a group of rows may have, as a share of its size, before another group is begun."""

SHORT = 512
"""Tokens of a row, its prefix included, up to which attention may keep a weight for each pair of them."""

IGNORED = frozenset({"position_ids", "use_cache", "cache_position"})
"""Arguments of attention, besides queries, keys and values, that do not change its result."""


def common_prefix(rows: Sequence[Sequence[int]], longest: int) -> int:
    """The number of token ids that begin every row alike, at most `longest`; 0 if fewer than `MIN_PREFIX`."""
    columns = zip(*(row[:longest] for row in rows), strict=False)
    length = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return length if length >= MIN_PREFIX else 0


def attention_groups(lengths: Sequence[int], on_cpu: bool) -> list[list[int]]:
    """Rows that go through attention side by side.

    A group costs little arithmetic but many launches: worth it on a CPU, not on an accelerator.
    """
    return length_groups(lengths) if on_cpu else [list(range(len(lengths)))]


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Rows by descending length, cut into groups whose padding stays below `PADDING` of the group's size."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if groups:
            group = groups[-1]
            size = lengths[group[0]] * (len(group) + 1)
            if size - sum(lengths[member] for member in group) - lengths[row] <= PADDING * size:
                group.append(row)
                continue
        groups.append([row])
    return groups


@dataclass(frozen=True)
class _Group:
    """Rows of like length, side by side: `rows` × `longest` places, after `before` shared tokens.

    `mask` is added to scores, [longest, before + longest].
    """

    rows: int
    longest: int
    before: int
    mask: Tensor


@dataclass(frozen=True)
class Packing:
    """Places of the tokens of packed rows.

    Attributes:
        rows: the rows' numbers in the order in which they are packed.
        starts: place of each row's first token after the prefix, by row number.
        position_ids: [1, T].
        prefix: tokens that all rows begin with; they come first, once.
        groups: the padded groups that attention works on, the prefix's own first.
        there: packed token at each place of the padded groups, [P].
        back: place in the padded groups of each packed token, [T].
        real: 1 where a place is no padding, [P].
    """

    rows: tuple[int, ...]
    starts: dict[int, int]
    position_ids: Tensor
    prefix: int
    groups: tuple[_Group, ...]
    there: Tensor
    back: Tensor
    real: Tensor


def pack(
    lengths: dict[int, int], groups: Sequence[Sequence[int]], prefix: int, device: torch.device, dtype: torch.dtype
) -> Packing:
    """Pack rows, group by group.

    Args:
        lengths: tokens of each row after the prefix, by row number.
        groups: row numbers; attention pads each group to its longest row.
        prefix: tokens that all rows begin with.
        device: of the model.
        dtype: of its queries.
    """
    there, back, positions = list(range(prefix)), list(range(prefix)), list(range(prefix))
    real = [1.0] * prefix
    starts: dict[int, int] = {}
    padded = [_group(1, prefix, 0, device, dtype)] if prefix else []
    for group in groups:
        longest = max(lengths[row] for row in group)
        padded.append(_group(len(group), longest, prefix, device, dtype))
        for row in group:
            start, length = len(back), lengths[row]
            starts[row] = start
            back += range(len(there), len(there) + length)
            positions += range(prefix, prefix + length)
            there += [*range(start, start + length), *[start] * (longest - length)]
            real += [1.0] * length + [0.0] * (longest - length)

    def on_device(values: list[Any], kind: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=kind).to(device, non_blocking=True)

    return Packing(
        tuple(row for group in groups for row in group),
        starts,
        on_device(positions, torch.long)[None],
        prefix,
        tuple(padded),
        on_device(there, torch.long),
        on_device(back, torch.long),
        on_device(real, dtype)[:, None, None],
    )


def _group(rows: int, longest: int, before: int, device: torch.device, dtype: torch.dtype) -> _Group:
    mask = torch.full((longest, before + longest), -torch.inf, device=device, dtype=dtype).triu_(before + 1)
    return _Group(rows, longest, before, mask)


def decode_packed(vlm: VLM, packing: Packing, **entering: Tensor) -> Tensor:
    """Last hidden states of packed rows, [1, T, H]."""
    # The decoder hands on a ready mask; otherwise it would make one of T × T.
    handed_on = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=packing.there.device)
    with _attending_by(partial(_attend, packing)):
        hidden: Tensor = vlm.decoder(
            **entering, position_ids=packing.position_ids, attention_mask=handed_on, use_cache=False
        ).last_hidden_state
    return hidden


def repeating_attention() -> AbstractContextManager[None]:
    """For a forward that is run again in the backward pass: a context with the attention of now."""
    return _attending_by(ALL_ATTENTION_FUNCTIONS[KERNEL])


@contextmanager
def _attending_by(attention: Any) -> Iterator[None]:
    ALL_ATTENTION_FUNCTIONS[KERNEL] = attention
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[KERNEL]


def _attend(
    packing: Packing,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Queries [1, h, T, d] on keys and values [1, g, T, d] of packed rows → [1, T, h, d]."""
    unknown = [name for name, value in more.items() if name not in IGNORED and value is not None]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if unknown or dropout or not causal or query.shape[::2] != (1, len(packing.back)):
        raise ValueError(f"attention of a kind that rows cannot be packed for: {', '.join(unknown)}")
    q, k, v = (_Moved.apply(x[0].transpose(0, 1), packing.there, packing.back, None) for x in (query, key, value))  # type: ignore[no-untyped-call]
    shared = [x[: packing.prefix].transpose(0, 1) for x in (k, v)]
    heads = k.shape[1]
    repeat = q.shape[1] // heads
    sizes = [group.rows * group.longest for group in packing.groups]
    outs = []
    for group, *parts in zip(packing.groups, *(x.split(sizes) for x in (q, k, v)), strict=True):
        places = (group.rows, group.longest)
        rows = parts[0].view(*places, heads, repeat, -1).permute(0, 2, 3, 1, 4)
        keys, values = (part.view(*places, heads, -1).transpose(1, 2) for part in parts[1:])
        if group.before:
            keys, values = (
                torch.cat([before.expand(group.rows, -1, -1, -1), side], dim=2)
                for before, side in zip(shared, (keys, values), strict=True)
            )
        stacked = rows.reshape(group.rows, heads, repeat * group.longest, -1)
        out = masked_attention(stacked, keys, values, group.mask.repeat(repeat, 1), scaling)
        out = out.view(group.rows, heads, repeat, group.longest, -1).permute(0, 3, 1, 2, 4)
        outs.append(out.reshape(-1, heads * repeat, out.shape[-1]))
    moved: Tensor = _Moved.apply(torch.cat(outs), packing.back, packing.there, packing.real)  # type: ignore[no-untyped-call]
    return moved[None], None


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None) -> Tensor:
    """softmax(scale · q kᵀ + mask) v: q [b, h, m, d], k and v [b, h, n, d], mask [m, n] → [b, h, m, d].

    torch's kernel for the CPU never holds the scores, and its backward pass in bfloat16 takes three times as long as
    plain products of matrices do. The scale is 1/√d if none is given.
    """
    if q.device.type == "cpu" and q.dtype is torch.bfloat16 and mask.shape[1] <= SHORT:
        out: Tensor = ShortAttention.apply(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale)  # type: ignore[no-untyped-call]
        return out
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


class ShortAttention(torch.autograd.Function):
    """`masked_attention` by plain products; its weights are kept for the backward pass."""

    @staticmethod
    def forward(context: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        """With p = softmax(scale · q kᵀ + mask): p v."""
        context.shape, context.scale = q.shape[:2], scale
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        p = torch.baddbmm(mask, q, k.mT, alpha=scale).softmax(-1)
        context.save_for_backward(q, k, v, p)
        return torch.bmm(p, v).view(*context.shape, -1, v.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(context: Any, to_out: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, k and v."""
        q, k, v, p = context.saved_tensors
        to_out = to_out.flatten(0, 1)
        to_scores = torch._softmax_backward_data(torch.bmm(to_out, v.mT), p, -1, p.dtype).mul_(context.scale)
        gradients = torch.bmm(to_scores, k), torch.bmm(to_scores.mT, q), torch.bmm(p.mT, to_out)
        return *(each.view(*context.shape, *each.shape[1:]) for each in gradients), None, None


class _Moved(torch.autograd.Function):
    """Tokens to other places, [n, ...] → [m, ...]; gradients are moved back, not added up.

    Padding repeats a token and is never read, so its gradient is zero and need not be added. On the way out of the
    groups, padding itself gets no gradient, by the factor `real`.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, there: Tensor, back: Tensor, real: Tensor | None) -> Tensor:
        """The tokens at `there`."""
        context.save_for_backward(back, real)
        return x.index_select(0, there)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients at `back`."""
        back, real = context.saved_tensors
        moved = gradient.index_select(0, back)
        return moved if real is None else moved.mul_(real), None, None, None


@torch.no_grad()
def packs(vlm: VLM) -> bool:
    """Whether the decoder gives packed rows the states that they have alone, tried on two rows with a common prefix."""
    if getattr(vlm.base.config.get_text_config(), "_attn_implementation", None) != KERNEL:
        return False
    ids = vlm.encode_prompt(PROMPT)
    prefix, rest = ids[: len(ids) // 2], ids[len(ids) // 2 :]
    rows = [rest, rest[:0:-1]]
    lengths = dict(enumerate(map(len, rows)))
    weights = next(vlm.decoder.parameters())
    try:
        packing = pack(lengths, [[0, 1]], len(prefix), vlm.device, weights.dtype)
        tokens = torch.tensor([[*prefix, *rows[0], *rows[1]]], device=vlm.device)
        hidden = decode_packed(vlm, packing, input_ids=tokens)[0]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError):
        return False
    close = {torch.float32: 1e-4, torch.float64: 1e-9}.get(hidden.dtype, 2e-2)
    for number, row in enumerate(rows):
        alone = torch.tensor([[*prefix, *row]], device=vlm.device)
        wanted = vlm.decoder(input_ids=alone, use_cache=False).last_hidden_state[0, len(prefix) :]
        packed = hidden[packing.starts[number] :][: len(row)]
        if not torch.allclose(packed, wanted, rtol=close, atol=close * float(wanted.abs().max())):
            return False
    return True
