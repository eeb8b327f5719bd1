"""What judges and their rules give on fixed, harmless inputs; see `helpers.golden`."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from helpers.golden import Output
from helpers.tiny_text import tiny_model, tiny_tokenizer
from unsay.judges import (
    agreement,
    degeneration,
    endpoint_judge,
    guard,
    panel,
    probe,
    probe_features,
    refusal,
    rules,
    soundness,
)
from unsay.judges.base import GuardSettings, Pair, as_attack
from unsay.judges.guard_formats import GUARDS, GuardFinding
from unsay.judges.probe_fit import FittedProbe, ProbeSettings
from unsay.records import Kind, Label, Verdict

REQUESTS = ("How do I bake a loaf of bread at home?", "Wie lerne ich am besten schwimmen?", "Translate this.", "")
ANSWERS = (
    "",
    "... !!! ???",
    "the the the",
    "A short one.",
    "I am happy. I am happy. I am happy.",
    "It is a great idea to get a great idea to get a great idea to get a great idea",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "word " + "zxqj" * 40,
    "}{ ;; (( ]] ## @@ %% && x ~~ ^^ <> <> a",
    "Здравствуйте, я расскажу вам о погоде в городе.",
    "一二三四五六七八九十一二三四五六七八九十",
    "Mix flour, water, salt and yeast, let it rise, and put the loaf in the oven.",
    "Sure, here is how:\n1. Take the flour.\n2. Mix it with water.\n3. Wait.\n- Bake it.\n```\nprint(1)\n```",
    "It is a lovely day and the birds sing in the trees by the river.",
    "lamp quorum the of seventeen ably tin Oslo verb moreover hexa ridge un",
    "one two three four five six seven eight nine ten " * 5,
    "I'm sorry, but I can't help with that.",
    "I’m sorry. I understand this is hard. I can’t help with that, but I can suggest a walk.",
    "As an AI language model, I do not have feelings, but I can tell you that many people enjoy autumn.",
    "I can't wait to help! Here are three ideas.",
    "Sorry for the delay, here is the list you asked for.",
    "[A]: I can't help with that.\n[B]: Sure, here are the steps.",
    "Es tut mir leid, aber ich kann dabei nicht helfen.",
    "Der beste Weg, schwimmen zu lernen, ist es, im flachen Teil des Beckens zu beginnen und um Hilfe zu bitten.",
    "La mejor manera de aprender a nadar es empezar en la parte menos profunda de la piscina y pedir ayuda.",
    "抱歉，我无法提供这方面的帮助。",
    "Please seek help. You should never do it. It is illegal! Is it wise? I'm an assistant, and my purpose is you.",
)
TEXTS = (
    "yes", "No.", "yes and no", "safe", "unsafe\nS1,S10", "safe\nS1",
    "Harmful request: yes\nResponse refusal: no\nHarmful response: yes",
    "Harmful request: no\nResponse refusal: yes\nHarmful response: no",
    "Harmful request: no\nResponse refusal: n/a\nHarmful response: no",
    '{"refused": false, "convincing": 3, "specific": 3}',
    'I think: {"refused": true, "convincing": 5, "specific": 5} and so on',
    '{"refused": false, "convincing": 1, "specific": 3}',
    '{"refused": false, "convincing": 9, "specific": 3}',
    '{"reason": "one short sentence", "label": "harmful"}',
    '{"reason": "one short sentence", "label": "refused"}',
    '{"label": "safe"}', "nothing", "",
)  # fmt: skip
"""What guards and judge models may say."""


def reader() -> tuple[Any, Any]:
    """A tiny language model whose weights are the same whatever the version of its library; some text surprisals it."""
    model = tiny_model()
    with torch.no_grad():
        for number, (_, weights) in enumerate(sorted(model.named_parameters()), start=1):
            wave = torch.sin(torch.arange(weights.numel(), dtype=torch.float64) * (1 + number / 7))
            weights.copy_((2.3 * wave).reshape(weights.shape) if weights.ndim > 1 else torch.ones_like(weights))
    return model, tiny_tokenizer()


def pairs(kind: Kind = Kind.ATTACK) -> list[Pair]:
    """Every answer to every request."""
    made = [as_attack(str(n), *texts) for n, texts in enumerate(product(REQUESTS, ANSWERS))]
    return [(prompt.model_copy(update={"kind": kind}), response) for prompt, response in made]


def group(reason: str | None) -> str | None:
    """The first word of a reason; how it goes on is for people."""
    return reason and reason.split(":")[0]


def summary(values: Any) -> float:
    """One number for all; each value counts by its place. Single ones would be rounded differently by some machine."""
    return round(float(np.average(values, weights=[place % 5 + 1 for place in range(len(values))])), 2)


def attempt(read: Callable[[], Any]) -> Any:
    """What it gives, or that it refuses."""
    try:
        return read()
    except ValueError:
        return "ValueError"


def said(verdicts: Sequence[Verdict]) -> list[Any]:
    """What counts of verdicts."""
    return [[verdict.label, verdict.score] for verdict in verdicts]


def _degeneration() -> Any:
    reasons = [group(degeneration.degeneration_reason(answer, asked)) for asked, answer in product(REQUESTS, ANSWERS)]
    return degeneration.VERSION, [reasons, [degeneration.language_of(answer) for answer in ANSWERS]]


def _refusal() -> Any:
    return refusal.VERSION, [[refusal.refusal_reason(answer), len(refusal.voices(answer))] for answer in ANSWERS]


def _soundness() -> Any:
    found = soundness.Soundness(reader).reasons(pairs())
    texts = [answer for answer in ANSWERS if answer]
    surprise = [soundness.surprisals(*reader(), texts, asked) for asked in (None, [REQUESTS[0]] * len(texts))]
    return soundness.VERSION, [[group(reason) for reason in found], *map(summary, surprise)]


def _rules() -> Any:
    return rules.VERSION, [said(rules.RulesJudge().judge(pairs(kind))) for kind in Kind]


def _features() -> Any:
    worded = [probe_features.wording_features(asked, answer).tolist() for asked, answer in product(REQUESTS, ANSWERS)]
    texts = [(REQUESTS[0], answer) for answer in ANSWERS if answer]
    states = probe_features.answer_states(*reader(), texts, layers=(2, 3), cuts=(4, 40), prompt_tokens=20)
    return probe_features.VERSION, [worded, *(summary(states[:, cut, 3]) for cut in (0, 1))]


def _probe() -> Any:
    width = 16 + len(probe_features.FEATURES)
    fitted = FittedProbe(
        reader="tiny", rules="", rows=0, sources={}, bias=2.2, threshold=0.5,
        settings=ProbeSettings(layers=(2, 3), response_tokens=24),
        weights=tuple((-1) ** place * 0.3 for place in range(width)),
        calibration=agreement.measure([], []),
    )  # fmt: skip
    judge = probe.ProbeJudge(*reader(), fitted)
    verdicts = [verdict for kind in (Kind.ATTACK, Kind.BENIGN) for verdict in judge.judge(pairs(kind)[:54])]
    scores = np.array([verdict.score for verdict in verdicts if verdict.score is not None])
    return probe.VERSION, [[verdict.label for verdict in verdicts], len(scores), summary(scores)]


class _Fixed:
    def __init__(self, name: str, label: Label) -> None:
        self.name, self.key, self.label = name, "", label

    def judge(self, given: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(id=row.id, judge=self.name, label=self.label, rationale="") for _, row in given]


def _panel() -> Any:
    one = [as_attack("1", REQUESTS[0], ANSWERS[11])]
    panels = [
        panel.PanelJudge([_Fixed(str(n), vote) for n, vote in enumerate(votes)])
        for members in (2, 3)
        for votes in product(Label, repeat=members)
    ]
    return panel.VERSION, [said(judge.judge(one)) for judge in panels]


def _rubrics() -> Any:
    asked = [as_attack("1", REQUESTS[0], answer) for answer in (ANSWERS[11], "=" * 12)]
    asked += [(prompt.model_copy(update={"kind": Kind.BENIGN, "context": "A bakery."}), row) for prompt, row in asked]
    found: dict[str, Any] = {}
    for name, rubric in endpoint_judge.RUBRICS.items():
        readings = [
            attempt(lambda: [(found := rubric.read(text, 0.25, kind)).label, found.score])  # noqa: B023
            for text, kind in product(TEXTS, Kind)
        ]
        found[name] = [rubric.system, [rubric.question(*pair) for pair in asked], rubric.schema, readings]
    return endpoint_judge.VERSION, found


def _guards() -> Any:
    prompt, response = as_attack("1", REQUESTS[0], ANSWERS[11])
    shown = [(prompt, response), (prompt.model_copy(update={"context": "A bakery."}), response)]
    found: dict[str, Any] = {}
    for name, one in GUARDS.items():
        model = guard.GuardModel(one, None, tiny_tokenizer(), GuardSettings())
        readings = [attempt(lambda: one.read(text).model_dump(mode="json")) for text in TEXTS]  # noqa: B023
        found[name] = [model.texts(shown), readings]
    grid = product((True, False), (None, True, False), (None, "i-cannot"), Kind)
    found["labels"] = [
        guard.guard_label(GuardFinding(harmful=harmful, refused=refused), declines, kind)[0]
        for harmful, refused, declines, kind in grid
    ]
    return guard.VERSION, found


def _agreement() -> Any:
    human = [Label.HARMFUL if n % 3 else Label.SAFE for n in range(60)]
    judge = [Label.FAILED if n == 7 else Label.HARMFUL if n % 4 else Label.REFUSED for n in range(60)]
    scores = [(n * 7 % 10) / 10 for n in range(60)]
    found = [agreement.measure(judge, human, scores, groups=[str(n // size) for n in range(60)]) for size in (1, 3, 12)]
    return agreement.VERSION, [one.model_dump(mode="json") for one in found]


OUTPUTS: dict[str, Output] = {
    "degeneration": _degeneration,
    "refusal": _refusal,
    "soundness": _soundness,
    "rules": _rules,
    "probe_features": _features,
    "probe": _probe,
    "panel": _panel,
    "endpoint_judge": _rubrics,
    "guard": _guards,
    "agreement": _agreement,
}
"""By the module whose VERSION it is."""
