"""Adversarial hidden states: harmful rows are trained while an adversary bends what the model makes of their prompts.

    min_θ  L(θ, h + δ*),        δ* = argmin_{‖δ_t‖ ≤ ε ‖h_t‖}  − log π(harmful answer | h + δ)

Targeted latent adversarial training (Sheshadri et al. 2024, arXiv 2407.15549, section 3): in the residual stream after
some blocks, something is added to the state of every token of the prompt, which a few steps of projected gradient
descent turn towards the harmful answer. Whoever fine-tunes, prefills or finds a jailbreak reaches such states by other
ways; what is refused from all of them is not only a first token.

There ε is a length (6 for Llama-2-7B, whose blocks 8, 16, 24 and 30 of 32 and the embeddings are attacked, in 16 steps
of AdamW). States of other models are longer or shorter, and those of higher blocks longer, so here ε is a share of each
state's own length. A step goes 2.5 ε / steps in the direction of each token's own gradient (Madry et al. 2018, arXiv
1706.06083).

A forget row is bent towards its own answer. A refuse row is bent towards the harmful answer of a forget example of its
request, or, where there is none, away from its refusal. Retain rows stay as they are, and so does the original model.
The words that the chat template puts before every prompt are left alone: all rows share them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile

import torch
from torch import Tensor, nn

from unsay.data.splits import request_of
from unsay.methods.base import Companion, Needs, Part, block_numbers
from unsay.models.vlm import VLM
from unsay.records import Example, Role
from unsay.training.companions import part_of
from unsay.training.encode import Added, Encoded, Encoder, MixedBatch
from unsay.training.flops import step_flops
from unsay.training.head import role_views
from unsay.training.settings import AdversarialSettings

HARMFUL: frozenset[Part] = frozenset({Role.FORGET, Role.REFUSE, Companion.REFUSAL})
"""Parts whose prompts are bent."""
REFUSALS: frozenset[Part] = frozenset({Role.REFUSE, Companion.REFUSAL})
ALL_FORGET = Needs(roles=frozenset({Role.FORGET}))
VERSION = 3
"""Raised by hand when the same rows would be bent otherwise."""
STEP = 2.5
"""Length of all steps together, in radii: enough to reach the edge of the ball from its middle and to move along it."""


class Targets:
    """The harmful answer that the adversary wants of each refusal's prompt."""

    def __init__(self, encoder: Encoder, examples: Sequence[Example]) -> None:
        """Look through the examples, companions included."""
        self._encoder = encoder
        self._refusals = {example.id: example for example in examples if part_of(example) in REFUSALS}
        self._harmful: dict[str, Example] = {}
        for example in sorted(examples, key=lambda example: example.id):
            if part_of(example) is Role.FORGET:
                self._harmful.setdefault(request_of(example), example)

    def of(self, row: Encoded) -> Encoded | None:
        """The row's prompt with a harmful answer to its request; None if no forget example has one."""
        example = self._refusals[row.id]
        harmful = self._harmful.get(request_of(example))
        if harmful is None:
            return None
        begun = "" if example.prefix is None else example.prefix.rstrip()
        answer = harmful.whole_answer
        given = begun if answer.startswith(begun) else ""
        fields = {"id": f"target-{row.id}", "answer": answer[len(given) :], "complete": harmful.complete}
        if not str(fields["answer"]).strip():
            return None
        target = self._encoder.of(example.model_copy(update={**fields, "prefix": begun}))
        return target if target.prompt_ids == row.prompt_ids else None


class Adversary:
    """Finds what to add to the hidden states of harmful rows.

    Args:
        vlm: the model with its adapter.
        parameters: the adapter's, which stand still meanwhile.
        settings: where, how far and in how many steps.
        target_of: the harmful answer behind a refusal's prompt, if there is one.
        collated: makes a batch on the model's device.
        head_chunk: answer positions that pass the output head at a time.
    """

    def __init__(
        self,
        vlm: VLM,
        parameters: Mapping[str, nn.Parameter],
        settings: AdversarialSettings,
        target_of: Callable[[Encoded], Encoded | None],
        collated: Callable[[Sequence[Encoded]], MixedBatch],
        head_chunk: int,
    ) -> None:
        self._vlm, self._parameters, self._settings = vlm, parameters, settings
        self._target_of, self._collated, self._head_chunk = target_of, collated, head_chunk
        self._blocks = sorted(set(block_numbers(settings.layers, len(vlm.layers))))
        one, other = (vlm.encode_prompt(text) for text in ("a", "b"))
        self._first = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

    def against(self, batch: MixedBatch) -> tuple[MixedBatch, float]:
        """The batch with the worst addition that was found, as it is where no row is harmful; estimated operations."""
        rows = [row for row, harmful in enumerate(batch.rows_of(HARMFUL)) if harmful]
        if not rows:
            return batch, 0.0
        aims, signs = zip(*(self._aim(batch.examples[row]) for row in rows), strict=True)
        attacked = self._collated(aims)
        places = [
            (place, column)
            for place, aim in enumerate(aims)
            for column in range(min(self._first, len(aim.prompt_ids) - 1), len(aim.prompt_ids))
        ]
        flops = attack_flops(self._vlm, attacked, self._settings.steps)
        states = self._worst(attacked, places, torch.tensor(signs, device=attacked.targets.device))
        there = tuple((rows[place], column) for place, column in places)
        return replace(batch, added=_added(states, there)), flops

    def _aim(self, row: Encoded) -> tuple[Encoded, float]:
        """A row whose answer the adversary wants, and 1; or one whose answer it wants to prevent, and −1."""
        target = self._target_of(row) if row.role in REFUSALS else row
        return (replace(row, role=Role.FORGET), -1.0) if target is None else (replace(target, role=Role.FORGET), 1.0)

    def _worst(self, batch: MixedBatch, places: Sequence[tuple[int, int]], signs: Tensor) -> dict[int, Tensor]:
        """Projected gradient descent from nothing: number of a block → what is added to its output, [N, H]."""
        width = self._vlm.base.config.get_text_config().hidden_size
        size = (len(places), width)
        states = {block: torch.zeros(size, device=signs.device, requires_grad=True) for block in self._blocks}
        batch = replace(batch, added=(added := _added(states, tuple(places))))
        radii: dict[int, Tensor] = {}
        with _standing_still(self._parameters):
            for _ in range(self._settings.steps):
                views = role_views(self._vlm, batch, ALL_FORGET, self._head_chunk)
                loss = (signs * views[Role.FORGET].cross_entropy()).sum()
                gradients = torch.autograd.grad(loss, list(states.values()), allow_unused=True)
                # Of the states as they are when nothing is added.
                radii = radii or {block: self._settings.radius * n[:, None] for block, n in added.lengths.items()}
                for (block, state), gradient in zip(states.items(), gradients, strict=True):
                    if gradient is not None:  # None: a block that these rows do not pass
                        step(state, gradient, radii[block], self._settings.steps)
        return {block: state.detach() for block, state in states.items()}


def attack_flops(vlm: VLM, batch: MixedBatch, steps: int) -> float:
    """Estimated operations of an attack on the rows of a batch, all of them harmful."""
    return steps * step_flops(vlm, batch, ALL_FORGET, original=False)


def _added(states: Mapping[int, Tensor], places: tuple[tuple[int, int], ...]) -> Added:
    return Added(states, places, {block: state.detach().new_zeros(len(state)) for block, state in states.items()})


@contextmanager
def _standing_still(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Within this context the parameters get no gradients, which nobody would read."""
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(True)


@torch.no_grad()
def step(state: Tensor, gradient: Tensor, radius: Tensor, steps: int) -> None:
    """One of `steps` steps downhill, in place, and back into the ball; each token by itself.

    Args:
        state: what is added, [N, H].
        gradient: of the adversary's loss, [N, H].
        radius: of each token's ball, [N, 1].
        steps: how many there are.
    """
    tiny = torch.finfo(torch.float32).tiny
    state -= STEP / steps * radius * gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(tiny)
    state *= (radius / state.norm(dim=-1, keepdim=True).clamp_min(tiny)).clamp_max(1.0)
