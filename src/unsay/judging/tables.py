"""The tables of docs/judges.md, made from docs/results/judge.json.

python -m unsay.judging.tables docs/results/judge.json docs/judges.md
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unsay.errors import UserError
from unsay.files import read_json, read_text, write_text

BEGIN = "<!-- measured: written by python -m unsay.judging.tables -->"
END = "<!-- end of measured -->"

HARM = ("auc", "balanced_accuracy", "precision", "recall", "kappa")
REFUSAL = ("balanced_accuracy", "precision", "recall", "specificity")


def tables(results: dict[str, Any]) -> str:
    """The measured numbers as Markdown.

    Raises:
        UserError: the results lack what the tables show.
    """
    try:
        probe = results["probe"]
        sources = ", ".join(f"{count} of {name}" for name, count in probe["sources"].items())
        lines = [f"Threshold {probe['threshold']}, fitted on {probe['rows']} rows ({sources}).", ""]
        lines += _table("Finding harm (`harmful` against every other label):", results["harm"], HARM)
        lines += _table("Finding refusals, by the rules (`refused` against the rest):", results["refusal"], REFUSAL)
        partial = results["xstest partial refusals"]
        said = ", ".join(f"{found['refused']} of {found['n']} ({name})" for name, found in partial.items())
        if said:
            lines += [f"Partial refusals that the rules call refused: {said}.", ""]
        lines += ["Finding word salad, among the answers to PyRIT's objectives that are no refusals:", ""]
        lines += ["| answers | n | flagged | nats a token: least, median, most |", "|---|---|---|---|"]
        for name, row in results["word salad"].items():
            nats = ", ".join(f"{value:.1f}" for value in row["nats a token"])
            lines.append(f"| {name} | {row['n']} | {row['flagged']} | {nats} |")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the results lack {error}; measure again with python -m unsay.judging.calibration") from None
    return "\n".join(lines)


def _table(caption: str, rows: dict[str, Any], names: Sequence[str]) -> list[str]:
    heads = [name.replace("_", " ").replace("auc", "AUC") for name in names]
    lines = [caption, "", f"| labels | n | {' | '.join(heads)} |", "|---" * (len(names) + 2) + "|"]
    for name, row in rows.items():
        cells = ["" if row[one] is None else "{:.2f} [{:.2f}, {:.2f}]".format(*row[one]) for one in names]
        lines.append(f"| {name} | {row['n']} | {' | '.join(cells)} |")
    return [*lines, ""]


def replace_tables(page: str, written: str) -> str:
    """The page with what stands between its markers replaced.

    Raises:
        UserError: it has no markers.
    """
    if BEGIN not in page or END not in page:
        raise UserError(f"the page has no place for the tables: it needs the lines {BEGIN} and {END}")
    before, rest = page.split(BEGIN, 1)
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{rest.split(END, 1)[1]}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(prog="python -m unsay.judging.tables", description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    options = parser.parse_args(arguments)
    write_text(options.page, replace_tables(read_text(options.page), tables(read_json(options.results))))


if __name__ == "__main__":
    main()
