"""The pages of the documentation site that are made from the code: commands, settings, functions, scores, papers.

MkDocs calls `on_files` (see mkdocs.yml), so these pages are written anew with every build and are never out of date.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click

import unsay
from tools.study_fields import documented
from unsay import api
from unsay.cli import app
from unsay.config import RunConfig
from unsay.judges import JUDGES
from unsay.methods import METHODS
from unsay.scoring import schema
from unsay.studies.settings import StudySettings

SOURCE = Path(unsay.__file__).parent
SIGNS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}
PAPER = re.compile(r"(?:arXiv[: ]|\b)(\d{4}\.\d{5})\b")
SETTINGS = """\
# Settings

Every setting of a run (`unsay init` writes them as a commented file), of the methods, the judges and a study file. A
dot goes one level down: `train.steps` is `steps` under `train`.
"""
FUNCTIONS = """\
# Python

`import unsay` is light: torch is loaded at the first use of a function. Commands call the same functions. Each is also
`unsay.NAME`, but for `robustness`, which is `unsay.api.robustness`: the package has a room of that name.
"""
SCORE_FIELDS = """\
# Every field of scores.json

Made from the schema. [Scores](scores.md) explains the numbers: how each is defined, and where its interval and its test
come from.
"""
PAPERS = """\
# Papers

Every paper that a method, suite, judge or check follows, and the files that do. The page is made from the docstrings.

| paper | where | what |
| --- | --- | --- |
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> dict[str, str]:
    """File name → Markdown of every generated page."""
    return {name: write() for name, write in GENERATED.items()}


def commands() -> str:
    """Every command with its options, by Typer's own generator."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="unsay")
    for command in getattr(group, "commands", {}).values():
        command.short_help = (command.help or "").partition("\n")[0]  # click cuts it off in the middle otherwise
    text = get_docs_for_click(obj=group, ctx=context, name="unsay", title="Commands")
    return text.replace("[bold]", "**").replace("[/bold]", "**")


def settings() -> str:
    """Every setting with its type, default and description.

    Raises:
        ValueError: a setting has no description.
    """
    parts = [SETTINGS, "## A run", *_sections(RunConfig, "")]
    parts.append("## Methods\n\nUnder `method_settings`.")
    for name, method in METHODS.items():
        parts += [f"### {name}\n\n{method.summary}", _table(method.settings, "")]
    parts.append("## Judges\n\nUnder `evaluation.judge_settings`.")
    for name, judge in JUDGES.items():
        if judge.settings.model_fields:
            parts += [f"### {name}\n\n{judge.about}.", _table(judge.settings, "")]
    parts += ["## A study", *_sections(StudySettings, "")]
    return "\n\n".join(part for part in parts if part) + "\n"


def functions() -> str:
    """The public functions, which mkdocstrings fills in."""
    return FUNCTIONS + "".join(f"\n::: unsay.api.{name}\n" for name in api.__all__)


def score_fields() -> str:
    """The fields of every row of `scores.json`, beginning with the whole."""
    rows = [kind for _, kind in inspect.getmembers(schema, inspect.isclass) if issubclass(kind, schema.Row)]
    named = [kind for kind in rows if kind.__module__ == schema.__name__ and kind.model_fields]
    parts = [SCORE_FIELDS]
    for kind in sorted(named, key=lambda kind: (kind is not schema.Scores, inspect.getsourcelines(kind)[1])):
        about = (inspect.getdoc(kind) or "").partition("\n")[0].replace("None", "null")
        lines = [(f"`{name}`", of, text.replace("|", "\\|")) for name, of, text in documented(kind)]
        table = [("field", "type", "what it holds"), ("---",) * 3, *lines]
        parts += [f"## {kind.__name__}\n\n{about}", "\n".join(f"| {' | '.join(cells)} |" for cells in table)]
    return "\n\n".join(parts) + "\n"


def papers() -> str:
    """A table of every arXiv number in a docstring of the package, with the files that cite it, a line each."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        text = path.read_text(encoding="utf-8")
        head = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        for number in dict.fromkeys(PAPER.findall(text)):
            rows.setdefault(number, []).append((name, head))
    lines = []
    for number, places in sorted(rows.items()):
        for place, (name, head) in enumerate(places):
            paper = "" if place else f"[{number}](https://arxiv.org/abs/{number})"
            what = head.replace("|", "\\|")
            lines.append(f"| {paper} | `{name}` | {what} |")
    return PAPERS + "\n".join(lines) + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """The table of one group of settings, then those of the groups in it."""
    yield _table(model, path)
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            place = f"{path}{name}."
            yield f"### `{place[:-1]}`\n\n{_description(model, name, field)}"
            yield from _sections(inner, place)


def _table(model: type[BaseModel], path: str) -> str:
    rows = []
    for name, field in model.model_fields.items():
        about = _description(model, name, field).replace("|", "\\|")
        if not _models(field.annotation):
            rows.append(f"| `{path}{name}` | {_kind(field)} | {_default(field)} | {about} |")
    return "\n".join(["| setting | type | default | what it is |", "| --- | --- | --- | --- |", *rows]) if rows else ""


def _description(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"{model.__module__}.{model.__name__}.{name}: has no description")
    return " ".join(field.description.split())


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The groups of settings that an annotation names by itself, not inside of a list or a dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _kind(field: FieldInfo) -> str:
    limits = [str(limit) for limit in field.metadata if re.match(r"(Ge|Gt|Le|Lt)\(", str(limit))]
    shown = [f"{SIGNS[limit[:2]]} {limit[6:-1]}" for limit in limits]
    return f"`{_words(field.annotation)}`".replace("|", "\\|") + (f" {', '.join(shown)}" if shown else "")


def _words(annotation: Any) -> str:
    """A type in the words of YAML's users: no modules, no validators."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        return "null"
    if origin is Annotated:
        return _words(parts[0])
    if origin is Literal:
        return " | ".join(str(part) for part in parts)
    if origin in (Union, UnionType):
        return " | ".join(map(_words, parts))
    if origin is not None:
        inner = ", ".join(_words(part) for part in parts if part is not Ellipsis)
        return f"{'list' if origin in (tuple, list) else origin.__name__}[{inner}]"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    return str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    if field.default_factory_takes_validated_data:
        return "*that of the base*"
    value = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    if value is PydanticUndefined:
        return "*required*"
    if value is None:
        return "`null`"
    text = value if isinstance(value, str) else str(value)
    return f"`{text}`".replace("|", "\\|")


GENERATED = {
    "commands.md": commands,
    "settings.md": settings,
    "python.md": functions,
    "score-fields.md": score_fields,
    "papers.md": papers,
}
"""File name → what writes it."""
