"""Measures how much of a picture's separation is lost by reading: is what the model reads off a page told apart better?

    UNSAY_DATA_DIR=DIR python -m tools.reading_loss --adapter runs/demo/adapter --out FILE

The development suites' requests are asked in three ways: in words, as pages, and in the words that the original model
itself reads off those pages. Where pages are told apart no better than what is read off them, their words were lost on
the way in, and no training on text can bring them back.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tools.separability import AGAINST, HARMFUL, auroc
from unsay.config import model_of
from unsay.data.formats import WRAPPED
from unsay.files import write_json
from unsay.generation import respond
from unsay.generation.settings import GenerationSettings
from unsay.models import VLM, load, load_adapter
from unsay.models.precision import ModelSettings
from unsay.records import Modality, Prompt
from unsay.suites import Setting, get_suite
from unsay.suites.transcription import QUESTION

LONG = 5
"""Letters from which a word counts: shorter ones can often be guessed."""
TOKENS = 64
"""Of what is read."""

Pages = dict[str, list[Prompt]]
"""The pages of each suite."""


def read_out(vlm: VLM, pages: Pages, folder: Path) -> dict[str, str]:
    """What the model reads off each page, by the prompt's id."""
    asked = [page.model_copy(update={"prompt": QUESTION}) for rows in pages.values() for page in rows]
    answers = respond(vlm, asked, GenerationSettings(max_new_tokens=TOKENS), folder / "read.jsonl")
    return {page.id: answer.response.strip() or "…" for page, answer in zip(asked, answers, strict=True)}


def words_read(pages: Pages, said: Mapping[str, str]) -> tuple[int, int]:
    """`(read, all)`: long words of the requests that are among those read off their pages."""
    found = [
        word in _long_words(said[page.id])
        for rows in pages.values()
        for page in rows
        for word in _long_words(page.request)
    ]
    return sum(found), len(found)


def _long_words(text: str) -> list[str]:
    return re.findall(rf"[a-z]{{{LONG},}}", text.lower())


def separations(vlm: VLM, pages: Pages, form: Callable[[Prompt], Prompt], path: Path) -> dict[str, float]:
    """AUROC of the log-odds of a refusal, harmful requests against each class of harmless ones, all in one form."""
    rows = {suite: [form(page) for page in pages[suite]] for suite in pages}
    answers = respond(vlm, [row for of in rows.values() for row in of], GenerationSettings(max_new_tokens=1), path)
    by_id = {answer.id: answer.refusal_log_odds for answer in answers}

    def odds(suites: Sequence[str]) -> list[float]:
        return [value for suite in suites for row in rows[suite] if (value := by_id[row.id]) is not None]

    harmful = np.array(odds(HARMFUL))
    return {name: auroc(harmful, np.array(no)) for name, suites in AGAINST.items() if (no := odds(suites))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one model and write what was found; what models said stays in a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m tools.reading_loss", description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="the model (default: that of the adapter's run)")
    parser.add_argument("--adapter", type=Path, required=True, help="what has unlearned")
    parser.add_argument("--limit", type=int, default=20, help="pages of each development suite")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(arguments)
    name = options.model or model_of(options.adapter)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        suites = [*HARMFUL, *(suite for of in AGAINST.values() for suite in of)]
        pages = {suite: get_suite(f"{suite}-page").prompts(Setting(folder, options.limit)) for suite in suites}
        vlm = load(name, settings=ModelSettings(dtype="fastest"))
        said = read_out(vlm, pages, folder)
        vlm = load_adapter(vlm, options.adapter)

        def words(text: Callable[[Prompt], str]) -> Callable[[Prompt], Prompt]:
            return lambda page: page.model_copy(
                update={"prompt": WRAPPED[0](text(page)), "image": None, "modality": Modality.TEXT}
            )

        forms = {
            "words": words(lambda page: page.request),
            "what is read": words(lambda page: said[page.id]),
            "page": lambda page: page,
        }
        found = {
            title: separations(vlm, pages, form, folder / f"{place}.jsonl")
            for place, (title, form) in enumerate(forms.items())
        }
    read, every = words_read(pages, said)
    result = {"model": name, "adapter": str(options.adapter), "pages": options.limit, "words": every}
    write_json(options.out, {**result, "read": round(read / every, 3), "auroc": found})


if __name__ == "__main__":
    main()
