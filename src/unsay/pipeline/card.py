"""The model card of an export: what was done, on what, what came of it, and what nobody knows."""

from typing import Any

from unsay.config import RunConfig
from unsay.data.modality import shares
from unsay.methods import METHODS, build_method
from unsay.methods.base import Companion
from unsay.pipeline.finished import shown_model
from unsay.pipeline.precision import in_words
from unsay.pipeline.targets import DEMO
from unsay.records import Kind, Modality, Phase, Role
from unsay.reporting.numbers import measure, measure_span, percent, span
from unsay.scoring.schema import Scores, SuiteRow
from unsay.scoring.warn import MAX_DEGENERATE

BASE_LICENCES = {"pocket": "apache-2.0"}
"""Licence of the base models that this package brings along; every other has its own."""

LIMITS = """\
- Unlearning makes answers unlikely; it does not remove what the weights know. Fine-tuning on a few examples, or an
  attack that is in none of the suites above, can bring them back.
- The scores hold for these suites, this judge and this way of asking. A judge errs; its agreement with people is above.
- Over-refusal is part of the price: see the rows of harmless requests.
- A score is a measurement of one run with one seed, and its interval is about the prompts, not about other seeds."""


def model_card(
    config: RunConfig,
    scores: Scores | None,
    environment: dict[str, Any],
    result: dict[str, Any],
    merged: bool,
    dtype: str | None,
    pictured: bool = False,
) -> str:
    """README.md of an export, in Markdown with a metadata header.

    Args:
        config: the run's settings.
        scores: its scores; without them the card says that nothing was measured.
        environment: content of `environment.json`.
        result: content of `train/result.json`.
        merged: a whole checkpoint, not an adapter.
        dtype: precision of a merged checkpoint.
        pictured: pictures were trained on too.
    """
    parts = [
        _header(config, merged),
        f"# {shown_model(config.model)}, after {config.method}",
        _what(config, merged, dtype),
        "## Method\n\n" + _method(config, result, pictured),
        "## Data\n\n" + _data(config) + _modality(config),
        "## Scores\n\n" + _scores(config, scores, dtype if merged else None),
        "## Limits\n\n" + LIMITS,
        "## Licence\n\n" + _licence(config),
        _made_with(environment),
    ]
    return "\n\n".join(parts) + "\n"


def _header(config: RunConfig, merged: bool) -> str:
    lines = ["---", f"base_model: {shown_model(config.model)}", f"library_name: {'transformers' if merged else 'peft'}"]
    lines.append("pipeline_tag: image-text-to-text")
    if config.model in BASE_LICENCES:
        lines.append(f"license: {BASE_LICENCES[config.model]}")
    return "\n".join([*lines, "tags:", "- unlearning", "- safety", "- unsay", "---"])


def _what(config: RunConfig, merged: bool, dtype: str | None) -> str:
    if merged:
        return (
            f"A whole checkpoint in {dtype}: `{shown_model(config.model)}` with the adapter added into its weights. It "
            "opens with transformers and needs neither peft nor unsay."
        )
    return f"A LoRA adapter in PEFT format for `{shown_model(config.model)}`."


def _method(config: RunConfig, result: dict[str, Any], pictured: bool) -> str:
    lora, settings = config.train.lora, ", ".join(f"{name} {value}" for name, value in config.method_settings.items())
    done = f"{result.get('steps', config.train.steps)} of {config.train.steps} steps"
    stopped = result.get("stopped", "finished")
    ended = "" if stopped == "finished" else f" It ended early: {stopped}."
    seen = "on pictures too; yet" if pictured else "on text alone:"
    return (
        f"`{config.method}` ({METHODS[config.method].paper}), {seen} the vision tower and the projector are as they "
        f"were. LoRA of rank {lora.rank} (alpha {lora.alpha:g}) on {lora.modules} linears of {lora.layers} layers "
        f"of the language model; {done}, learning rate {config.train.learning_rate:g}, seed {config.seed}.{ended}\n\n"
        f"Settings: {settings}."
    )


def _data(config: RunConfig) -> str:
    if config.data.examples is not None:
        return (
            f"The user's own examples (`{config.data.examples.name}`), checked against every suite below for overlap."
        )
    return f"{_recipe(config)} No prompt of a suite below, nor a near duplicate of one, was trained on."


def _recipe(config: RunConfig) -> str:
    """What of the built-in data the method reads; a run collects more, but nothing is learned from it."""
    needs = build_method(config.method, config.method_settings).needs
    answered = ["by the model itself"] if Role.FORGET in needs.roles else []
    if Role.REFUSE in needs.roles or Companion.REFUSAL in needs.companions:
        answered.append("by refusals written for unsay")
    said = f"Harmful requests from AdvBench's train half, answered {' and '.join(answered)}."
    if Role.RETAIN in needs.roles or needs.companions.keys() & {Companion.MISMATCH, Companion.DECOUPLE}:
        said += " Ordinary prompts written for unsay, and those of Magpie and TruthfulQA."
    return said


def _modality(config: RunConfig) -> str:
    """How requests reached the model, where that is not in words alone."""
    harmful = shares(config.data.modality)
    retain = harmful if config.data.retain_modality is None else shares(config.data.retain_modality)
    if set(harmful) | set(retain) == {Modality.TEXT}:
        return ""
    said, kept = (", ".join(f"{name} {percent(share)}" for name, share in mix.items()) for mix in (harmful, retain))
    return f" Harmful requests were given as: {said}. Ordinary prompts: {kept}."


def _scores(config: RunConfig, scores: Scores | None, dtype: str | None) -> str:
    """Tables, judge and cautions; `dtype` is a merged checkpoint's."""
    if scores is None:
        return "**This run has no scores: nothing was measured.**"
    lines = [
        _asked(in_words(config), dtype),
        "",
        "With 95% intervals. ASR: harmful of all judged answers. Coherent safety: refused or safely answered.",
        "",
        "| Suite | prompts | measure | before | after | coherent safety before | after |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    pieces: dict[tuple[object, ...], dict[Phase, SuiteRow]] = {}
    for row in scores.rows:  # a suite of several kinds, modalities or conditions has a row for each
        pieces.setdefault((row.suite, row.kind, row.modality, row.condition), {})[row.phase] = row
    for phases in pieces.values():
        title, kind = next((row.title, row.kind) for row in phases.values())
        cells = [phases.get(phase) for phase in (Phase.BEFORE, Phase.AFTER)]
        rates = [_cell(percent(row.rate), span(row.interval)) if row else "–" for row in cells]
        safety = [
            _cell(percent(row.coherent_safety), span(row.coherent_interval)) if row and kind is Kind.ATTACK else ""
            for row in cells
        ]
        count = next(row.n for row in cells if row)
        name = "ASR" if kind is Kind.ATTACK else "refused"
        lines.append("| " + " | ".join([title, str(count), name, *rates, *safety]) + " |")
    lines += _utility(scores)
    found = scores.judge.headline()
    judge = f"Judge `{scores.judge.name}`: "
    if found is None:
        judge += "**never compared with people.**"
    else:
        name, accuracy = found
        low, high = percent(accuracy.low), percent(accuracy.high)
        judge += (
            f"{name.replace('_', ' ')} {percent(accuracy.value)} ({low}–{high}) against {accuracy.n} human labels "
            f"({accuracy.dataset})."
        )
    lines += ["", judge]
    lines += _missed(config, scores)
    return "\n".join([*lines, *(f"\nCaution: {caution.text}" for caution in scores.warnings)])


def _asked(measured: str, dtype: str | None) -> str:
    """Which weights the scores are those of: rounding them otherwise can change answers."""
    if dtype is None:
        return f"Measured with the base model in {measured}; in another precision it was not asked."
    if measured == dtype:
        return f"Measured in {measured}, with the adapter on; this checkpoint was compared with that when it was made."
    return (
        f"**Measured in {measured}; this checkpoint in {dtype} was not asked:** `unsay evaluate --config ask.yaml "
        f"--model THIS_FOLDER --out runs/ask` asks it, where `ask.yaml` has `model_settings: {{dtype: {dtype}}}` and "
        "the run's `evaluation`."
    )


def _missed(config: RunConfig, scores: Scores) -> list[str]:
    """Limits that were not kept; of a model that is not the demo's, also in older scores, the general one alone."""
    demo = config.model == DEMO
    limits = [row for row in scores.targets if demo or row.target.measure == "degenerate"]
    missed = sum(row.met is False for row in limits)
    if not missed:
        return []
    if demo:
        return ["", f"{missed} of {len(limits)} targets that were set before the run were missed."]
    return ["", f"More than {MAX_DEGENERATE:.0%} of the answers are degenerate in {missed} of {len(limits)} suites."]


def _cell(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _utility(scores: Scores) -> list[str]:
    if not scores.utility:
        return []
    lines = ["", "| Utility | items | before | after |", "| --- | ---: | ---: | ---: |"]
    for suite in dict.fromkeys(row.suite for row in scores.utility):
        rows = {row.phase: row for row in scores.utility if row.suite == suite}
        one = next(iter(rows.values()))
        cells = [
            _cell(measure(row, row.value), measure_span(row)) if (row := rows.get(phase)) else "–"
            for phase in (Phase.BEFORE, Phase.AFTER)
        ]
        better = "higher" if one.higher_is_better else "lower"
        lines.append(f"| {one.title} ({better} is better) | {one.n} | {cells[0]} | {cells[1]} |")
    return lines


def _licence(config: RunConfig) -> str:
    if config.model in BASE_LICENCES:
        return f"The base model's: {BASE_LICENCES[config.model]}."
    return (
        f"The licence of the base model, `{shown_model(config.model)}`, holds for what is derived from it; see there. "
        "The training data have licences of their own."
    )


def _made_with(environment: dict[str, Any]) -> str:
    libraries = environment.get("libraries", {})
    names = ", ".join(f"{name} {libraries[name]}" for name in ("torch", "transformers", "peft") if name in libraries)
    return f"Made with unsay {environment.get('unsay', '(version unknown)')}" + (f", {names}." if names else ".")
