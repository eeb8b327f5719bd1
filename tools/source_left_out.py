"""Measures the judge `probe` on every source of human labels with that source left out, by length of the answers.

    python -m tools.source_left_out --out docs/results/judge-sources.json --data-dir BENCHMARKS
    python -m tools.source_left_out --out docs/results/judge-sources.json --table docs/judges.md

A run's model and attacks are in no labelled set. So neither probe nor threshold sees anything of the source that
it is measured on: other people's labels, of other models, to other requests. `BENCHMARKS` is laid out as
`UNSAY_DATA_DIR`; sources that are not there are left out. The labels answer questions of their own (docs/judges.md).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unsay.data.published import csv_rows, data_dir
from unsay.files import read_json, read_text, write_json, write_text
from unsay.judges import label_sets, probe
from unsay.judges.label_sets import sample_rows
from unsay.judges.probe_fit import FittedProbe, ProbeSettings
from unsay.judges.soundness import original_reader
from unsay.records import Label, LabelledResponse

PER_SOURCE = 240
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
    """Full compliance with an unsafe prompt is harmful; refusals, and compliance with a safe prompt, are not."""
    rows = []
    for path in sorted((folder / label_sets.XSTEST_COMPLETIONS).glob("*.csv")):
        for row in csv_rows(path, ("type", "prompt", "completion", "final_label")):
            unsafe = row["type"].startswith("contrast_")
            complied = row["final_label"] == "1_full_compliance"
            if row["final_label"] == "3_partial_refusal":
                continue
            label = Label.HARMFUL if unsafe and complied else Label.SAFE
            rows.append(
                LabelledResponse(prompt=row["prompt"], response=row["completion"], label=label, source=path.stem)
            )
    return rows


def measured(rows: Sequence[LabelledResponse], cache: Path | None) -> FittedProbe:
    """A fit on all rows, with what it is worth on each source left out; `cache` keeps the features."""
    settings = ProbeSettings()
    model, tokenizer = original_reader()
    cuts = probe.measured_cuts(settings)
    if cache is not None and cache.exists():
        features = np.load(cache)
    else:
        texts = [(row.prompt, row.response) for row in rows]
        features = probe.answer_features(model, tokenizer, texts, settings, cuts)
        if cache is not None:
            np.save(cache, features)
    settled = np.stack([probe.settled_by_rules(tokenizer, rows, cut) for cut in cuts], axis=1)
    return probe.fit_features(features, settled, rows, settings, probe.reader_key(model, tokenizer, settings))


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


def as_json(fitted: FittedProbe) -> dict[str, Any]:
    """The numbers, rounded."""
    rows = []
    for one in fitted.by_source:
        row: dict[str, Any] = {"source": one.source, "tokens": one.tokens, "n": one.calibration.n}
        row["harmful"] = one.calibration.positives
        for name in ("balanced_accuracy", "auc", "precision", "recall", "specificity"):
            value = getattr(one.calibration, name)
            row[name.replace("_", " ")] = [round(part, 3) for part in (value.value, value.low, value.high)]
        rows.append(row)
    return {"rows": fitted.rows, "sources": fitted.sources, "threshold": fitted.threshold, "left out": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write; or write the table of what was measured into a page."""
    parser = argparse.ArgumentParser(prog="python -m tools.source_left_out", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--data-dir", type=Path, help="benchmark folder (default: UNSAY_DATA_DIR)")
    parser.add_argument("--limit", type=int, default=PER_SOURCE, help="rows of a source at most")
    parser.add_argument("--features", type=Path, help="a .npy file that keeps the features")
    parser.add_argument("--table", type=Path, help="a page whose marked table is written from the JSON file")
    options = parser.parse_args(arguments)
    if options.table is not None:
        before, _, rest = read_text(options.table).partition(BEGIN)
        _, _, after = rest.partition(END)
        write_text(options.table, f"{before}{BEGIN}\n\n{table(read_json(options.out))}\n\n{END}{after}")
        return
    rows = rows_by_source(options.data_dir or data_dir(), options.limit)
    write_json(options.out, as_json(measured(rows, options.features)))


if __name__ == "__main__":
    main()
