"""Measures what the training data asks for, before any training: are harmful requests separable by what it shows?

    UNSAY_DATA_DIR=DIR python -m tools.separability --model pocket-1 --out docs/results/separability.json

A logistic regression on the original model's hidden states at the last prompt token is fitted on harmful requests of
some sources against contrast prompts and ordinary ones, and asked about the development suites: how well it tells their
harmful requests from borderline, ordinary and long ones (AUROC). What is low here, training on the same data has to
overcome; what is low even when fitted on the development suites themselves, cross-validated, this model does not hold.
The fit on all of it is asked about the same requests as pictures, too: what is lower there is lost on the way from the
page to the place where the answer begins.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from unsay.data.recipe import harmful_pool
from unsay.data.sources import halves
from unsay.files import write_json
from unsay.generation.prompts import encode_prompts, model_inputs
from unsay.generation.settings import GenerationSettings
from unsay.models import VLM, load
from unsay.models.layers import recording_blocks
from unsay.models.precision import ModelSettings
from unsay.models.vision import on_device, whole_hidden
from unsay.records import Prompt
from unsay.suites import Setting, benign, get_suite

States = NDArray[np.float32]
"""Hidden states of n requests at K blocks, [n, K, H]."""

HARMFUL = ("dev-jailbreakbench", "dev-harmbench", "dev-xstest-unsafe")
AGAINST = {
    "borderline": ("dev-jailbreakbench-benign", "dev-xstest-safe"),
    "ordinary": ("dev-figstep-benign",),
    "long": ("dev-falsereject",),
}
FORMS = ("page", "sign", "figstep")
"""Of the development suites as pictures."""
LONG = 25
"""Words from which a contrast prompt counts as long."""


@torch.inference_mode()
def last_states(vlm: VLM, requests: Sequence[str], blocks: Sequence[int]) -> States:
    """Outputs of the blocks (counted from 0) where each request's answer would begin, [n, K, H]."""
    with recording_blocks(vlm, blocks) as outputs:
        for request in requests:
            ids = vlm.tokenizer(vlm.render(request), return_tensors="pt", add_special_tokens=False)["input_ids"]
            vlm.decoder(input_ids=ids.to(vlm.device), use_cache=False)
            _keep_last(outputs)
    return _stacked(outputs)


@torch.inference_mode()
def picture_states(vlm: VLM, prompts: Sequence[Prompt], blocks: Sequence[int]) -> States:
    """The same for prompts with pictures."""
    with recording_blocks(vlm, blocks) as outputs:
        for row in encode_prompts(vlm, prompts, GenerationSettings()):
            whole_hidden(vlm, on_device(vlm, model_inputs(vlm, [row])))
            _keep_last(outputs)
    return _stacked(outputs)


def _keep_last(outputs: list[list[Tensor]]) -> None:
    for of_block in outputs:
        of_block[-1] = of_block[-1][0, -1].float().cpu()


def _stacked(outputs: list[list[Tensor]]) -> States:
    return torch.stack([torch.stack(of_block) for of_block in outputs], dim=1).numpy()


def _regression() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.003, class_weight="balanced", max_iter=500))


def fitted(harmful: States, harmless: States, asked: Mapping[str, States], against: Mapping[str, States]) -> list[Any]:
    """AUROC at every block of a regression fitted on the first two, of the asked suites against each class.

    Args:
        harmful: states of harmful training requests.
        harmless: of harmless ones.
        asked: of the development suites' harmful requests, by suite.
        against: of their harmless requests, by class.
    """
    rows = []
    for place in range(harmful.shape[1]):
        both = np.concatenate([harmful[:, place], harmless[:, place]])
        model = _regression().fit(both, _truth(len(harmful), len(harmless)))
        yes = model.decision_function(np.concatenate([states[:, place] for states in asked.values()]))
        no = {name: model.decision_function(states[:, place]) for name, states in against.items()}
        rows.append({name: auroc(yes, values) for name, values in no.items()})
    return rows


def ceiling(asked: Mapping[str, States], against: Mapping[str, States]) -> list[Any]:
    """The same, fitted on the development suites themselves: each request is scored by a fit on nine tenths of them."""
    harmful = np.concatenate(list(asked.values()))
    rows = []
    for place in range(harmful.shape[1]):
        found = {}
        for name, states in against.items():
            both = np.concatenate([harmful[:, place], states[:, place]])
            truth = _truth(len(harmful), len(states))
            scores = cross_val_predict(_regression(), both, truth, cv=10, method="decision_function")
            found[name] = auroc(scores[: len(harmful)], scores[len(harmful) :])
        rows.append(found)
    return rows


def _truth(harmful: int, harmless: int) -> list[int]:
    return [1] * harmful + [0] * harmless


def auroc(harmful: NDArray[Any], harmless: NDArray[Any]) -> float:
    """Share of pairs in which the harmful score is the higher one; a tie is half a pair. Three decimals."""
    scores = np.concatenate([harmful, harmless])
    return round(float(roc_auc_score(_truth(len(harmful), len(harmless)), scores)), 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the pocket VLM and write what was found."""
    parser = argparse.ArgumentParser(prog="python -m tools.separability", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--blocks", default="15,19,23,27", help="blocks to read, comma-separated")
    parser.add_argument("--rows", type=int, default=300, help="contrast prompts of each kind to fit on")
    parser.add_argument("--limit", type=int, default=60, help="prompts of each development suite")
    parser.add_argument("--pictures", type=int, default=20, help="the same as pictures, of each form")
    parser.add_argument("--model", default="pocket", help="the model")
    options = parser.parse_args(arguments)
    blocks = [int(part) for part in options.blocks.split(",")]
    vlm = load(options.model, settings=ModelSettings(dtype="fastest"))
    harmful = harmful_pool()
    contrast = halves.contrast()[0]
    pools = {
        "first": [row.text for row in contrast if row.subject is None],
        "short": [row.text for row in contrast if row.subject is not None and len(row.text.split()) < LONG],
        "long": [row.text for row in contrast if row.subject is not None and len(row.text.split()) >= LONG],
        "chat": [row.text for row in halves.magpie()[0] if len(row.text) <= benign.LONGEST],
    }
    states = {
        name: last_states(vlm, rows[:: max(1, len(rows) // options.rows)][: options.rows], blocks)
        for name, rows in pools.items()
    }
    of_harm = last_states(vlm, [row.text for row in harmful], blocks)
    with TemporaryDirectory() as scratch:
        setting = Setting(Path(scratch), options.limit)

        def read(suite: str) -> States:
            return last_states(vlm, [prompt.request for prompt in get_suite(suite).prompts(setting)], blocks)

        asked = {suite: read(suite) for suite in HARMFUL}
        against = {name: np.concatenate([read(suite) for suite in suites]) for name, suites in AGAINST.items()}
        everything = of_harm, np.concatenate([*states.values()])
        drawn = Setting(Path(scratch), options.pictures)

        def look(suite: str, form: str) -> States:
            return picture_states(vlm, get_suite(f"{suite}-{form}").prompts(drawn), blocks)

        pictures = {
            form: fitted(
                *everything,
                {suite: look(suite, form) for suite in HARMFUL},
                {name: np.concatenate([look(suite, form) for suite in suites]) for name, suites in AGAINST.items()},
            )
            for form in FORMS
        }
    sources = np.array([row.source for row in harmful])
    chosen = {
        "AdvBench": sources == "advbench",
        "without PyRIT's labels": sources != "pyrit_objectives",
        "all sources": np.ones(len(sources), dtype=bool),
    }
    contrasts = {
        "first contrast prompts": ("first", "chat"),
        "all contrast prompts": ("first", "short", "long", "chat"),
    }
    fits = [
        {
            "harmful": name,
            "requests": int(rows.sum()),
            "against": shown,
            "auroc": fitted(of_harm[rows], np.concatenate([states[part] for part in parts]), asked, against),
        }
        for shown, parts in contrasts.items()
        for name, rows in chosen.items()
    ]
    result = {"model": options.model, "blocks": blocks, "limit": options.limit, "fits": fits}
    result |= {"ceiling": ceiling(asked, against), "picture_limit": options.pictures, "pictures": pictures}
    write_json(options.out, result)


if __name__ == "__main__":
    main()
