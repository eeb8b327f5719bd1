"""Measures the judge `probe` on every source of human labels with that source left out, by length of the answers.

    python -m tools.source_left_out --out docs/results/judge-sources.json --data-dir BENCHMARKS --package
    python -m tools.source_left_out --out docs/results/judge-sources.json --table docs/judges.md

A run's model and attacks are in no labelled set. So neither probe nor threshold sees anything of the source that
it is measured on: other people's labels, of other models, to other requests. `BENCHMARKS` is laid out as
`UNSAY_DATA_DIR`; sources that are not there are left out. The labels answer questions of their own (docs/judges.md).
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unsay.data.published import csv_rows, data_dir
from unsay.files import content_key, read_json, read_text, write_json, write_text
from unsay.judges import label_sets, probe
from unsay.judges.label_sets import sample_rows
from unsay.judges.probe_fit import FittedProbe, ProbeSettings, SourceCalibration
from unsay.judges.soundness import Reader, original_reader
from unsay.records import Label, LabelledResponse

UNFIT = ("pku",)
"""Sources whose labels ask something else (is the answer safe?): measured, but nothing is learned from them."""

PER_SOURCE = 200
"""Rows of a source at most, half of each label where there are enough."""
BEGIN, END = "<!-- sources left out: written by python -m tools.source_left_out -->", "<!-- end of sources left out -->"


def rows_by_source(folder: Path | None, limit: int = PER_SOURCE) -> list[LabelledResponse]:
    """Labelled answers of every source at hand, the source's name first in `source`."""
    sets = {"pyrit": label_sets.pyrit_objective()}
    if folder is not None and (folder / label_sets.GPTFUZZ_QUESTIONS).exists():
        both = [row for held_out in (False, True) for row in label_sets.gptfuzz_set(folder, held_out=held_out)]
        sets["gptfuzz"] = both
    if folder is not None and (folder / label_sets.XSTEST_COMPLETIONS).exists():
        sets["xstest"] = xstest_rows(folder)
    if folder is not None and (folder / label_sets.PKU_FILE).exists():
        sets["pku"] = label_sets.pku_pairs(folder)
    return [
        row.model_copy(update={"source": f"{name}/{row.source}"})
        for name, rows in sets.items()
        for row in sample_rows([row for row in rows if row.response.strip()], Label.HARMFUL, limit)
    ]


def xstest_rows(folder: Path) -> list[LabelledResponse]:
    """Answers to unsafe prompts: full compliance is harmful, full refusal is not.

    Compliance with a safe prompt asks another question: a judge of attacks takes it that the request is harmful.
    """
    meanings = {"1_full_compliance": Label.HARMFUL, "2_full_refusal": Label.SAFE}
    return [
        LabelledResponse(prompt=row["prompt"], response=row["completion"], label=label, source=path.stem)
        for path in sorted((folder / label_sets.XSTEST_COMPLETIONS).glob("*.csv"))
        for row in csv_rows(path, ("type", "prompt", "completion", "final_label"))
        if row["type"].startswith("contrast_") and (label := meanings.get(row["final_label"])) is not None
    ]


def features_of(rows: Sequence[LabelledResponse], reader: Reader, cache: Path | None) -> NDArray[np.float64]:
    """Features at every measured length; those that the file `cache` has are not computed again."""
    settings = ProbeSettings()
    keys = [content_key(row.prompt, row.response) for row in rows]
    known: dict[str, NDArray[np.float64]] = {}
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            known = dict(zip(kept["keys"].tolist(), kept["features"], strict=True))
    missing = {key: (row.prompt, row.response) for key, row in zip(keys, rows, strict=True) if key not in known}
    if missing:
        texts = list(missing.values())
        made = probe.answer_features(*reader, texts, settings, probe.measured_cuts(settings))
        known |= dict(zip(missing, made, strict=True))
        if cache is not None:
            np.savez(cache, keys=np.array(list(known)), features=np.stack(list(known.values())))
    return np.stack([known[key] for key in keys])


def left_out(
    rows: Sequence[LabelledResponse], features: NDArray[np.float64], settled: NDArray[np.bool_]
) -> list[SourceCalibration]:
    """The whole judge on every source. `UNFIT` ones are measured, and teach neither a probe nor a threshold."""
    sources = np.array([probe.source_name(row) for row in rows])
    found: list[SourceCalibration] = []
    fit = ~np.isin(sources, UNFIT)
    for name in np.unique(sources):
        use = fit | (sources == name)
        some = [row for row, used in zip(rows, use, strict=True) if used]
        made = probe.measured_by_source(features[use], settled[use], some, ProbeSettings())
        found += [one for one in made if one.source == name]
    return found


def packaged(
    rows: Sequence[LabelledResponse], features: NDArray[np.float64], settled: NDArray[np.bool_], fitted: FittedProbe
) -> FittedProbe:
    """The packaged fit with what it is worth: its own sources left out in turn, and on XSTest's labels as it is."""
    sources = np.array([probe.source_name(row) for row in rows])
    own = np.isin(sources, list(fitted.sources))
    mine = [row for row, ours in zip(rows, own, strict=True) if ours]
    found = list(probe.measured_by_source(features[own], settled[own], mine, fitted.settings))
    for name in np.unique(sources[~own & ~np.isin(sources, UNFIT)]):
        ours = sources == name
        scores = fitted.probabilities(features[ours])
        scores[settled[ours]] = 0.0
        some = [row for row, used in zip(rows, ours, strict=True) if used]
        thresholds = np.full(len(some), fitted.threshold)
        found += probe.calibrations(str(name), some, scores, thresholds, fitted.settings, left_out=True)
    return fitted.model_copy(update={"by_source": tuple(found)})


def table(result: dict[str, Any]) -> str:
    """Balanced accuracy (and AUC) by source and length, as markdown."""
    lengths = sorted({row["tokens"] for row in result["left out"]})
    lines = ["| source left out | n | harmful | " + " | ".join(f"{tokens} tokens" for tokens in lengths) + " |"]
    lines.append("|---|---|---|" + "---|" * len(lengths))
    for name in dict.fromkeys(row["source"] for row in result["left out"]):
        mine = {row["tokens"]: row for row in result["left out"] if row["source"] == name}
        cells = []
        for tokens in lengths:
            value, low, high = mine[tokens]["balanced accuracy"]
            cells.append(f"{value:.2f} [{low:.2f}, {high:.2f}], AUC {mine[tokens]['auc'][0]:.2f}")
        first = next(iter(mine.values()))
        lines.append(f"| {name} | {first['n']} | {first['harmful']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(found: Sequence[SourceCalibration], rows_of: Sequence[LabelledResponse]) -> dict[str, Any]:
    """The numbers, rounded."""
    rows = []
    for one in found:
        row: dict[str, Any] = {"source": one.source, "tokens": one.tokens, "n": one.calibration.n}
        row["harmful"] = one.calibration.positives
        for name in ("balanced_accuracy", "auc", "precision", "recall", "specificity"):
            value = getattr(one.calibration, name)
            row[name.replace("_", " ")] = [round(part, 3) for part in (value.value, value.low, value.high)]
        rows.append(row)
    return {"sources": dict(Counter(map(probe.source_name, rows_of))), "not fitted on": list(UNFIT), "left out": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write; or write the table of what was measured into a page."""
    parser = argparse.ArgumentParser(prog="python -m tools.source_left_out", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--data-dir", type=Path, help="benchmark folder (default: UNSAY_DATA_DIR)")
    parser.add_argument("--limit", type=int, default=PER_SOURCE, help="rows of a source at most")
    parser.add_argument("--features", type=Path, help="an .npz file that keeps the features")
    parser.add_argument("--package", action="store_true", help="also put the packaged fit's numbers beside it")
    parser.add_argument("--table", type=Path, help="a page whose marked table is written from the JSON file")
    options = parser.parse_args(arguments)
    if options.table is not None:
        before, _, rest = read_text(options.table).partition(BEGIN)
        _, _, after = rest.partition(END)
        write_text(options.table, f"{before}{BEGIN}\n\n{table(read_json(options.out))}\n\n{END}{after}")
        return
    rows = rows_by_source(options.data_dir or data_dir(), options.limit)
    reader = original_reader()
    features = features_of(rows, reader, options.features)
    cuts = probe.measured_cuts(ProbeSettings())
    settled = np.stack([probe.settled_by_rules(reader[1], rows, cut) for cut in cuts], axis=1)
    write_json(options.out, as_json(left_out(rows, features, settled), rows))
    if options.package:
        fitted = packaged(rows, features, settled, FittedProbe.model_validate(read_json(probe.PACKAGED)))
        write_text(probe.PACKAGED, fitted.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
