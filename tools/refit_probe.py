"""Fits the probe of the judge `probe` anew and writes it into the package.

    python -m tools.refit_probe --data-dir BENCHMARKS --gptfuzz-questions question_list.csv

It is fitted on PyRIT's objective labels and on half of GPTFuzz's questions. Nothing is ever fitted on the other half:
`python -m tools.judge_evidence` measures on it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tools.judge_evidence import gptfuzz_fit_rows
from unsay.files import write_text
from unsay.judges.label_sets import pyrit_objective
from unsay.judges.probe import PACKAGED, fit
from unsay.judges.soundness import original_reader


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and write; takes minutes."""
    parser = argparse.ArgumentParser(prog="python -m tools.refit_probe", description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="benchmark folder with gptfuzz_labeled/train.csv")
    parser.add_argument("--gptfuzz-questions", type=Path, required=True, help="datasets/questions/question_list.csv")
    parser.add_argument("--out", type=Path, default=PACKAGED, help="where to write (default: into the package)")
    options = parser.parse_args(arguments)
    rows = [*pyrit_objective(), *gptfuzz_fit_rows(options.data_dir, options.gptfuzz_questions)]
    fitted = fit(*original_reader(), rows)
    write_text(options.out, fitted.model_dump_json() + "\n")
    print(f"{options.out}: fitted on {fitted.rows} rows, threshold {fitted.threshold}")


if __name__ == "__main__":
    main()
