"""The documentation site: builds without a broken link, and leaves no setting, command or public name out."""

import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import get_args

import nbformat
import pytest
import typer.main
from nbclient import NotebookClient
from pydantic import BaseModel, Field

from tools import docs_site
from unsay import api
from unsay.cli import app
from unsay.methods import METHODS
from unsay.robustness import CHECKS
from unsay.scoring.schema import Change, Row, Scores

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; `strict` in mkdocs.yml makes a broken link or anchor, or a page outside of the menu, an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_command_and_option_is_on_the_site(site: Path) -> None:
    page = (site / "commands.html").read_text(encoding="utf-8")
    for name, command in typer.main.get_command(app).commands.items():
        assert f"unsay {name}</code>" in page
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("--")):
            assert option in page, f"unsay {name} {option}"


def test_every_public_name_is_on_the_site_with_its_docstring(site: Path) -> None:
    page = (site / "python.html").read_text(encoding="utf-8")
    for name in api.__all__:
        assert f'id="unsay.api.{name}"' in page
        head = (getattr(api, name).__doc__ or "").split("\n")[0]
        assert head, f"unsay.api.{name} has no docstring"
        plain = re.sub(r"<[^>]+>", "", page)
        assert head.split("`")[0].strip() in plain


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)|<link[^>]+href=\"(https?:[^\"]+)", text)
        assert not [url for pair in loaded for url in pair if url], page.name


def test_every_setting_is_described() -> None:
    page = docs_site.settings()
    assert "`train.lora.rank`" in page
    assert "`evaluation.generation.max_new_tokens`" in page
    assert all(f"### {name}\n" in page for name in METHODS)


def test_a_setting_without_a_description_is_an_error() -> None:
    class Bare(BaseModel):
        steps: int = 3

    with pytest.raises(ValueError, match=r"Bare\.steps: has no description"):
        docs_site._table(Bare, "")


def test_a_setting_s_row_says_type_limits_and_default() -> None:
    class Few(BaseModel):
        share: float | None = Field(None, ge=0, le=1, description="of | all")

    assert docs_site._table(Few, "data.").splitlines()[-1] == (
        "| `data.share` | `float \\| null` ≥ 0, ≤ 1 | `null` | of \\| all |"
    )


def test_papers_lead_to_the_files_that_follow_them() -> None:
    rows = docs_site.papers().splitlines()
    (first,) = [place for place, row in enumerate(rows) if row.startswith("| [2404.05868]")]
    assert "https://arxiv.org/abs/2404.05868" in rows[first]
    follow = list(takewhile(lambda row: row.startswith("|  |"), rows[first + 1 :]))
    assert any("| `methods/npo.py` | " in row for row in (rows[first], *follow))


def test_every_method_and_every_check_has_its_paper_there() -> None:
    page = docs_site.papers()
    entries = [entry.method for entry in METHODS.values()] + [check.run for check in CHECKS.values()]
    for module in {entry.__module__ for entry in entries}:
        assert f"`{module.removeprefix('unsay.').replace('.', '/')}.py`" in page


def test_commands_are_listed_with_their_whole_first_line() -> None:
    page = docs_site.commands()
    assert "..." not in page.partition("## ")[0].replace("[ARGS]...", "")
    assert "* `runs`: List runs and studies" in page


def test_every_field_of_the_scores_is_on_its_page() -> None:
    page = docs_site.score_fields()
    sections = {text.partition("\n")[0]: text for text in page.split("\n## ")[1:]}
    assert next(iter(sections)) == "Scores"
    assert all(f"\n| `{name}` | " in sections["Change"] for name in Change.model_fields)
    for row in (field.annotation for field in Scores.model_fields.values()):
        for kind in get_args(row):
            if isinstance(kind, type) and issubclass(kind, Row):
                assert all(f"\n| `{name}` | " in sections[kind.__name__] for name in kind.__annotations__)


@pytest.mark.pocket
def test_the_tour_runs_from_top_to_bottom(tmp_path: Path) -> None:
    tour = nbformat.read(ROOT / "docs/tour.ipynb", as_version=4)
    NotebookClient(tour, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in tour.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("Write one sentence about the sea." in str(output) for output in shown)  # read off the picture
    assert (tmp_path / "runs/tour/report.html").exists()
    assert (tmp_path / "runs/tour/adapter/adapter_model.safetensors").exists()
