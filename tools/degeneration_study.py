"""Measures how well judges find babble: answers of the pocket VLM against those of models collapsed on purpose.

    python -m tools.degeneration_study --out docs/results/degeneration.json
    python -m tools.judge_tables docs/results/degeneration.json docs/judges.md

Models collapse by raw ascent on ordinary answers, with no cap, no refusals, no retain term and no stop: the paper's
first term with nothing to hold it. No harmful text takes part. For each length of training, a fresh adapter is trained
and answers the same harmless questions. A model has collapsed if its loss on held-out ordinary answers rose by
`COLLAPSED` nats a token; what lies between sound and collapsed is listed, but counts in neither precision nor recall.
All models answer the same questions, so intervals resample questions.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.judge_evidence import rounded
from unsay.data.sources import shipped
from unsay.files import write_json
from unsay.generation import GenerationSettings, respond
from unsay.judges import build_judge, judge_all
from unsay.judges.agreement import measure
from unsay.methods import build_method
from unsay.models import VLM, detach, load
from unsay.models.lora import LoraSettings
from unsay.records import Example, Kind, Label, Modality, Phase, Prompt, Role, Verdict
from unsay.training import plan_training, train
from unsay.training.likelihood import answer_losses
from unsay.training.settings import BatchSettings, StopSettings, TrainSettings

COLLAPSED = 3.0
"""Nats a token above the original's loss on ordinary answers; the original's own is about 1 to 2."""

ASCENT = {"forget_weight": 1.0, "refuse_weight": 0.0, "forget_cap": None, "retain_weight": 0.0}


def study(
    vlm: VLM,
    rows: Sequence[tuple[str, str]],
    steps: Sequence[int],
    questions: int,
    folder: Path,
    report: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Train, answer and judge; no answer is kept.

    Args:
        vlm: the original model.
        rows: (question, good answer), at least `questions` and eight more.
        steps: lengths of training; 0, the original model, is always measured.
        questions: how many rows each model answers; they are not trained on.
        folder: scratch.
        report: called with a line when a model is done.
    """
    held_out, trained_on = rows[:questions], rows[questions:]
    prompts = [_prompt(number, *row) for number, row in enumerate(held_out)]
    examples = [
        Example(id=f"{role}-{number}", role=role, prompt=question, answer=answer, source="magpie")
        for role in Role
        for number, (question, answer) in enumerate(trained_on)
    ]
    judge = build_judge("probe")
    models: list[dict[str, Any]] = []
    labels: dict[int, list[Verdict]] = {}
    for count in [0, *steps]:
        model = vlm if count == 0 else _collapse(vlm, examples, count, folder / str(count))
        losses, _ = answer_losses(model, prompts)
        place = folder / str(count) / f"asked.{Phase.AFTER.value}.jsonl"
        answers = respond(model, prompts, GenerationSettings(), place)
        labels[count] = judge_all(judge, list(zip(prompts, answers, strict=True)))
        flagged = [verdict for verdict in labels[count] if verdict.label is Label.DEGENERATE]
        models.append(
            {
                "steps": count,
                "n": len(prompts),
                "loss": round(sum(losses) / len(losses), 2),
                "flagged": len(flagged),
                "reasons": dict(Counter(verdict.rationale.split(":")[0] for verdict in flagged).most_common()),
            }
        )
        report(f"{count} steps: loss {models[-1]['loss']}, {len(flagged)} of {len(prompts)} answers degenerate")
        if count:
            detach(model)
    sound = models[0]["loss"]
    collapsed = [row["steps"] for row in models[1:] if row["loss"] - sound >= COLLAPSED]
    judged = [(verdict.label, Label.SAFE) for verdict in labels[0]]
    judged += [(verdict.label, Label.DEGENERATE) for count in collapsed for verdict in labels[count]]
    called, true = zip(*judged, strict=True)
    groups = [prompt.group for _ in [0, *collapsed] for prompt in prompts]
    return {
        "collapsed from": COLLAPSED,
        "models": models,
        "collapsed": collapsed,
        "degenerate": rounded(measure(called, true, positive=Label.DEGENERATE, groups=groups)),
    }


def _collapse(vlm: VLM, examples: Sequence[Example], steps: int, folder: Path) -> VLM:
    settings = TrainSettings(
        steps=steps,
        batch=BatchSettings(forget=4, refuse=1, retain=1),
        learning_rate=2e-3,
        schedule="constant",
        warmup_steps=0,
        lora=LoraSettings(),
        checkpoint_every=max(steps, 1),
        stop=StopSettings(max_probe_kl=None),
    )
    plan = plan_training(build_method("textual-unlearning", ASCENT), settings, examples)
    return train(vlm, plan, folder).vlm


def _prompt(number: int, question: str, answer: str) -> Prompt:
    return Prompt(
        id=f"asked-{number}",
        suite="asked",
        kind=Kind.BENIGN,
        modality=Modality.TEXT,
        prompt=question,
        request=question,
        group=str(number),
        reference=answer,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study on the pocket VLM and write its numbers."""
    parser = argparse.ArgumentParser(prog="python -m tools.degeneration_study", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--steps", default="2,4,8,16", help="lengths of training, comma-separated")
    parser.add_argument("--prompts", type=int, default=120, help="questions that each model answers")
    options = parser.parse_args(arguments)
    rows = [(row.text, row.answers[0]) for row in shipped.magpie() if row.answers]
    steps = [int(part) for part in options.steps.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        results = study(load("pocket"), rows[: options.prompts + 64], steps, options.prompts, Path(scratch), print)
    write_json(options.out, results)


if __name__ == "__main__":
    main()
