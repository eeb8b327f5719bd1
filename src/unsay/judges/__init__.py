"""Judges by name: five-way verdicts on responses, and how far to trust them.

A new judge is one file and one entry in `JUDGES`. An entry imports its judge only when it builds it.

- `base`: what a judge is, its settings, and `judge_all`, which never loses a row.
- `degeneration`, `refusal`: rules on the text; `soundness`: broken answers, by these and a frozen language model.
- `rules`, `probe`, `guard`, `endpoint_judge`, `panel`: judges; `probe_features`, `probe_fit`, `guard_formats`: parts.
- `agreement`: labels against people's, in numbers; `calibrate`: runs a judge on the rows of `label_sets`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, ValidationError

from unsay.errors import UserError
from unsay.files import problems
from unsay.judges.base import (
    EndpointJudgeSettings,
    GuardSettings,
    Judge,
    NoSettings,
    Original,
    Pair,
    PanelSettings,
    ProbeJudgeSettings,
    RulesSettings,
    judge_all,
)
from unsay.judges.guard_formats import GUARDS, Guard


@dataclass(frozen=True)
class JudgeEntry:
    """One judge.

    Attributes:
        build: makes it from its checked settings.
        about: what it does, for `unsay judges` and docs/judges.md.
        needs: what it needs, in words.
        settings: their model.
        missing: what must be done before it can be used on this machine; None if nothing is known to be missing.
        reads_original: whether `build` is also given the run's original model (`Original`), or None without one.
    """

    build: Callable[..., Judge]
    about: str
    needs: str
    settings: type[BaseModel] = NoSettings
    missing: Callable[[], str | None] = lambda: None
    reads_original: bool = False


def _rules(settings: RulesSettings) -> Judge:
    from unsay.judges.rules import RulesJudge

    return RulesJudge(settings)


def _probe(settings: ProbeJudgeSettings, original: Original | None) -> Judge:
    from unsay.judges.probe import ProbeJudge

    if settings.reader == "smollm2":
        return ProbeJudge.default()
    if original is None:
        raise UserError(
            "evaluation.judge_settings of 'probe': reader: original reads with a run's own model, and there is none "
            "here; set it in the settings of a run whose model answers on this machine"
        )
    from unsay.judges.original_reader import original_probe

    return original_probe(original)


def _guard(name: str, settings: GuardSettings) -> Judge:
    from unsay.judges.guard import GuardJudge

    return GuardJudge(name, settings)


def _endpoint(settings: EndpointJudgeSettings) -> Judge:
    from unsay.judges.endpoint_judge import EndpointJudge

    return EndpointJudge(settings)


def _panel(settings: PanelSettings, original: Original | None) -> Judge:
    from unsay.judges.panel import PanelJudge

    return PanelJudge([build_judge(name, own, original) for name, own in settings.judges.items()])


def _no_openai() -> str | None:
    return None if find_spec("openai") else "pip install 'unsay[endpoint]'"


def _not_cached(checkpoint: str) -> str | None:
    """Looks into the model hub's cache; nothing is sent over the network."""
    from huggingface_hub import try_to_load_from_cache

    return None if isinstance(try_to_load_from_cache(checkpoint, "config.json"), str) else "not downloaded"


def _guard_entry(name: str, guard: Guard) -> JudgeEntry:
    return JudgeEntry(
        partial(_guard, name),
        guard.about,
        f"{guard.checkpoint}, a GPU",
        GuardSettings,
        partial(_not_cached, guard.checkpoint),
    )


JUDGES: dict[str, JudgeEntry] = {
    "rules": JudgeEntry(_rules, "patterns; every answered attack is harmful", "nothing", RulesSettings),
    "probe": JudgeEntry(
        _probe,
        "rules, then a probe on a frozen model's hidden states",
        "SmolLM2-135M (fetched)",
        ProbeJudgeSettings,
        reads_original=True,
    ),
    **{name: _guard_entry(name, guard) for name, guard in GUARDS.items()},
    "endpoint": JudgeEntry(
        _endpoint, "a rubric, asked of any OpenAI-compatible server", "a server", EndpointJudgeSettings, _no_openai
    ),
    "panel": JudgeEntry(_panel, "the majority of several judges", "its members", PanelSettings, reads_original=True),
}
"""Every judge by name."""


def judge_settings(name: str, settings: dict[str, Any] | None = None) -> BaseModel:
    """A judge's settings, checked; nothing is loaded."""
    if name not in JUDGES:
        raise UserError(f"evaluation.judge: unknown '{name}'; known are {', '.join(JUDGES)}")
    try:
        checked = JUDGES[name].settings.model_validate(settings or {})
    except ValidationError as error:
        raise UserError(f"evaluation.judge_settings of '{name}': {problems(error, JUDGES[name].settings)}") from None
    if isinstance(checked, PanelSettings):
        for member, own in checked.judges.items():
            if member == "panel":
                raise UserError("evaluation.judge_settings of 'panel': a panel cannot be a member of a panel")
            judge_settings(member, own)
    return checked


def reads_original(name: str, settings: dict[str, Any] | None = None) -> bool:
    """Whether a judge, or a member of a panel, reads with a run's original model."""
    checked = judge_settings(name, settings)
    if isinstance(checked, PanelSettings):
        return any(reads_original(member, own) for member, own in checked.judges.items())
    return isinstance(checked, ProbeJudgeSettings) and checked.reader == "original"


def build_judge(name: str, settings: dict[str, Any] | None = None, original: Original | None = None) -> Judge:
    """The judge of that name; `original` is the run's model, for judges that read with it.

    Raises:
        UserError: see `judge_settings`; or something the judge needs is missing.
    """
    checked = judge_settings(name, settings)
    entry = JUDGES[name]
    return entry.build(checked, original) if entry.reads_original else entry.build(checked)


__all__ = ["JUDGES", "Judge", "JudgeEntry", "Pair", "build_judge", "judge_all", "judge_settings", "reads_original"]
