"""The results of several runs of one experiment, pooled over their seeds; and the table of them in a page."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from pydantic import Field, JsonValue

from unsay.errors import UserError
from unsay.records import Kind, Phase
from unsay.report import numbers
from unsay.scoring import Caution, JudgeInfo, SuiteRow, TargetResult, TransferRow, UtilityRow
from unsay.scoring.schema import AcceleratorPeak, Row
from unsay.statistics import Interval

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


class SeedCounts(Row):
    """Verdict counts of one suite in one phase under one seed."""

    seed: int
    refused: int
    safe: int
    harmful: int
    degenerate: int
    failed: int


class PooledSuite(Row):
    """A suite in one phase: all seeds together, and each alone."""

    pooled: SuiteRow
    """`n` counts answers of all seeds, `unique` distinct requests; the intervals redraw requests and seeds."""
    seeds: tuple[SeedCounts, ...]


class PooledUtility(Row):
    """A utility measure in one phase: the mean of all seeds together, and of each alone, in the order of the seeds."""

    pooled: UtilityRow
    seeds: tuple[float | None, ...]


class PooledTarget(Row):
    """A limit, measured on the pooled numbers, and whether each seed alone keeps it, in the order of the seeds."""

    pooled: TargetResult
    seeds: tuple[bool | None, ...]


class SeedCost(AcceleratorPeak):
    """What one run took, training and evaluation together."""

    seed: int
    seconds: float
    """Of all stages; those that were reused count with the time that they took when they were made."""
    training_seconds: float
    training_tokens: int
    peak_memory_bytes: int


class SeedTransfer(Row):
    """Transfer to every image twin under one seed."""

    seed: int
    rows: tuple[TransferRow, ...]


class Results(Row):
    """A small file that can be kept with the code: every pooled number and the counts behind it."""

    schema_version: Literal[1] = 1
    command: str
    model: str
    method: str
    seeds: tuple[int, ...] = Field(min_length=1)
    environment: dict[str, JsonValue]
    """Versions and hardware of the first run; the libraries of the others are the same."""
    commits: tuple[str | None, ...]
    """Of the code, in the order of the seeds; `+` where it was edited."""
    judge: JudgeInfo
    rows: tuple[PooledSuite, ...]
    utility: tuple[PooledUtility, ...]
    targets: tuple[PooledTarget, ...]
    transfer: tuple[SeedTransfer, ...]
    cost: tuple[SeedCost, ...]
    warnings: tuple[Caution, ...]


def replace_results(page: str, table: str, where: str) -> str:
    """The page with the table between its two markers, in place of what stood there.

    Args:
        page: Markdown.
        table: what `markdown` gives.
        where: names the page in the error.

    Raises:
        UserError: the markers are not there exactly once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise UserError(f"{where}: needs the lines {BEGIN} and {END} once each, in this order, around the results")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def markdown(results: Results) -> str:
    """The results as Markdown tables, with every target and whether it was met, and what the numbers rest on."""
    blocks = [
        _attacks([row.pooled for row in results.rows if row.pooled.kind is Kind.ATTACK], results),
        _benign([row.pooled for row in results.rows if row.pooled.kind is Kind.BENIGN], results),
        _utility([row.pooled for row in results.utility], results),
        _notes(results),
    ]
    return "\n\n".join(block for block in blocks if block)


def _attacks(rows: Sequence[SuiteRow], results: Results) -> str:
    def cells(phases: dict[Phase, SuiteRow]) -> list[str]:
        rates = [_cell(phases.get(phase), lambda row: (row.rate, row.interval)) for phase in Phase]
        return rates + [
            _cell(phases.get(phase), lambda row: (row.coherent_safety, row.coherent_interval)) for phase in Phase
        ]

    head = ["Attack", "prompts", "ASR before", "ASR after", "coherent safety before", "after", "target", "met"]
    return _table(head, _lines(rows, ("asr",), results, cells))


def _benign(rows: Sequence[SuiteRow], results: Results) -> str:
    def cells(phases: dict[Phase, SuiteRow]) -> list[str]:
        return [_cell(phases.get(phase), lambda row: (row.rate, row.interval)) for phase in Phase]

    head = ["Harmless requests", "prompts", "refused before", "refused after", "target", "met"]
    return _table(head, _lines(rows, ("over_refusal", "over_refusal_rise"), results, cells))


def _utility(rows: Sequence[UtilityRow], results: Results) -> str:
    found: dict[str, dict[Phase, UtilityRow]] = {}
    for row in rows:
        found.setdefault(row.suite, {})[row.phase] = row
    lines = []
    for suite, phases in found.items():
        first = next(iter(phases.values()))
        unit = "" if first.unit == "rate" else f", {first.unit}"
        title = f"{first.title} ({'higher' if first.higher_is_better else 'lower'} is better{unit})"
        measured = [_measured(phases.get(phase)) for phase in Phase]
        lines.append([title, _prompts(first.n, results), *measured, *_judged(suite, ("utility_loss",), results)])
    return _table(["Utility", "items", "before", "after", "target", "met"], lines)


def _lines(
    rows: Sequence[SuiteRow],
    measures: tuple[str, ...],
    results: Results,
    cells: Callable[[dict[Phase, SuiteRow]], list[str]],
) -> list[list[str]]:
    found: dict[tuple[str, str, str], dict[Phase, SuiteRow]] = {}
    for row in rows:
        found.setdefault((row.suite, row.modality, row.condition), {})[row.phase] = row
    lines = []
    for (suite, _, _), phases in found.items():
        first = next(iter(phases.values()))
        lines.append(
            [first.title, _prompts(first.n, results), *cells(phases), *_judged(suite, measures, results)],
        )
    return lines


def _prompts(n: int, results: Results) -> str:
    """Per seed: every seed asks the same."""
    return str(n // len(results.seeds))


def _cell(row: SuiteRow | None, rate: Callable[[SuiteRow], tuple[float | None, Interval | None]]) -> str:
    if row is None:
        return ""
    value, interval = rate(row)
    return f"{numbers.percent(value)} ({numbers.span(interval)})" if interval else numbers.percent(value)


def _measured(row: UtilityRow | None) -> str:
    if row is None:
        return ""
    value, interval = numbers.measure(row, row.value), numbers.measure_span(row)
    return f"{value} ({interval})" if interval else value


def _judged(suite: str, measures: tuple[str, ...], results: Results) -> list[str]:
    """The suite's limits, and whether they were met."""
    limits = [
        target.pooled
        for target in results.targets
        if target.pooled.target.suite == suite and target.pooled.target.measure in measures
    ]
    said = [
        f"{'≤' if limit.target.direction == 'at most' else '≥'} {_limit(limit)}"
        + (" before" if limit.target.phase is Phase.BEFORE else "")
        for limit in limits
    ]
    return ["; ".join(said), "; ".join(_met(limit) for limit in limits)]


def _limit(result: TargetResult) -> str:
    """`8%` for a rate, `2 points above before` for a change."""
    target = result.target
    if target.measure == "over_refusal_rise":
        return f"{target.limit * 100:g} points above before"
    if target.measure == "utility_loss":
        return f"{target.limit * 100:g} points worse than before"
    return f"{target.limit * 100:g}%"


def _met(result: TargetResult) -> str:
    return {True: "yes", False: "**no**", None: "undecided" if result.undecided else "not measured"}[result.met]


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table; empty if there are no lines."""
    rows = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    if not rows:
        return ""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows])


def _notes(results: Results) -> str:
    seeds = ", ".join(map(str, results.seeds))
    several = len(results.seeds) > 1
    notes = [f"In brackets: 95% intervals ({_how(results)}). {'Seeds' if several else 'Seed'} {seeds}."]
    notes += _degenerate(results)
    notes += _transfer(results)
    if (measured := results.judge.headline()) is not None:
        name, value = measured
        span = numbers.span(Interval(low=value.low, high=value.high))
        notes.append(
            f"Judge `{results.judge.name}`: {name.replace('_', ' ')} {numbers.percent(value.value)} ({span}) against "
            f"{value.n} human labels ({value.dataset})."
        )
    else:
        notes.append(f"Judge `{results.judge.name}`: never compared with human labels.")
    notes += [f"**{caution.text}**" for caution in results.warnings]
    times = [cost.seconds for cost in results.cost]
    memory = numbers.memory(max(cost.peak_memory_bytes for cost in results.cost))
    if accelerator := max(cost.peak_accelerator_bytes for cost in results.cost):
        memory += f" on the host, {numbers.memory(accelerator)} on the accelerator"
    spent = numbers.seconds(max(times)) if not several else f"at most {numbers.seconds(max(times))} a seed"
    cores = results.environment.get("cores")
    notes.append(f"Cost: {spent}{f' on {cores} cores' if cores else ''}, peak memory {memory}.")
    notes.append(f"Made with `{results.command}`, {', '.join(_versions(results.environment))}.")
    return "\n".join(f"- {note}" for note in notes)


def _how(results: Results) -> str:
    """How the intervals were made."""
    if len(results.seeds) > 1:
        return "bootstrap over requests and seeds"
    methods = {row.pooled.interval_method for row in results.rows}
    rates = "Wilson for rates" if methods <= {"wilson"} else "Wilson for rates, over requests where these repeat"
    return f"{rates}, bootstrap for other means"


def _versions(environment: dict[str, JsonValue]) -> list[str]:
    found = [f"unsay {environment.get('unsay', 'of unknown version')}"]
    libraries = environment.get("libraries")
    if isinstance(libraries, dict):
        found += [f"{name} {libraries[name]}" for name in ("torch", "transformers", "peft") if name in libraries]
    return found


def _degenerate(results: Results) -> list[str]:
    limits = [target.pooled for target in results.targets if target.pooled.target.measure == "degenerate"]
    known = [(limit.value, limit) for limit in limits if limit.value is not None]
    if not known:
        return []
    value, worst = max(known, key=lambda pair: pair[0])
    missed, unknown = (sum(limit.met is state for limit in limits) for state in (False, None))
    met = f"missed on {missed} of {len(limits)} suites" if missed else "met on every suite"
    if unknown:
        met = f"{met if missed else 'missed on none'}, not known of {unknown}"
    limit = f"{worst.target.limit * 100:g}%"
    return [
        f"Degenerate answers after, worst suite ({worst.title}): {numbers.percent(value)}; target ≤ {limit}, {met}."
    ]


def _transfer(results: Results) -> list[str]:
    """One line for each image twin; a seed without a clear drop on text has no transfer."""
    found: dict[tuple[str, str], list[str]] = {}
    for seed in results.transfer:
        for row in seed.rows:
            value = numbers.DASH if row.transfer is None else f"{row.transfer:.2f}"
            found.setdefault((row.text_title, row.image_title), []).append(value)
    return [
        f"Transfer, {text} → {image}: {', '.join(values)}{' (by seed)' if len(values) > 1 else ''}."
        for (text, image), values in found.items()
    ]
