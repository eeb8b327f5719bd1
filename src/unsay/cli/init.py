"""The command `unsay init`, and the commented configuration that it writes.

The command `unsay init`.

The commented configuration that `unsay init` writes: made from the settings themselves, so never out of date.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import BaseModel
from rich.console import Console

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.methods import METHODS, default_settings

console = Console()


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the settings.")] = Path("unsay.yaml"),
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Start from a preset, such as llava-1.5-7b, llava-1.5-7b-24gb or qwen3-vl-8b-8gpu."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from what fits your model, by its family and size: a checkpoint folder, or a model id.",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="NxCARD", help="With --model: 1 or 8 cards that it must fit, such as 1xRTX4090; else one of 80 GB."
        ),
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also write a configuration of accelerate launch: ddp, fsdp2 or zero3. ddp for eight cards.",
        ),
    ] = None,
) -> None:
    """Write a commented starting configuration."""
    if preset is not None and model is not None:
        raise UserError("--preset and --model exclude each other: give one of them")
    if gpus is not None and model is None:
        raise UserError("--gpus goes with --model; a preset is for cards already: see those with -24gb and -8gpu")
    from unsay.files import write_text
    from unsay.planning import Choice, choose, for_launch, parse_gpus
    from unsay.presets import launch_config, launch_of, note_of
    from unsay.presets import preset as ready

    # An unknown name is found before a model's configuration is read.
    launched = None if launch is None else launch_config(launch)
    cards = None if gpus is None else parse_gpus(gpus)
    if model is not None:
        start = choose(model, cards, sharded=launch not in (None, "ddp"))
    elif preset is not None:
        note = note_of(preset)
        start = Choice(ready(preset), () if note is None else (note,), launch_of(preset))
    else:
        start = Choice()
    if launch is not None:
        start = for_launch(start, launch, cards)
    elif start.launch is not None:
        launched = launch_config(start.launch)
    launcher = None if launched is None else path.with_suffix(".accelerate.yaml")
    texts = {path: starting_config(start.config, launcher, start.reasons)}
    if launched is not None and launcher is not None:
        texts[launcher] = launched
    for target in texts:
        if target.exists() or target.is_symlink():
            raise UserError(f"{target}: exists already; choose another name or remove it first")
    for target, text in texts.items():
        write_text(target, text)
    for line in (
        *start.reasons,
        f"Wrote {' and '.join(map(str, texts))}. Edit, then run: {command(path, launcher)}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


WIDTH = 96
HEAD = """\
# Settings of an unsay run. Every line shows {what}.
# Run it with:  {command}
"""
FOLLOWS = {"train.seed"}
"""Settings that follow another one; written out, they would have to be changed along with it."""


def command(config: Path | str, launch: Path | str | None = None) -> str:
    """The command line of a run.

    Args:
        config: its settings.
        launch: the configuration of `accelerate launch`, where several processes train.
    """
    unsay = "unsay" if launch is None else f"accelerate launch --config_file {launch} -m unsay"
    return f"{unsay} unlearn --config {config} --out runs/my-run"


def starting_config(
    config: RunConfig | None = None, launch: Path | str | None = None, reasons: Sequence[str] = ()
) -> str:
    """YAML of every setting with a comment; it parses back to the configuration.

    Args:
        config: values to start from, such as a preset's; every default if there is none.
        launch: the configuration of `accelerate launch` that it is run with; None where one process is enough.
        reasons: why it has these values, where they were chosen for a model.
    """
    chosen = "the value that was chosen" if reasons else "the preset's value"
    what = "its default; delete what you do not change" if config is None else chosen
    why = "".join(f"# {line}\n" for reason in reasons for line in textwrap.wrap(reason, WIDTH - 2))
    return (
        HEAD.format(what=what, command=command("THIS_FILE", launch))
        + why
        + "\n"
        + "\n".join(_lines(config or RunConfig(), ""))
        + "\n"
    )


def _lines(settings: BaseModel, path: str) -> list[str]:
    """The lines of one section; `path` is its dotted name."""
    depth = path.count(".") + 1 if path else 0
    indent = "  " * depth
    lines: list[str] = []
    after_section = False
    plain = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        full = f"{path}.{name}" if path else name
        if full in FOLLOWS:
            continue
        value = getattr(settings, name)
        described = field.description
        if full == "method_settings":
            value = default_settings(plain["method"]).model_copy(update=plain[name])
            others = ", ".join(other for other in METHODS if other != plain["method"])
            described = f"of the method {plain['method']}; the other methods ({others}) have their own"
        section = isinstance(value, BaseModel)
        # Blank lines set sections apart, and at the top level every setting.
        if lines and (section or after_section or depth == 0):
            lines.append("")
        after_section = section
        if described:
            lines += [f"{indent}# {part}" for part in textwrap.wrap(described, WIDTH - len(indent) - 2)]
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_lines(value, full)]
        else:
            lines.append(f"{indent}{name}: {_scalar(plain[name])}")
    return lines


def _scalar(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("...").strip()
