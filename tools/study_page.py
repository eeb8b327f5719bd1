"""The results of a study as files to commit, from the study's directory.

    python -m tools.study_page runs/study-paper --out docs/results/paper

writes `docs/results/paper.json`, the study's numbers; `docs/results/paper.md`, the same as a page, with its figure
`docs/results/paper.svg`; and `docs/results/paper.runs.jsonl`, every verdict without its text.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unsay.errors import UserError
from unsay.files import read_text, write_text
from unsay.reports import numbers
from unsay.scoring import SuiteRow
from unsay.studies import words
from unsay.studies.figure import figure, tradeoffs
from unsay.studies.schema import StudyResult, read_result, result_file, write_result
from unsay.studies.settings import ORIGINAL
from unsay.studies.tables import markdown_ranking, pipes
from unsay.studies.words import Frame, frame_of


def markdown(result: StudyResult, name: str) -> str:
    """The whole page."""
    parts = [f"# {result.title}", result.about, "\n".join(f"- {line}" for line in words.findings(result))]
    parts.append(_tradeoffs(result, name))
    frames = [frame_of(result, ranking) for ranking in result.rankings]
    for frame in frames:
        parts += [f"## {words.heading(result, frame.ranking)}", markdown_ranking(frame)]
    parts += [f"## Differences from {result.reference}", _differences_note(result)]
    for frame in frames:
        parts += [f"### {words.heading(result, frame.ranking)}", _differences(result, frame)]
    parts += ["## By suite", _suites_note(result), _suites(result), "## What training took", _cost(result)]
    if result.categories:
        parts += [
            "## Coverage",
            "Attack success by harm category; **bold** where the arm learned from it.",
            _coverage(result),
        ]
    if result.published:
        parts += ["## Beside published numbers", _published(result)]
    cautions = [f"- {line}" for line in words.cautions(result)]
    if cautions:
        parts += ["## Before you believe a number", "\n".join(cautions)]
    parts += ["## How", _how(result, name)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tradeoffs(result: StudyResult, name: str) -> str:
    plots = tradeoffs(result)
    if not plots:
        return ""
    beyond = dict.fromkeys(line for plot in plots for line in plot.beyond)
    return "\n\n".join(
        [
            "## What safety costs",
            f"![{'. '.join(plot.title for plot in plots)}. The numbers are in the tables below.]({name}.svg)",
            "Bars are 95% intervals; left is safer. The dashed line joins arms that no other beats on both axes, by "
            "the points alone. Hollow points babble, more than the original model.",
            "\n".join(f"- {line}" for line in beyond),
        ]
    ).strip()


def _differences_note(result: StudyResult) -> str:
    return (
        f"Arm minus {result.reference}, on the same requests and seeds; rates in points. In brackets: 95% intervals "
        f"(over {words.drawn_from(result)}). p: signs of whole requests flipped, corrected after Holm for all pairs of "
        "arms."
    )


def _differences(result: StudyResult, frame: Frame) -> str:
    lines = []
    for arm, pairs in frame.compared():
        cells = []
        for name in result.measures:
            if (pair := pairs.get(name)) is None:
                cells.append("")
                continue
            verdict = words.verdict(pair, arm.name)
            difference, p = words.difference_words(result, pair, arm.name), numbers.p_value(pair.p_holm)
            cells.append(f"{difference}, p {p}, {'tie' if verdict == 'tie' else f'**{verdict}**'}")
        lines.append([arm.title, *cells])
    return pipes(["arm", *result.measures.values()], lines)


def _suites_note(result: StudyResult) -> str:
    return (
        "Attack success on attacks, refusals on harmless suites. In brackets: 95% intervals "
        f"(over {words.drawn_from(result)}; no shorter than Wilson's where few requests decide)."
    )


def _suites(result: StudyResult) -> str:
    """The rate of every suite, controls included."""
    titles = dict.fromkeys(row.title for arm in result.arms for row in arm.suites)
    lines = []
    for arm in result.arms:
        rates = {row.title: row for row in arm.suites}
        cells = [_rate(rates[title]) if title in rates else "" for title in titles]
        if any(cells):
            lines.append([words.label(result, arm), *cells])
    return pipes(["arm", *titles], lines)


def _rate(row: SuiteRow) -> str:
    return f"{numbers.percent(row.rate)} ({numbers.span(row.interval)})" if row.interval else numbers.percent(row.rate)


def _cost(result: StudyResult) -> str:
    head = ["arm", "steps", "text tokens", "image tokens", "operations", "time", "peak memory"]
    lines = []
    for arm in result.arms:
        if (cost := arm.cost) is None:
            continue
        lines.append(
            [
                words.label(result, arm),
                f"{cost.steps:.0f}",
                numbers.count(cost.tokens),
                numbers.count(cost.image_tokens),
                f"{numbers.flops(cost.flops)}{_times(cost.ratios, 'flops')}",
                f"{numbers.seconds(cost.seconds)}{_times(cost.ratios, 'seconds')}",
                f"{numbers.memory(cost.peak_memory_bytes)}{_times(cost.ratios, 'memory')}",
            ]
        )
    return pipes(head, lines)


def _times(ratios: dict[str, float], name: str) -> str:
    return f" (× {ratios[name]:.2f})" if name in ratios else ""


def _published(result: StudyResult) -> str:
    head = ("arm", "measure", "published for", "published", "here", "source")
    lines = [
        (
            result.find(row.arm).title,
            row.title,
            row.about,
            row.published,
            words.value(result, row.measure, row.measured),
            row.source,
        )
        for row in result.published
    ]
    return pipes(head, lines)


def _coverage(result: StudyResult) -> str:
    arms = [arm for arm in result.arms if any(row.arm == arm.name for row in result.categories)]
    rows = {(row.arm, row.category): row for row in result.categories}
    lines = []
    for category in dict.fromkeys(row.category for row in result.categories):
        line = [category]
        for arm in arms:
            row = rows.get((arm.name, category))
            text = "" if row is None else f"{numbers.percent(row.asr.value, 0)} ({numbers.span(row.asr.interval, 0)})"
            line.append(f"**{text}**" if row is not None and row.covered else text)
        lines.append(line)
    return pipes(["category", *(words.label(result, arm) for arm in arms)], lines)


def _how(result: StudyResult, name: str) -> str:
    original = next(arm for arm in result.arms if arm.arm == ORIGINAL)
    answers = sum(row.n for row in original.suites)
    lines = [
        f"- In brackets: 95% intervals. Seeds {', '.join(map(str, result.seeds))}; {answers} judged answers a run."
    ]
    lines.append(f"- Judge `{result.judge.name}`: {words.judged(result)}.")
    if result.command:
        lines.append(
            f"- Made with `{result.command}`, then `python -m tools.study_page DIR --out docs/results/{name}`."
        )
    cores = result.environment.get("cores")
    lines.append(f"- unsay {result.environment.get('unsay')}{f', {cores} cores' if cores else ''}.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and print where; returns the exit code (2 for a study that cannot be read)."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.study_page", description="The results of a study as files to commit."
    )
    parser.add_argument("study", type=Path, help="a study's directory, or its study.json")
    parser.add_argument("--out", required=True, type=Path, help="path of the files, without an ending")
    options = parser.parse_args(arguments)
    name = options.out.name
    try:
        source = result_file(options.study)
        result = read_result(source)
        write_result(options.out.with_name(f"{name}.json"), result)
        if (runs := source.with_name("runs.jsonl")).exists():
            write_text(options.out.with_name(f"{name}.runs.jsonl"), read_text(runs))
        if (picture := figure(result)) is not None:
            write_text(options.out.with_name(f"{name}.svg"), picture)
        write_text(options.out.with_name(f"{name}.md"), markdown(result, name))
    except UserError as error:
        print(f"unsay: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}.json, {options.out}.md: {len(result.arms)} arms, seeds {', '.join(map(str, result.seeds))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
