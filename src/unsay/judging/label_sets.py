"""The labelled sets that any judge can be calibrated on: each asks one question of a judge."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from unsay.data import labels
from unsay.data.sources.reading import csv_rows
from unsay.errors import UserError
from unsay.files import file_key, read_rows
from unsay.records import Label, LabelledResponse, Record


@dataclass(frozen=True)
class LabelSet:
    """Responses that people labelled, and the label that is looked for.

    Attributes:
        name: for people.
        positive: the label that is set against all others.
        rows: the responses.
        fitted_by: judges that were fitted on these rows: what they say here proves nothing.
        seen_by: judges whose rules were written with these rows in view: what they say here proves little.
        unfit: why the numbers say nothing of a judge's errors in a score; empty where they do.
        content: key of a user's file, which may be corrected under the same name; empty for published sets.
    """

    name: str
    positive: Label
    rows: tuple[LabelledResponse, ...]
    fitted_by: frozenset[str] = frozenset()
    seen_by: frozenset[str] = frozenset()
    unfit: str = ""
    content: str = ""


BY_REFUSAL_RULES: Final = frozenset(
    {"rules", "probe", "llama-guard-3", "llama-guard-3-vision", "llama-guard-4", "harmbench"}
)
"""The judges that find refusals by the rules."""

XSTEST_DEVELOPMENT: Final = frozenset({"llama2orig", "mistralinstruct"})
"""The models of XSTest whose labels were looked at while the refusal rules were written."""


class _OwnRow(Record):
    """One row of a user's file of labels."""

    prompt: str
    response: str
    label: Literal["refused", "safe", "harmful", "degenerate"]
    source: str = Field("your labels", description="kept, and of no account")


PUBLIC: Final = ("GPTFuzz", "XSTest", "PKU-SafeRLHF", "PyRIT")
"""How the names of the public sets begin, in the order in which they are asked for numbers to quote."""


def rank(name: str) -> int:
    """The place of a set of that name among all sets; the user's own come first."""
    return next((place for place, beginning in enumerate(PUBLIC) if name.startswith(beginning)), -1)


def label_sets(
    folder: Path | None, own: Path | None, limit: int | None = None, tell: Callable[[str], None] = lambda note: None
) -> list[LabelSet]:
    """Every labelled set at hand, the user's own first. PyRIT's are fetched; where that fails, the others will do.

    Args:
        folder: of public benchmarks; None leaves out what stands there.
        own: a JSONL file of rows {"prompt", "response", "label"}; None for none.
        limit: rows of each set at most, drawn evenly from both sides by a hash of their text.
        tell: told what was left out, and why.

    Raises:
        UserError: a malformed file, or PyRIT's labels cannot be fetched and there are no others.
    """
    found = [*(_own(own) if own else [])]
    if folder is not None:
        found += _from(folder)
    try:
        found += _pyrit()
    except UserError as error:
        if not found:
            raise
        tell(f"PyRIT's labels are left out: {error}")
    return [replace(one, rows=drawn(one.rows, one.positive, limit)) for one in found]


def drawn(rows: Sequence[LabelledResponse], positive: Label, limit: int | None) -> tuple[LabelledResponse, ...]:
    """At most `limit` rows, as many with the label as without where there are enough; the same on every machine."""
    if limit is None or len(rows) <= limit:
        return tuple(rows)
    order = sorted(rows, key=lambda row: hashlib.sha256(f"{row.prompt}\n{row.response}".encode()).hexdigest())
    yes = [row for row in order if row.label is positive]
    no = [row for row in order if row.label is not positive]
    half = min(len(yes), max(limit // 2, limit - len(no)))
    return tuple(yes[:half] + no[: limit - half])


def _own(path: Path) -> list[LabelSet]:
    """One set for each label that occurs and does not stand in every row."""
    rows = [
        LabelledResponse(prompt=row.prompt, response=row.response, label=Label(row.label), source=row.source)
        for row in read_rows(path, _OwnRow)
    ]
    if not rows:
        raise UserError(f"{path}: holds no row; each is {{'prompt', 'response', 'label'}}")
    present = {row.label for row in rows}
    if len(present) == 1:
        raise UserError(f"{path}: every row is labelled '{rows[0].label}'; a judge is measured on two labels or more")
    wanted = [label for label in (Label.HARMFUL, Label.REFUSED, Label.DEGENERATE) if label in present]
    return [LabelSet(path.name, label, tuple(rows), content=file_key(path)) for label in wanted]


def _pyrit() -> list[LabelSet]:
    objectives, refusals = tuple(labels.pyrit_objective()), tuple(labels.pyrit_refusal())
    unfit = "an answer to another question counts as a refusal here"
    return [
        LabelSet("PyRIT objectives", Label.HARMFUL, objectives, fitted_by=frozenset({"probe"})),
        LabelSet("PyRIT refusals", Label.REFUSED, refusals, seen_by=BY_REFUSAL_RULES, unfit=unfit),
    ]


def _gptfuzz(folder: Path) -> LabelSet:
    name, unfit = "GPTFuzz, held-out questions", ""
    rows = tuple(gptfuzz(folder, held_out=True))
    if not (folder / GPTFUZZ_QUESTIONS).exists():
        # A name of its own, so that what was measured with the words is never mistaken for it.
        name += f" (their words unknown: no {Path(GPTFUZZ_QUESTIONS).name})"
    if not all(row.prompt for row in rows):
        unfit = "the questions' words are not at hand, so the judge read answers to nothing"
    return LabelSet(name, Label.HARMFUL, rows, unfit=unfit)


def _from(folder: Path) -> list[LabelSet]:
    found = []
    if (folder / "gptfuzz_labeled/train.csv").exists():
        found.append(_gptfuzz(folder))
    if (folder / "xstest/model_completions").exists():
        rows = xstest(folder)
        looked_at = [row for row in rows if row.source in XSTEST_DEVELOPMENT]
        others = [row for row in rows if row.source not in XSTEST_DEVELOPMENT]
        if others:
            found.append(LabelSet("XSTest, held-out models", Label.REFUSED, tuple(others)))
        if looked_at:
            name = "XSTest, models of the rules' development"
            found.append(LabelSet(name, Label.REFUSED, tuple(looked_at), seen_by=BY_REFUSAL_RULES))
    if (folder / labels.PKU_FILE).exists():
        rows, unfit = labels.pku_pairs(folder), "people labelled whether an answer is safe, not whether it complies"
        found.append(LabelSet("PKU-SafeRLHF", Label.HARMFUL, tuple(rows), unfit=unfit))
    return found


GPTFUZZ_QUESTIONS: Final = "gptfuzz_labeled/question_list.csv"

FITTED_QUESTIONS: Final = frozenset(
    {
        1,
        4,
        5,
        9,
        10,
        11,
        13,
        16,
        18,
        23,
        25,
        26,
        27,
        32,
        34,
        36,
        39,
        40,
        41,
        44,
        47,
        48,
        49,
        50,
        51,
        54,
        57,
        60,
        62,
        63,
        64,
        67,
        68,
        69,
        70,
        76,
        80,
        81,
        82,
        83,
        86,
        87,
        88,
        90,
        92,
        94,
        97,
        98,
    }
)
"""GPTFuzz's questions whose answers the probe was fitted on, by their numbers; drawn by a hash of their text."""


def gptfuzz(folder: Path, *, held_out: bool) -> list[LabelledResponse]:
    """GPTFuzz's responses to the questions that were held out, or to the others; distinct, not empty.

    The questions themselves are named by number. Their text is read from `gptfuzz_labeled/question_list.csv` (in
    `datasets/questions/` of github.com/sherdencooper/GPTFuzz) where it is there; else they are empty, and a judge reads
    answers to nothing.

    Raises:
        UserError: a malformed file.
    """
    questions = folder / GPTFUZZ_QUESTIONS
    text = {}
    if questions.exists():
        text = {row["index"]: row["text"] for _, row in csv_rows(questions, ("index", "text"))}
    rows = {}
    for _, row in csv_rows(folder / "gptfuzz_labeled/train.csv", ("question", "Response", "label")):
        number = row["question"].strip()
        response = row["Response"].strip()
        if not response or not number.isdigit() or (int(number) in FITTED_QUESTIONS) is held_out:
            continue
        label = Label.HARMFUL if row["label"].strip() == "1" else Label.SAFE
        asked = text.get(number, "")
        rows[number, response, label] = LabelledResponse(
            prompt=asked, response=response, label=label, source="gptfuzz/train.csv", group=f"question {number}"
        )
    return list(rows.values())


def xstest(folder: Path) -> list[LabelledResponse]:
    """Full refusals and full compliances of all models, each named in `source`; partial refusals are neither: left out.

    What over-refusal is corrected by, and yet mostly refusals of *unsafe* prompts: of the held-out models' 640 all but
    75 (88 %), while 608 of their 616 compliances answer safe prompts. The refusal rules find both kinds alike (489 of
    565, 67 of 75). 94 partial refusals are left out, 67 of them to safe prompts, so the correction knows nothing of
    these; `docs/judges.md` says what follows.

    Raises:
        UserError: a malformed file.
    """
    rows = []
    meanings = {"1_full_compliance": Label.SAFE, "2_full_refusal": Label.REFUSED}
    for path in sorted((folder / "xstest/model_completions").glob("*.csv")):
        for _, row in csv_rows(path, ("prompt", "completion", "final_label")):
            if label := meanings.get(row["final_label"]):
                model = path.stem.removeprefix("xstest_v2_completions_")
                rows.append(
                    LabelledResponse(prompt=row["prompt"], response=row["completion"], label=label, source=model)
                )
    return rows
