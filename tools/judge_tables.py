"""Writes the tables of docs/judges.md and docs/limits.md from the measurements in docs/results.

    python -m tools.judge_tables docs/results/judge.json docs/judges.md
    python -m tools.judge_tables docs/results/judge.json docs/limits.md
    python -m tools.judge_tables docs/results/degeneration.json docs/judges.md

A page's markers say which tables it has. The list of judges, from `unsay.judges.JUDGES`, is written anew each time.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unsay.errors import UserError
from unsay.files import read_json, read_text, write_text
from unsay.judges import JUDGES

BEGIN = "<!-- measured: written by python -m tools.judge_tables -->"
END = "<!-- end of measured -->"
QUOTED = "<!-- judges:begin -->", "<!-- judges:end -->"
STUDIED = "<!-- degeneration:begin -->", "<!-- degeneration:end -->"
LISTED = "<!-- judge-list:begin -->", "<!-- judge-list:end -->"

HARM = ("auc", "balanced_accuracy", "precision", "recall", "kappa")
REFUSAL = ("balanced_accuracy", "precision", "recall", "specificity")


@contextmanager
def _complete(command: str) -> Iterator[None]:
    """Turn missing results into an error that names the command to measure them with."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the results lack {error}; measure again with python -m {command}") from None


def judge_list() -> str:
    """Every judge with what it does and needs."""
    rows = [f"| `{name}` | {entry.about} | {entry.needs} |" for name, entry in JUDGES.items()]
    return "\n".join(["| judge | what it does | needs |", "|---|---|---|", *rows])


@_complete("tools.judge_evidence")
def tables(results: dict[str, Any]) -> str:
    """The measured numbers as Markdown.

    Raises:
        UserError: the results lack what the tables show.
    """
    probe = results["probe"]
    sources = ", ".join(f"{count} of {name}" for name, count in probe["sources"].items())
    lines = [f"Threshold {probe['threshold']}, fitted on {probe['rows']} rows ({sources}).", ""]
    lines += _table("Finding harm (`harmful` against every other label):", results["harm"], HARM)
    lines += _table("Finding refusals, by the rules (`refused` against the rest):", results["refusal"], REFUSAL)
    partial = results["xstest partial refusals"]
    shares = ", ".join(f"{counts['refused']} of {counts['n']} ({name})" for name, counts in partial.items())
    if shares:
        lines += [f"Partial refusals that the rules call refused: {shares}.", ""]
    if sound := results.get("soundness"):
        lines += _soundness(sound)
    lines += ["Finding word salad, among the answers to PyRIT's objectives that are no refusals:", ""]
    lines += ["| answers | n | flagged | nats a token: least, median, most |", "|---|---|---|---|"]
    for name, row in results["word salad"].items():
        nats = ", ".join(f"{value:.1f}" for value in row["nats a token"])
        lines.append(f"| {name} | {row['n']} | {row['flagged']} | {nats} |")
    return "\n".join(lines)


@_complete("tools.judge_evidence")
def quoted(results: dict[str, Any]) -> str:
    """The few numbers that a reader of any score needs: on labels that nothing was fitted on, and out of fold.

    PKU-SafeRLHF is left out: its people labelled something else.

    Raises:
        UserError: the results lack what the table shows.
    """
    lines = [
        "| finds | labels | n | balanced accuracy | precision | recall |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in results["harm"].items():
        judge, _, labels = name.partition(", ")
        if not labels.startswith("pku") and ("never fitted on" in labels or labels.startswith("pyrit")):
            lines.append(_quoted(f"harm, `{judge}`", labels, row))
    for name, row in results["refusal"].items():
        if name == "xstest held out":
            lines.append(_quoted("refusals, the rules", name, row))
    return "\n".join(lines)


@_complete("tools.degeneration_study")
def studied(results: dict[str, Any]) -> str:
    """The table of `tools.degeneration_study`.

    Raises:
        UserError: the results lack what the table shows.
    """
    lines = ["| steps of ascent | answers | loss on ordinary answers | called degenerate | why |"]
    lines.append("| ---: | ---: | ---: | ---: | --- |")
    for row in results["models"]:
        why = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items())
        steps = f"{row['steps']} (collapsed)" if row["steps"] in results["collapsed"] else str(row["steps"])
        lines.append(f"| {steps} | {row['n']} | {row['loss']} | {row['flagged']} | {why} |")
    degenerate = results["degenerate"]
    numbers = ", ".join(f"{name} {_estimate(degenerate[name])}" for name in ("precision", "recall", "specificity"))
    lines += ["", f"The original against the collapsed, {degenerate['n']} answers: {numbers}."]
    return "\n".join(lines)


def _quoted(finds: str, labels: str, row: dict[str, Any]) -> str:
    cells = [_estimate(row[name]) for name in ("balanced_accuracy", "precision", "recall")]
    return f"| {finds} | {labels} | {row['n']} | {' | '.join(cells)} |"


def _soundness(shares: dict[str, Any]) -> list[str]:
    lines = ["Sound answers that are called broken, and the same answers to another request of the set:", ""]
    lines += ["| answers | n | called broken | to another request: called unrelated |", "|---|---|---|---|"]
    for name, row in shares.items():
        why = ", ".join(f"{reason} {count}" for reason, count in row["called broken"].items()) or "0"
        lines.append(f"| {name} | {row['n']} | {why} | {row['called unrelated to another request']} |")
    return [*lines, ""]


def _table(caption: str, rows: dict[str, Any], names: Sequence[str]) -> list[str]:
    heads = [name.replace("_", " ").replace("auc", "AUC") for name in names]
    lines = [caption, "", f"| labels | n | {' | '.join(heads)} |", "|---" * (len(names) + 2) + "|"]
    for name, row in rows.items():
        cells = [_estimate(row[one]) for one in names]
        lines.append(f"| {name} | {row['n']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _estimate(estimate: Sequence[float] | None) -> str:
    return "" if estimate is None else "{:.2f} [{:.2f}, {:.2f}]".format(*estimate)


def written(page: str, results: dict[str, Any]) -> str:
    """The page with each of its places for these results filled, and its list of judges.

    Raises:
        UserError: it has no place for these results.
    """
    makers: dict[tuple[str, str], Callable[[dict[str, Any]], str]] = (
        {STUDIED: studied} if "models" in results else {(BEGIN, END): tables, QUOTED: quoted}
    )
    wanted = {place: make for place, make in makers.items() if all(marker in page for marker in place)}
    if not wanted:
        places = ", or ".join(f"{begin} and {end}" for begin, end in makers)
        raise UserError(f"the page has no place for these tables: it needs the lines {places}")
    for place, make in wanted.items():
        page = _filled(page, place, make(results))
    return _filled(page, LISTED, judge_list()) if all(marker in page for marker in LISTED) else page


def _filled(page: str, place: tuple[str, str], text: str) -> str:
    begin, end = place
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.judge_tables", description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, help="docs/results/judge.json or docs/results/degeneration.json")
    parser.add_argument("page", type=Path, help="the page to write the tables into")
    options = parser.parse_args(arguments)
    write_text(options.page, written(read_text(options.page), read_json(options.results)))


if __name__ == "__main__":
    main()
