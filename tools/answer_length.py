"""Measures whether verdicts on short answers agree with verdicts on long ones, on the same answers.

    unsay evaluate --adapter runs/demo/adapter --out runs/long ...      # with max_new_tokens: 128
    python -m tools.answer_length runs/long --out docs/results/answer_length.json

A greedy answer of 32 tokens is the beginning of the greedy answer of 128. So the run's answers are cut, not generated
again, and judged at every length; the verdict at full length stands in for the truth. Intervals resample requests.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.judge_evidence import rounded
from unsay.config import read_config
from unsay.errors import UserError
from unsay.files import read_rows, write_json
from unsay.judges import Judge, build_judge, judge_all
from unsay.judges.agreement import measure
from unsay.models.loading import load_skeleton
from unsay.models.vlm import VLM
from unsay.records import Kind, Label, Phase, Prompt, Response

LENGTHS = (16, 24, 32, 48, 64)
"""Tokens that answers are cut to."""

POSITIVES = {Kind.ATTACK: Label.HARMFUL, Kind.BENIGN: Label.REFUSED}
"""What is counted in suites of a kind."""


def cut(vlm: VLM, response: Response, length: int) -> Response:
    """The answer as it is with a limit of `length` tokens."""
    ids = vlm.tokenizer(response.response, add_special_tokens=False)["input_ids"]
    if len(ids) <= length and response.tokens <= length:
        return response
    text = vlm.tokenizer.decode(ids[:length], skip_special_tokens=True)
    return response.model_copy(update={"response": text, "tokens": length, "finish_reason": "length"})


def agreement(
    vlm: VLM, judge: Judge, rows: Sequence[tuple[Prompt, Response]], lengths: Sequence[int]
) -> dict[str, Any]:
    """Verdicts at each length against those at full length, by kind of suite: harm in attacks, refusals in the others.

    Args:
        vlm: for its tokenizer.
        judge: labels the answers at every length.
        rows: prompts with their full answers.
        lengths: tokens, each shorter than the full answers.
    """
    result: dict[str, Any] = {}
    for kind, positive in POSITIVES.items():
        chosen = [(prompt, response) for prompt, response in rows if prompt.kind is kind]
        if not chosen:
            continue
        full = [verdict.label for verdict in judge_all(judge, chosen)]
        judged = [place for place, label in enumerate(full) if label is not Label.FAILED]
        chosen, full = [chosen[place] for place in judged], [full[place] for place in judged]
        result[kind.value] = {
            "label": positive.value,
            "rate": round(full.count(positive) / len(full), 4),
            "lengths": {str(length): _at(vlm, judge, chosen, full, positive, length) for length in sorted(lengths)},
        }
    return result


def _at(
    vlm: VLM, judge: Judge, rows: Sequence[tuple[Prompt, Response]], full: Sequence[Label], positive: Label, length: int
) -> dict[str, Any]:
    shorter = [(prompt, cut(vlm, response, length)) for prompt, response in rows]
    labels = [verdict.label for verdict in judge_all(judge, shorter)]
    groups = [prompt.group for prompt, _ in rows]
    rate = round(labels.count(positive) / len(labels), 4)
    return {"rate": rate, **rounded(measure(labels, full, positive=positive, groups=groups))}


def read_answers(folder: Path) -> list[tuple[Prompt, Response]]:
    """Every prompt of a finished run with its answer, of both phases; suites without answers are left out."""
    rows: list[tuple[Prompt, Response]] = []
    for path in sorted((folder / "suites").glob("*.jsonl")):
        prompts = {prompt.id: prompt for prompt in read_rows(path, Prompt)}
        for phase in Phase:
            answers = folder / "responses" / f"{path.stem}.{phase.value}.jsonl"
            if answers.exists():
                rows += [(prompts[response.id], response) for response in read_rows(answers, Response)]
    if not rows:
        raise UserError(f"{folder}: no answers; give the directory of a finished run")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge a run's answers at every length and write how the verdicts agree."""
    parser = argparse.ArgumentParser(prog="python -m tools.answer_length", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="directory of a finished run with long answers")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(arguments)
    config = read_config(options.run / "config.yaml")
    full = config.evaluation.generation.max_new_tokens
    judge = build_judge(config.evaluation.judge, config.evaluation.judge_settings)
    vlm = load_skeleton(config.model, processor=True)
    rows = read_answers(options.run)
    result = agreement(vlm, judge, rows, [length for length in LENGTHS if length < full])
    write_json(options.out, {"model": config.model, "judge": judge.name, "full": full, **result})


if __name__ == "__main__":
    main()
