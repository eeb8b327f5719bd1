"""A study's numbers drawn at random from given rates, through the study's own statistics: no model, no prompt."""

import random

from unsay.records import Modality
from unsay.scoring import Accuracy, JudgeInfo, SuiteRow, UtilityRow
from unsay.studies.collect import TITLES
from unsay.studies.ranking import AnswerId, ArmAnswers, compare, rank
from unsay.studies.schema import ASR, COHERENT, REFUSAL, ArmRow, Cost, FailedSeed, StudyResult
from unsay.studies.settings import ORIGINAL

JUDGE = JudgeInfo(
    name="probe", accuracy={"accuracy": Accuracy(value=0.86, low=0.823, high=0.891, n=394, dataset="human labels")}
)
SUITES = (("advbench", Modality.TEXT, 0.6), ("advbench-typographic", Modality.TYPOGRAPHIC, 1.0),
          ("advbench-figstep", Modality.TYPOGRAPHIC, 3.0))  # fmt: skip
HIGHER = (COHERENT, "shapes")


def outcomes(asr, babble, refusal, shapes, *, seeds, n=40, luck=0.3):
    """Answers of one arm: `asr` on the pictures, with an own luck for each seed."""
    made = ArmAnswers()
    for seed in seeds:
        draw = random.Random(f"{asr}/{babble}/{refusal}/{shapes}/{seed}")
        tilt = 1 + luck * draw.uniform(-1, 1)
        for suite, modality, factor in SUITES:
            made.modalities[suite] = modality
            for index in range(n):
                cell = AnswerId(seed, suite, f"{suite}-{index}")
                made.groups[suite, cell.prompt] = f"attack-{index}"
                harmful = draw.random() < min(0.97, asr * factor * tilt)
                degenerate = not harmful and draw.random() < babble
                made.measures.setdefault(ASR, {})[cell] = float(harmful)
                made.measures.setdefault(COHERENT, {})[cell] = float(not harmful and not degenerate)
                made.babble[cell] = float(degenerate)
        for suite in ("contrast", "benign-typographic"):
            for index in range(n):
                cell = AnswerId(seed, suite, f"{suite}-{index}")
                made.groups[suite, cell.prompt] = cell.prompt
                made.measures.setdefault(REFUSAL, {})[cell] = float(draw.random() < refusal * tilt)
        for index in range(n):
            cell = AnswerId(seed, "shapes", f"shapes-{index}")
            made.groups["shapes", cell.prompt] = cell.prompt
            made.measures.setdefault("shapes", {})[cell] = float(draw.random() < shapes)
            cell = AnswerId(seed, "answer-loss", f"loss-{index}")
            made.groups["answer-loss", cell.prompt] = cell.prompt
            made.measures.setdefault("answer-loss", {})[cell] = 0.9 + refusal * 0.6 + draw.uniform(-0.2, 0.2)
    return made


ARMS = (
    ("original@", "Original model", ORIGINAL, "", (0.83, 0.0, 0.04, 0.55), None),
    ("textual-unlearning@steps", "Textual unlearning", "textual-unlearning", "text", (0.11, 0.0, 0.35, 0.44), 1.0),
    ("multimodal-unlearning", "Multimodal unlearning", "multimodal-unlearning", "typographic+image",
     (0.04, 0.01, 0.42, 0.40), 2.1),
    ("text-sft", "Text SFT", "text-sft", "text", (0.16, 0.0, 0.30, 0.47), 0.9),
    ("multimodal-sft", "Multimodal SFT", "multimodal-sft", "typographic+image", (0.05, 0.0, 0.44, 0.42), 1.8),
    ("collapsed", "Gradient ascent", "collapsed", "text", (0.0, 0.97, 0.01, 0.02), 0.7),
)  # fmt: skip


def study(rules=("steps", "tokens", "seconds"), seeds=(0, 1, 2)):
    """A study of realistic numbers, with an arm that babbles and one that failed."""
    rows, answers = [], {}
    for name, title, arm, modality, rates, cost in ARMS:
        for rule in rules:
            own = name.endswith("@") or "@" in name
            full = ORIGINAL if arm == ORIGINAL else name if own else f"{name}@{rule}"
            if full in answers:
                continue
            shifted = (rates[0] * {"steps": 1.0, "tokens": 1.6, "seconds": 1.25}[rule], *rates[1:])
            answers[full] = outcomes(*(rates if own else shifted), seeds=seeds)
            rows.append(row(full, title, arm, modality, rules if own else (rule,), answers[full], cost, seeds))
    rows.append(
        ArmRow(
            name="rmu@steps", title="RMU", model="pocket", arm="rmu", rules=("steps",), method="rmu", modality="text",
            state="failed", seeds=(), failed=(FailedSeed(seed=0, reason="collapse at step 4: no earlier checkpoint"),),
        )
    )  # fmt: skip
    measures = {**TITLES, "shapes": "Coloured shapes", "answer-loss": "Loss on normal answers"}
    rankings, comparisons = [], []
    for rule in rules:
        chosen = {arm.name: answers[arm.name] for arm in rows if rule in arm.rules and arm.state != "failed"}
        found = [
            pair for name in measures for pair in compare("pocket", rule, name, chosen, higher_is_better=name in HIGHER)
        ]
        comparisons += found
        rankings.append(rank("pocket", rule, f"the training {rule} of textual-unlearning", chosen, found))
    return StudyResult(
        title="Is textual unlearning all you need?",
        about="Unlearning and refusal fine-tuning, each on text alone and on pictures, at equal budgets.",
        command="unsay study paper --model pocket",
        models=("pocket",),
        seeds=seeds,
        reference="textual-unlearning",
        judge=JUDGE,
        environment={"unsay": "0.1.0", "cores": 2, "libraries": {"torch": "2.13.0"}},
        commits=("c0",),
        measures=measures,
        units={"shapes": "rate", "answer-loss": "nats per token"},
        higher_is_better=HIGHER,
        arms=tuple(rows),
        rankings=tuple(rankings),
        comparisons=tuple(comparisons),
    )


def row(name, title, arm, modality, rules, made, cost, seeds):
    """One arm with its suites' counts."""
    suites = []
    for suite, kind in (("advbench", "attack"), ("advbench-typographic", "attack"), ("contrast", "benign")):
        cells = {c: v for c, v in made.measures[ASR if kind == "attack" else REFUSAL].items() if c.suite == suite}
        bad = int(sum(cells.values()))
        babble = int(sum(made.babble.get(cell, 0) for cell in cells))
        counts = {"harmful": bad, "refused": len(cells) - bad - babble, "safe": 0, "degenerate": babble}
        if kind == "benign":
            counts = {"harmful": 0, "refused": bad, "safe": len(cells) - bad, "degenerate": 0}
        found = made.mean(cells)
        suites.append(
            SuiteRow(
                suite=suite, title=suite.capitalize(), kind=kind, modality="text", phase="after", n=len(cells),
                unique=40, failed=0, rate=found.value, interval=found.interval, **counts,
            )
        )  # fmt: skip
    return ArmRow(
        name=name, title=title, model="pocket", arm=arm, rules=rules, method=None if arm == ORIGINAL else arm,
        modality=modality, state="finished", seeds=seeds,
        measures={key: made.mean(cells) for key, cells in made.measures.items()},
        text_attacks=made.mean(made.attacks(Modality.TEXT)),
        image_attacks=made.mean(made.attacks(Modality.TYPOGRAPHIC, Modality.IMAGE)),
        degenerate=made.mean(made.babble),
        suites=tuple(suites),
        utility=(UtilityRow(suite="shapes", title="Coloured shapes", phase="after", n=40, value=0.4),),
        cost=None if cost is None else Cost(
            steps=36, tokens=70_400 * cost * 0.6, image_tokens=0 if modality == "text" else 51_000 * cost,
            flops=4.1e13 * cost, seconds=243 * cost, peak_memory_bytes=int(2.6e9 * (1 + cost / 5)),
            ratios={"tokens": cost, "flops": cost, "seconds": cost, "memory": 1.0 + cost / 5},
        ),
    )  # fmt: skip
