"""The command `unsay plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from unsay.config import RunConfig
    from unsay.planning import Plan

console = Console()


def plan(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Settings in YAML, or the name of a preset.")],
    gpus: Annotated[
        str | None, typer.Option(metavar="NxCARD", help="Cards, such as 1xH100 or 8xA100-80; a CPU if not given.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a prompt in the chat format.")] = 64,
    answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of an answer; the longest that is trained on if not given.")
    ] = None,
    image_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of a picture beside each prompt, where pictures are trained on.")
    ] = 0,
    launch: Annotated[
        str, typer.Option(metavar="NAME", help="How several cards are used: ddp, fsdp2 or zero3 (see `unsay init`).")
    ] = "ddp",
) -> None:
    """Say what training will take, without loading any weights: parameters, memory, operations, time.

    Evaluation is not counted, and lengths are those of these options, not of your data.
    """
    from unsay.config import read_config
    from unsay.planning import first_that_fits, outline, parse_gpus
    from unsay.planning import plan as estimate
    from unsay.planning.choose import table
    from unsay.presets import launch_config, preset, preset_names

    settings = preset(str(config)) if str(config) in preset_names() and not config.exists() else read_config(config)
    cards = None if gpus is None else parse_gpus(gpus)
    launch_config(launch)  # its name is known
    vlm = outline(settings)

    def planned(settings: "RunConfig", answer: int) -> "Plan":
        return estimate(
            settings,
            cards,
            prompt=prompt_tokens,
            answer=answer,
            image_tokens=image_tokens,
            sharded=launch != "ddp",
            vlm=vlm,
        )

    answer = settings.train.max_answer_tokens if answer_tokens is None else answer_tokens
    made = planned(settings, answer)
    fit = first_that_fits(settings, answer, planned) if made.fits is False else None
    console.print(table(made, gpus, (prompt_tokens, answer, image_tokens), fit))
