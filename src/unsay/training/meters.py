"""What a training step costs."""

from unsay.methods.base import Needs
from unsay.models.flops import forward_flops
from unsay.models.vlm import VLM
from unsay.training.encoding import MixedBatch


def step_flops(vlm: VLM, batch: MixedBatch, needs: Needs) -> float:
    """Estimated operations of one step.

    Forward, backward through the activations (weights are frozen but for the adapter, so no weight gradients), and the
    original model's forward on the roles that need it. The output head's logits are computed once more in the backward.
    """
    policy = forward_flops(vlm, batch.tokens, head_tokens=len(batch.targets))
    recomputed = forward_flops(vlm, 0, head_tokens=len(batch.targets))
    sub, chosen = batch.select(needs.reference | needs.kl)
    return 2 * policy + recomputed + forward_flops(vlm, sub.tokens, head_tokens=int(chosen.sum()))
