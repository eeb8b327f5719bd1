"""Plan and train in one call."""

from unsay import training
from unsay.processes import ALONE


def train(vlm, examples, method, settings, folder, *, probe_examples=(), key="", processes=ALONE, **more):
    """As a run does it: the plan first, checked against the model."""
    plan = training.plan_training(
        method, settings, examples, probe_examples,
        vlm=vlm, processes=processes.world, sharded=processes.sharded, key=key,
    )  # fmt: skip
    return training.train(vlm, plan, folder, processes=processes, **more)
