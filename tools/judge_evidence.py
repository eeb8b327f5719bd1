"""Measures the judges on every labelled set at hand and writes docs/results/judge.json.

    python -m tools.judge_evidence --out docs/results/judge.json --data-dir BENCHMARKS \
        --gptfuzz-questions question_list.csv

What each set may say:

- PyRIT's objective labels and half of GPTFuzz's questions fit the probe, so its numbers there are out of fold; the
  rules are measured as they are.
- PyRIT's refusal labels call an answer to another question a refusal, too, which no refusal rule can see.
- XSTest's labels of two models (`XSTEST_DEVELOPMENT`) were seen while the refusal rules were written; those of the
  other three were not.
- GPTFuzz's other questions were never used to fit or to choose; nor was PKU-SafeRLHF, whose people labelled whether an
  answer is safe and not whether it complies. The rule for answers in several voices was written after the shape of
  such answers had been seen in GPTFuzz.
"""

import argparse
import hashlib
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unsay.data.published import csv_rows, data_dir
from unsay.files import write_json
from unsay.judges import label_sets, probe_features, soundness
from unsay.judges.agreement import Calibration, measure
from unsay.judges.base import as_attacks, harm_labels, judge_all, refusal_labels, request_groups
from unsay.judges.probe import (
    ProbeJudge,
    answer_features,
    nonempty,
    settled_by_rules,
    source_name,
)
from unsay.judges.probe_fit import crossfitted_thresholds, folds_of, out_of_fold, source_weights
from unsay.judges.refusal import refusal_reason
from unsay.judges.rules import RulesJudge
from unsay.judges.soundness import first_tokens, token_ids
from unsay.records import Label, LabelledResponse

XSTEST_DEVELOPMENT = tuple(sorted(label_sets.XSTEST_DEVELOPMENT))
XSTEST_HELD_OUT = ("gpt4", "llama2new", "mistralguard")

SURPRISAL_ROWS = 120
"""Answers whose surprisal is measured."""
SOUND_ROWS = 200
"""Sound answers of each set on which the whole step is measured."""
PKU_ROWS = 200
"""Rows of PKU-SafeRLHF that are measured on: both answers to each of 100 prompts."""
GPTFUZZ_PER_CELL = 3
"""Rows of each held-out GPTFuzz question and label that are measured on."""
GPTFUZZ_FIT_PER_CELL = 6
"""Rows of each other GPTFuzz question and label that are fitted on."""


def measure_all(folder: Path | None = None, gptfuzz_questions: Path | None = None) -> dict[str, Any]:
    """Every measurement that the files at hand allow.

    Args:
        folder: of public benchmarks; `UNSAY_DATA_DIR` if None. Without either, only PyRIT's labels are measured on.
        gptfuzz_questions: the questions that GPTFuzz's labelled rows name by number; without it that set is left out.

    Raises:
        UserError: a file is malformed, or PyRIT's labels or the model cannot be fetched.
    """
    folder = folder or data_dir()
    probe = ProbeJudge.default()
    refusal = {"pyrit": refusal_calibration(label_sets.pyrit_refusal())}
    partial: dict[str, Any] = {}
    if folder:
        for name, models in (("xstest held out", XSTEST_HELD_OUT), ("xstest development", XSTEST_DEVELOPMENT)):
            rows, partial[name] = xstest(folder, models)
            refusal[name] = refusal_calibration(rows)
        for model in (*XSTEST_HELD_OUT, *XSTEST_DEVELOPMENT):
            refusal[f"xstest {model}"] = refusal_calibration(xstest(folder, (model,))[0])
    fitted_on = label_sets.pyrit_objective()
    harm: dict[str, Calibration] = {}
    if folder and gptfuzz_questions:
        fitted_on += gptfuzz_fit_rows(folder, gptfuzz_questions)
        harm |= harm_independent(probe, gptfuzz_held_out(folder, gptfuzz_questions), "gptfuzz")
    if folder and (folder / label_sets.PKU_FILE).exists():
        harm |= harm_independent(probe, label_sets.pku_pairs(folder)[:PKU_ROWS], "pku")
    harm |= harm_out_of_fold(probe, fitted_on)
    packages = ("unsay", "torch", "transformers", "scikit-learn", "scipy", "numpy")
    return {
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "probe": {
            "settings": probe.fitted.settings.model_dump(),
            "rows": probe.fitted.rows,
            "sources": probe.fitted.sources,
            "threshold": probe.fitted.threshold,
        },
        "refusal": {name: rounded(value) for name, value in refusal.items()},
        "xstest partial refusals": partial,
        "word salad": word_salad_shares(probe, label_sets.pyrit_objective()),
        "soundness": soundness_shares(answered_sets(folder)),
        "harm": {name: rounded(value) for name, value in harm.items()},
    }


def refusal_calibration(rows: Sequence[LabelledResponse]) -> Calibration:
    """The refusal rules against rows labelled `REFUSED` or not."""
    called = refusal_labels(refusal_reason(row.response) is not None for row in rows)
    return measure(called, [row.label for row in rows], positive=Label.REFUSED, groups=request_groups(rows))


def xstest(folder: Path, models: Sequence[str]) -> tuple[list[LabelledResponse], dict[str, int]]:
    """Full refusals and compliances of these models; and how many of the partial refusals the rules call refused."""
    rows: list[LabelledResponse] = []
    partial: Counter[str] = Counter()
    for model in models:
        path = folder / label_sets.XSTEST_COMPLETIONS / f"xstest_v2_completions_{model}.csv"
        for row in csv_rows(path, ("prompt", "completion", "final_label")):
            if row["final_label"] == "3_partial_refusal":
                partial.update(["n"] + ["refused"] * (refusal_reason(row["completion"]) is not None))
                continue
            label = Label.REFUSED if row["final_label"] == "2_full_refusal" else Label.SAFE
            rows.append(LabelledResponse(prompt=row["prompt"], response=row["completion"], label=label, source=model))
    return rows, dict(partial)


def harm_out_of_fold(probe: ProbeJudge, rows: Sequence[LabelledResponse]) -> dict[str, Calibration]:
    """Both judges on the probe's own labels: the probe out of fold, with thresholds chosen without the row's fold."""
    rows = nonempty(rows)
    settings = probe.fitted.settings
    sources = np.array([source_name(row) for row in rows])
    texts = [(row.prompt, row.response) for row in rows]
    features = answer_features(*probe.reader, texts, settings, settings.cuts)
    true = np.array([row.label is Label.HARMFUL for row in rows])
    fold = folds_of(true, request_groups(rows), settings)
    wording, weights = len(probe_features.FEATURES), source_weights(sources.tolist())
    alone = out_of_fold(features, true, fold, settings, wording=wording, weights=weights)
    settled = np.stack([settled_by_rules(probe.reader[1], rows, cut) for cut in settings.cuts], axis=1)
    judged = np.where(settled, 0.0, alone)
    thresholds = crossfitted_thresholds(judged, true, fold)
    requests = np.array(request_groups(rows))
    results = {}
    for source in np.unique(sources):
        ours = sources == source
        for column, cut in enumerate(settings.cuts):
            where = f"{source} (fitted on, out of fold), {cut} tokens"
            score, rule = judged[ours, column], settled[ours, column]
            results[f"probe, {where}"] = _harm(score >= thresholds[ours], true[ours], requests[ours], score)
            results[f"rules, {where}"] = _harm(~rule, true[ours], requests[ours])
    return results


def harm_independent(probe: ProbeJudge, rows: Sequence[LabelledResponse], name: str) -> dict[str, Calibration]:
    """Both judges on labels that nothing was fitted on."""
    true = np.array([row.label is Label.HARMFUL for row in rows])
    requests = np.array(request_groups(rows))
    results = {}
    for cut in probe.fitted.settings.cuts:
        short = [row.model_copy(update={"response": first_tokens(probe.reader[1], row.response, cut)}) for row in rows]
        for judge in (probe, RulesJudge()):
            verdicts = judge_all(judge, as_attacks(short))
            called = np.array([verdict.label is Label.HARMFUL for verdict in verdicts])
            scores = np.array([verdict.score or 0.0 for verdict in verdicts]) if judge is probe else None
            where = f"{judge.name}, {name} (never fitted on), {cut} tokens"
            results[where] = _harm(called, true, requests, scores)
    return results


def word_salad_shares(probe: ProbeJudge, rows: Sequence[LabelledResponse], seed: int = 0) -> dict[str, Any]:
    """How many answers are called word salad: as they are, with their words or tokens shuffled, and of any tokens."""
    generator = np.random.default_rng(seed)
    tokenizer, size = probe.reader[1], soundness.ANSWER_TOKENS
    answers = [row.response for row in rows if refusal_reason(row.response) is None]
    sound = [first_tokens(tokenizer, answer, size) for answer in answers if soundness.can_measure_surprisal(answer)]
    sound = sound[:SURPRISAL_ROWS]
    pool = np.concatenate([token_ids(tokenizer, text) for text in sound])
    texts_by_name = {
        "answers as they are": sound,
        "their words in random order": [" ".join(generator.permutation(text.split())) for text in sound],
        "their tokens mixed": [tokenizer.decode(generator.choice(pool, size)) for _ in sound],
        "any tokens": [tokenizer.decode(generator.integers(100, len(tokenizer), size)) for _ in sound],
    }
    shares = {}
    for name, texts in texts_by_name.items():
        values = soundness.surprisals(*probe.reader, texts)
        shares[name] = {
            "n": len(texts),
            "flagged": int((values > soundness.MAX_SURPRISAL).sum()),
            "nats a token": [round(float(value), 2) for value in np.quantile(values, [0, 0.5, 1])],
        }
    return shares


def answered_sets(folder: Path | None) -> dict[str, list[LabelledResponse]]:
    """Answers that people took for answers, by set: none is broken, and each is about its request."""
    sets = {"pyrit": [row for row in label_sets.pyrit_objective() if row.label is Label.HARMFUL]}
    if folder:
        sets["xstest held out"] = [row for row in xstest(folder, XSTEST_HELD_OUT)[0] if row.label is Label.SAFE]
    if folder and (folder / label_sets.PKU_FILE).exists():
        sets["pku"] = label_sets.pku_pairs(folder)
    return sets


def soundness_shares(
    sets: dict[str, list[LabelledResponse]], step: soundness.Soundness | None = None
) -> dict[str, Any]:
    """How many sound answers are called broken, and how many are called so as answers to another request."""
    step = step or soundness.Soundness()
    shares = {}
    for name, rows in sets.items():
        long_enough = (row for row in rows if soundness.can_measure_surprisal(row.response))
        rows = sorted(long_enough, key=lambda row: _text_hash(row.prompt, row.response))[:SOUND_ROWS]
        mixed = [row.model_copy(update={"prompt": _other_request(rows, place)}) for place, row in enumerate(rows)]
        right, wrong = (step.reasons(as_attacks(chosen)) for chosen in (rows, mixed))
        shares[name] = {
            "n": len(rows),
            "called broken": dict(Counter(reason.split(":")[0] for reason in right if reason).most_common()),
            "called unrelated to another request": sum((reason or "").startswith("unrelated") for reason in wrong),
        }
    return shares


def _other_request(rows: Sequence[LabelledResponse], place: int) -> str:
    """The request of a later row that is not this row's own."""
    own = rows[place].prompt
    rotated = [row.prompt for row in (*rows[place:], *rows[:place])]
    return next((prompt for prompt in rotated if prompt != own), own)


def held_out(question: str) -> bool:
    """Whether nothing is ever fitted on a GPTFuzz question; by a hash of its text."""
    return int(hashlib.sha256(" ".join(question.lower().split()).encode()).hexdigest()[:8], 16) % 2 == 1


def gptfuzz_fit_rows(folder: Path, questions: Path) -> list[LabelledResponse]:
    """What the probe is fitted on: some responses to each question that is not held out."""
    return [row for row in gptfuzz_sample(folder, questions, GPTFUZZ_FIT_PER_CELL) if not held_out(row.prompt)]


def gptfuzz_held_out(folder: Path, questions: Path) -> list[LabelledResponse]:
    """What it is measured on: some responses to each question that is held out."""
    return [row for row in gptfuzz_sample(folder, questions) if held_out(row.prompt)]


def gptfuzz_sample(folder: Path, questions: Path, per_cell: int = GPTFUZZ_PER_CELL) -> list[LabelledResponse]:
    """A fixed sample of GPTFuzz's labelled responses: few of each question and label, so that no question dominates."""
    text = {row["index"]: row["text"] for row in csv_rows(questions, ("index", "text"))}
    distinct = {
        (row["question"], row["Response"].strip(), row["label"])
        for row in csv_rows(folder / label_sets.GPTFUZZ_ROWS, ("question", "Response", "label"))
        if row["Response"].strip()
    }
    taken: Counter[tuple[str, str]] = Counter()
    rows = []
    for question, response, label in sorted(distinct, key=lambda row: _text_hash(*row)):
        taken[question, label] += 1
        if taken[question, label] <= per_cell:
            meaning = Label.HARMFUL if label == "1" else Label.REFUSED
            rows.append(
                LabelledResponse(prompt=text[question], response=response, label=meaning, source="gptfuzz/train.csv")
            )
    return rows


def rounded(calibration: Calibration) -> dict[str, Any]:
    """A calibration as short JSON: each estimate is [value, low, high]."""
    return {
        name: [round(value[part], 4) for part in ("value", "low", "high")] if isinstance(value, dict) else value
        for name, value in calibration.model_dump(mode="json").items()
    }


def _text_hash(*texts: str) -> str:
    """A sort key that has nothing to do with the texts' meaning and is the same on every machine."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _harm(
    called: NDArray[np.bool_],
    true: NDArray[np.bool_],
    requests: NDArray[np.str_],
    scores: NDArray[np.float64] | None = None,
) -> Calibration:
    ranked = None if scores is None else scores.tolist()
    return measure(harm_labels(called), harm_labels(true), ranked, groups=requests.tolist())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything that can be measured and write it as JSON; takes minutes."""
    parser = argparse.ArgumentParser(prog="python -m tools.judge_evidence", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--data-dir", type=Path, help="benchmark folder (default: UNSAY_DATA_DIR)")
    parser.add_argument("--gptfuzz-questions", type=Path, help="GPTFuzz's datasets/questions/question_list.csv")
    options = parser.parse_args(arguments)
    write_json(options.out, measure_all(options.data_dir, options.gptfuzz_questions))


if __name__ == "__main__":
    main()
