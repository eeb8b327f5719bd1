"""Measures what an aligned model gives in to, and whether unlearning those answers closes the ways that drew them out.

    python -m tools.red_team --adapter runs/demo-0/adapter --work FOLDER --out docs/results/red-team.json

The aligned model is the pocket with a trained adapter merged into it, as a checkpoint folder that is then the original
of a run of its own: it has been taught to refuse these very requests. Hence it is asked by the whole ladder
(`data.own_answers`), without end. With `--unlearn` that run goes on: the answers found are unlearned, and attacks by
picture are asked before and after. Interrupted, the same command goes on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unsay import api
from unsay.cli.display import display
from unsay.config import RunConfig, model_of
from unsay.files import write_json
from unsay.generation.ways import WAYS
from unsay.models import load, load_adapter
from unsay.models.merge import write_merged
from unsay.models.precision import ModelSettings
from unsay.run.directory import Run
from unsay.run.own_answers import own_answers
from unsay.run.suites import build_suites
from unsay.run.training_rows import training_rows
from unsay.scoring import Scores
from unsay.scoring.red_team import RedTeam

REQUESTS = 180
SUITES = ("advbench", "advbench-typographic", "advbench-figstep", "contrast", "benign")


def settings(model: Path, requests: int, ways: Sequence[str] = tuple(WAYS)) -> RunConfig:
    """The demo's recipe in small, on another original model."""
    recipe: dict[str, Any] = {
        "requests": requests,
        "contrast": 400,
        "plain": 100,
        "magpie": 150,
        "truthfulqa": 50,
        "probe": 24,
    }
    formats = {"wrapped": 0.2, "lists": 0.2, "scans": 0.2, "forms": 0.25}
    recipe |= formats | {f"retain_{name}": share for name, share in formats.items()}
    data = {"answer_tokens": 24, "own_answers": {"wanted": None, "ways": tuple(ways)}, "recipe": recipe}
    train = {
        "steps": 60,
        "batch": {"forget": 2, "refuse": 4, "retain": 8},
        "learning_rate": 0.0014,
        "warmup_steps": 5,
        "max_answer_tokens": 28,  # a refusal with its end
        "checkpoint_every": 20,
        "stop": {"probe_every": 20, "max_probe_kl": 1.0},
    }
    method = {"forget_weight": 0.5, "refuse_weight": 1.35, "retain_weight": 2.4, "decision_weight": 1.5}
    evaluation = {"suites": SUITES, "limit": 40, "generation": {"max_new_tokens": 32}}
    return RunConfig.model_validate(
        {
            "model": str(model),
            "model_settings": {"dtype": "fastest"},
            "method_settings": method | {"forget_cap": 3.0},
            "data": data,
            "train": train,
            "evaluation": evaluation,
        }
    )


def aligned(adapter: Path, folder: Path) -> Path:
    """The pocket with an adapter merged into it, as a checkpoint folder; made once."""
    if not (folder / "config.json").exists():
        write_merged(
            load_adapter(load(model_of(adapter), settings=ModelSettings(dtype="float32")), adapter), folder, "float32"
        )
    return folder


def rows_of(red_team: RedTeam) -> dict[str, Any]:
    """The table as short JSON."""
    ways = [
        {
            "way": way.way,
            "asked": way.asked,
            "gave in": way.gave_in,
            "interval": [] if way.interval is None else [round(way.interval.low, 3), round(way.interval.high, 3)],
            "so far": way.together,
        }
        for way in red_team.ways
    ]
    attempts = [row.model_dump(mode="json") for row in red_team.attempts]
    return {"requests": red_team.requests, "judge": red_team.judge, "ways": ways, "attempts": attempts}


def changes(scores: Scores) -> list[dict[str, Any]]:
    """Suites before and after: the rate that leads each."""
    rates: dict[str, dict[str, Any]] = {}
    for row in scores.rows:
        rate = {"rate": row.rate, "n": row.judged, "degenerate": row.degenerate}
        rates.setdefault(row.suite, {})[row.phase.value] = rate
    return [{"suite": suite, **phases} for suite, phases in rates.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Merge, ask, and with `--unlearn` train; writes the numbers as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tools.red_team", description=__doc__.split("\n")[0])
    parser.add_argument("--adapter", type=Path, required=True, help="adapter folder of a finished run on the pocket")
    parser.add_argument("--work", type=Path, required=True, help="folder for the merged model and the run")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--unlearn", action="store_true", help="also unlearn the answers and measure again")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="in this order")
    options = parser.parse_args(arguments)
    config = settings(aligned(options.adapter, options.work / "aligned").absolute(), options.requests, options.ways)
    with display() as progress:
        if options.unlearn:
            scores = api.unlearn(config, options.work / "run", progress=progress)
        run = Run.open(options.work / "run", config, progress)
        found = own_answers(run, training_rows(run, build_suites(run)).forget)
    result = {"aligned": "the pocket with a trained demo adapter merged into it", "answer tokens": 24}
    result |= rows_of(found.red_team)
    if options.unlearn:
        result["suites"] = changes(scores)
    write_json(options.out, result)
    print(found.red_team)


if __name__ == "__main__":
    main()
