"""Settings of one training run, and what to change in them when memory runs out."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from unsay.errors import UserError
from unsay.methods.base import BlockSetting
from unsay.models.failures import out_of_memory
from unsay.models.lora import LoraSettings
from unsay.processes import process_lost
from unsay.records import Role


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BatchSettings(Section):
    """Examples of each role in one mixed batch; companions that a method needs come on top."""

    forget: int = Field(8, ge=0, description="harmful answers in a batch")
    refuse: int = Field(8, ge=0, description="refusals in a batch")
    retain: int = Field(8, ge=0, description="normal answers in a batch")

    def of(self, role: Role) -> int:
        """Examples of one role per batch."""
        return int(getattr(self, role.value))


class StopSettings(Section):
    """When training ends before its last step."""

    max_probe_kl: float | None = Field(
        1.0,
        gt=0,
        description="the run is stopped as collapsed, at its last good checkpoint, when KL(original ‖ current) on "
        "held-out normal answers exceeds this many nats per token; null watches without stopping",
    )
    probe_every: int = Field(
        10,
        ge=1,
        description="steps between two measurements of KL on the held-out normal answers; every checkpoint has one too",
    )


class AdversarialSettings(Section):
    """What an adversary may add to hidden states of harmful rows while they are trained."""

    layers: tuple[BlockSetting, ...] = Field(
        (0.25, 0.5, 0.75),
        min_length=1,
        description="the blocks after which it is added: numbers from 0, or shares of the depth",
    )
    radius: float = Field(
        0.1, gt=0, description="how much, as a share of the length of each token's state: ‖δ‖ ≤ radius · ‖h‖"
    )
    steps: int = Field(4, ge=1, description="steps of projected gradient descent, each a pass of the harmful rows")


class TrainSettings(Section):
    """One training run; every field has a default that suits the pocket VLM."""

    steps: int = Field(50, ge=1, description="optimiser steps, each on one mixed batch")
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="training ends before the step that would bring its tokens, image tokens included, above this; the "
        "learning rate's schedule then runs over whichever limit is nearest: steps, tokens or seconds; null sets none",
    )
    max_seconds: float | None = Field(
        None, gt=0, description="the same for training seconds, as far as a step's time can be predicted"
    )
    batch: BatchSettings = Field(BatchSettings(), description="rows of each role in a step")
    accumulate: int = Field(
        1,
        ge=1,
        description="turns in which a process computes its part of the batch, if it does not fit at once; the result "
        "is the same",
    )
    recompute: bool = Field(
        False,
        description="compute activations again in the backward pass instead of keeping them: less memory, about a "
        "third more work",
    )
    retain_mix: dict[str, NonNegativeFloat] | None = Field(
        None, description="share of each source in the retain examples; null draws every example equally often"
    )
    batch_by: Literal["chance", "subject"] = Field(
        "chance",
        description="`subject` takes forget and refuse rows in turn over their subjects, and beside each harmful row "
        "of a step the retain row of its subject that shares the most key words, in place of retain rows with subjects",
    )
    optimizer: Literal["adamw", "adamw-8bit"] = Field(
        "adamw", description="adamw-8bit keeps its moments in 8 bits; it needs a CUDA GPU and bitsandbytes"
    )
    learning_rate: float = Field(
        5e-4, gt=0, description="at its highest, after the warm-up; larger models need smaller ones, 1e-4 and below"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="how the learning rate falls to 0 after the warm-up; constant keeps it"
    )
    warmup_steps: int = Field(3, ge=0, description="steps in which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, description="of the adapter's weights")
    max_grad_norm: float = Field(1.0, gt=0, description="larger gradients are scaled down to this norm")
    max_prompt_tokens: int = Field(
        256, ge=8, description="a longer prompt is an error; a picture's tokens do not count"
    )
    max_answer_tokens: int = Field(
        48, ge=1, description="a longer answer is cut and then teaches no end: raise it for long answers"
    )
    sharpness: float = Field(
        0.0,
        ge=0,
        description="radius ρ of sharpness-aware steps: the gradient is taken where the loss is highest within ρ, so "
        "that a little fine-tuning undoes less; twice the time; 0 for ordinary steps, 0.1 in the literature",
    )
    adversarial: AdversarialSettings | None = Field(
        None,
        description="hidden states of harmful rows are bent towards the harmful answer while they are trained: "
        "{layers, radius, steps}; null leaves them alone",
    )
    head_chunk: int = Field(512, ge=1, description="answer positions that pass the output head at a time")
    reference: Literal["live", "cached"] = Field(
        "live",
        description="`live` runs the original model (the adapter switched off) in every step; `cached` runs it once "
        "per example and keeps its log-probabilities: worth it where examples are seen several times",
    )
    reference_top_k: int = Field(
        64,
        ge=1,
        description="tokens per position whose probabilities a cached reference keeps for KL; the rest counts as one "
        "token, so that KL is never too large, but may be too small",
    )
    lora: LoraSettings = Field(LoraSettings(), description="the adapter")
    checkpoint_every: int = Field(
        10, ge=1, description="steps between two checkpoints; a killed run continues from the last"
    )
    stop: StopSettings = Field(StopSettings(), description="when training ends early, and at which step it is kept")
    tracker: Literal["tensorboard", "wandb", "trackio", "mlflow"] | None = Field(
        None,
        description="where the numbers of every step also go, live; each needs its extra, such as "
        "`unsay[tensorboard]`, whose files go to `train/tensorboard`; null sends them nowhere",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="follows the run's seed")

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the result: not how the work is divided, nor what came later and is the default."""
        later = {
            "optimizer": "adamw",
            "batch_by": "chance",
            "sharpness": 0.0,
            "adversarial": None,
        }  # than keys that must stay what they are
        left_out = {"accumulate", "recompute", "tracker"} | {
            name for name in later if getattr(self, name) == later[name]
        }
        return self.model_dump(mode="json", exclude=left_out)


class Steps(Protocol):
    """A training under way: steps done, and the step of the last checkpoint."""

    step: int
    saved: int


@contextmanager
def explaining_failures(
    run: Steps, settings: TrainSettings, roles: Iterable[Role], processes: int, quantisable: bool
) -> Iterator[None]:
    """Turn out-of-memory and lost-process errors into a `UserError` that says what is kept and what to do.

    No message is exchanged with other processes from here on, so that nobody waits.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        kept = f"step {run.saved} is kept" if run.saved else "no step is kept yet"
        if out_of_memory(error):
            raise UserError(
                f"out of memory at step {run.step + 1}; {kept}. "
                f"{advice(settings, roles, processes, quantisable=quantisable)}"
            ) from error
        if process_lost(error):
            raise UserError(
                f"another process of this run was lost at step {run.step + 1}; {kept}: run the same command again, "
                "with as many processes as there are now"
            ) from error
        raise


def advice(
    settings: TrainSettings, roles: Iterable[Role] = Role, processes: int = 1, *, quantisable: bool = True
) -> str:
    """What would need less memory, cheapest first, without what the settings do already or would not be taken.

    Args:
        settings: of the training.
        roles: those that the method needs.
        processes: how many train together.
        quantisable: whether the model could be in 4 bits, and is not.
    """
    ways, turns = [], 2 * settings.accumulate
    if not any(settings.batch.of(role) % (processes * turns) for role in roles):
        ways.append(f"train.accumulate: {turns} (half as much at a time, the same result)")
    if not settings.recompute:
        ways.append("train.recompute: true (a third more work)")
    if settings.head_chunk > 64:
        ways.append(f"train.head_chunk: {settings.head_chunk // 2}")
    if quantisable:
        ways.append("model_settings.quantisation: 4-bit")
    ways.append("a device with more memory, or one that nobody else uses")
    return "What helps, in this order: " + "; ".join(ways)
