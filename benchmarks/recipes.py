"""The contenders of one training step: this project, and what people do without it.

Each gives a function that does one optimiser step on the next batch of the same plan, with the same LoRA on the same
modules, the same loss and the same precision, and returns the loss.
"""

import copy
import itertools
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import now
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from unsay.methods import METHODS, Method, build_method
from unsay.models import VLM, attach
from unsay.records import Example, Role
from unsay.training.encode import Encoded, collate, encode, read_lengths, shared_prefix
from unsay.training.plan import TrainingPlan, steps_of
from unsay.training.settings import TrainSettings
from unsay.training.trainer import Trainer

METHOD = build_method("textual-unlearning")
DPO = build_method("dpo", {"retain_ce_weight": 0.0, "preference_weight": 0.05})
"""The loss of the DPO paper, as in TRL: pairs alone, and with this weight a factor of 1 instead of 2/β."""
Step = Callable[[], float]


def plan(
    vlm: VLM, examples: Sequence[Example], settings: TrainSettings, method: Method = METHOD
) -> list[list[Encoded]]:
    """The batches that every contender trains on."""
    made = steps_of(examples, method.needs, settings)
    limits = {"max_prompt_tokens": settings.max_prompt_tokens, "max_answer_tokens": settings.max_answer_tokens}
    return [[encode(vlm, example, **limits) for example in batch] for batch in made]


def this_project(vlm: VLM, steps: list[list[Encoded]], settings: TrainSettings, method: Method = METHOD) -> Step:
    """The trainer's own step; its loss is NaN where the trainer would have given it up."""
    adapted = attach(vlm, settings.lora, settings.seed)
    folder = Path(tempfile.mkdtemp())
    training = Trainer(adapted, TrainingPlan(method, settings), folder)
    rows = itertools.cycle(steps)
    return lambda: (training.one_step(next(rows)) or {"loss": math.nan})["loss"]


def usual_recipe(vlm: VLM, steps: list[list[Encoded]], settings: TrainSettings) -> Step:
    """Three forwards, each padded; a second model as the reference; all logits of all positions."""
    original = copy.deepcopy(vlm.model).requires_grad_(False)
    adapted = attach(vlm, settings.lora, settings.seed)
    optimizer = torch.optim.AdamW((p for p in adapted.model.parameters() if p.requires_grad), lr=settings.learning_rate)
    rows = itertools.cycle(steps)

    def step() -> float:
        batch = next(rows)
        parts = {role: padded([e for e in batch if e.role is role], adapted.device) for role in Role}
        outputs = {role: adapted.model(**inputs).logits for role, (inputs, _) in parts.items()}
        with torch.no_grad():
            before = original(**parts[Role.RETAIN][0]).logits
        loss = three_terms(outputs, before, {role: labels for role, (_, labels) in parts.items()})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            (p for p in adapted.model.parameters() if p.requires_grad), settings.max_grad_norm
        )
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def transformers_trainer(vlm: VLM, steps: list[list[Encoded]], settings: TrainSettings, count: int) -> list[float]:
    """`transformers.Trainer` with the same loss: one padded batch, the adapter switched off as the reference.

    Returns:
        The moments at which its steps ended, in seconds; the loop is its own.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    adapted = attach(vlm, settings.lora, settings.seed)
    ended: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ended.append(now())

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ended.append(now())

    class ThreeTerms(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Tensor:
            roles, labels = inputs.pop("roles"), inputs.pop("labels")
            logits = model(**inputs).logits
            retain = roles == list(Role).index(Role.RETAIN)
            with torch.no_grad(), model.disable_adapter():
                before = model(**{name: value[retain] for name, value in inputs.items()}).logits
            by_role = {role: roles == number for number, role in enumerate(Role)}
            return three_terms(
                {role: logits[rows] for role, rows in by_role.items()},
                before,
                {role: labels[rows] for role, rows in by_role.items()},
            )

    def collated(rows: list[Encoded]) -> dict[str, Tensor]:
        inputs, labels = padded(rows, torch.device("cpu"))
        return {**inputs, "labels": labels, "roles": torch.tensor([list(Role).index(row.role) for row in rows])}

    flat = [row for batch in steps[:count] for row in batch]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=len(steps[0]),
            max_steps=count,
            learning_rate=settings.learning_rate,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            remove_unused_columns=False,
            disable_tqdm=True,
            train_sampling_strategy="sequential",
            use_cpu=adapted.device.type == "cpu",
        )
        ThreeTerms(adapted.model, arguments, data_collator=collated, train_dataset=flat, callbacks=[Clock()]).train()  # type: ignore[arg-type]
    return ended


def trl_dpo(vlm: VLM, examples: Sequence[Example], settings: TrainSettings, count: int) -> list[float]:
    """TRL's DPO trainer on text pairs, with the same LoRA; the moments at which its steps ended.

    Raises:
        ImportError: TRL is not installed (`pip install -e .[bench]`).
    """
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    adapted = attach(vlm, settings.lora, settings.seed)
    pairs = settings.batch.forget
    rows = [
        {
            "prompt": adapted.render(adapted.escape(rejected.prompt)),  # TRL adds the end of an answer itself
            "chosen": chosen.answer,
            "rejected": rejected.answer,
        }
        for batch in steps_of(examples, DPO.needs, settings)[:count]
        for rejected, chosen in zip(batch[:pairs], batch[pairs:], strict=True)
    ]
    ended: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ended.append(now())

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ended.append(now())

    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            folder,
            per_device_train_batch_size=pairs,
            max_steps=count,
            max_length=settings.max_prompt_tokens + settings.max_answer_tokens,
            beta=0.1,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            warmup_steps=settings.warmup_steps,
            max_grad_norm=settings.max_grad_norm,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            gradient_checkpointing=False,
            disable_tqdm=True,
            train_sampling_strategy="sequential",
            bf16=False,
            use_cpu=adapted.device.type == "cpu",
        )
        DPOTrainer(
            adapted.model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=adapted.tokenizer,
            callbacks=[Clock()],
        ).train()
    return ended


def operations(rows: Sequence[Encoded], method: Method = METHOD) -> int:
    """Operations per weight that a step cannot do without; what all rows begin with counts once.

    Forward and activation gradients of the current model, and the original's forward on the rows that it must read.
    """
    prefix = shared_prefix(rows)

    def passed(part: Sequence[Encoded]) -> int:
        return prefix + sum(length - prefix for length in read_lengths(part)) if part else 0

    return 4 * passed(rows) + 2 * passed([row for row in rows if row.role in method.needs.original])


def padded(rows: Sequence[Encoded], device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Right-padded inputs of the whole model, and labels that are −100 but on answer tokens, [B, L] each."""
    batch = collate(rows).to(device)
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.rows, batch.predictors + 1] = batch.targets
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}, labels


def three_terms(logits: dict[Role, Tensor], before: Tensor, labels: dict[Role, Tensor]) -> Tensor:
    """The paper's loss with this project's defaults, from whole logits [B, L, V]."""
    settings = METHODS["textual-unlearning"].settings().model_dump()
    forget = _per_example(_token_ce(logits[Role.FORGET], labels[Role.FORGET]), labels[Role.FORGET])
    refuse = _per_example(_token_ce(logits[Role.REFUSE], labels[Role.REFUSE]), labels[Role.REFUSE])
    current, original = (log_softmax(part[:, :-1].float(), -1) for part in (logits[Role.RETAIN], before))
    kl = kl_div(current, original, reduction="none", log_target=True).sum(-1)
    retain = _per_example(kl, labels[Role.RETAIN])
    return (
        -settings["forget_weight"] * forget.clamp_max(settings["forget_cap"]).mean()
        + settings["refuse_weight"] * refuse.mean()
        + settings["retain_weight"] * retain.mean()
    )


def _token_ce(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1].float().transpose(1, 2), labels[:, 1:], reduction="none")


def _per_example(values: Tensor, labels: Tensor) -> Tensor:
    mask = (labels[:, 1:] != -100).to(values.dtype)
    return (values * mask).sum(1) / mask.sum(1)
