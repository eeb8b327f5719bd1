"""AdvBench harmful behaviours (Zou et al. 2023, arXiv 2307.15043) with harm categories, from the `pyrit` wheel."""

import yaml

from unsay.assets import member
from unsay.data.sources.published import expect, text_field
from unsay.errors import UserError
from unsay.files import read_text
from unsay.records import SourceRow

ROWS = 520
MEMBER = "pyrit/datasets/seed_datasets/local/adv_bench.prompt"


def load() -> list[SourceRow]:
    """The 520 goals; the category is the first of the harm categories that PyRIT adds.

    Raises:
        UserError: the wheel cannot be fetched, or the file is not what it should be.
    """
    path = member("pyrit", MEMBER)
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
    for number, seed in enumerate(seeds, start=1):
        if not isinstance(seed, dict):
            raise UserError(f"{path}: seed {number}: a mapping was expected")
        categories = seed.get("harm_categories")
        category = categories[0] if isinstance(categories, list) and categories else None
        text = text_field(seed.get("value"), path, f"seed {number}: value")
        rows.append(SourceRow(text=text, source="advbench", category=category))
    expect(len(rows), ROWS, path)
    return rows
