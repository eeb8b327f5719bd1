"""Responses that people have labelled: what judges are fitted and calibrated on.

From the pinned `pyrit` wheel: `pyrit_objective` (was the harmful objective achieved?) and `pyrit_refusal` (is it a
refusal?). From a folder of benchmarks (`UNSAY_DATA_DIR`): GPTFuzz, XSTest and PKU-SafeRLHF. Every set answers its own
question only, and each function says what its labels do not mean.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from unsay.assets import ASSETS, member
from unsay.data.published import Row, csv_rows, json_list
from unsay.errors import UserError
from unsay.files import file_key, read_rows
from unsay.records import Label, LabelledResponse, Record

BY_REFUSAL_RULES: Final = frozenset(
    {"rules", "probe", "llama-guard-3", "llama-guard-3-vision", "llama-guard-4", "harmbench"}
)
"""The judges that find refusals by the rules."""

XSTEST_DEVELOPMENT: Final = frozenset({"llama2orig", "mistralinstruct"})
"""The models of XSTest whose labels were seen while the refusal rules were written."""

PUBLIC: Final = ("GPTFuzz", "XSTest", "PKU-SafeRLHF", "PyRIT")
"""How the names of the public sets begin, the first to be quoted first."""

FITTED_QUESTIONS: Final = frozenset({
    1, 4, 5, 9, 10, 11, 13, 16, 18, 23, 25, 26, 27, 32, 34, 36, 39, 40, 41, 44, 47, 48, 49, 50, 51, 54, 57, 60,
    62, 63, 64, 67, 68, 69, 70, 76, 80, 81, 82, 83, 86, 87, 88, 90, 92, 94, 97, 98,
})  # fmt: skip
"""Numbers of GPTFuzz's questions whose answers the probe was fitted on; chosen by a hash of their text."""

GPTFUZZ_ROWS: Final = "gptfuzz_labeled/train.csv"
GPTFUZZ_QUESTIONS: Final = "gptfuzz_labeled/question_list.csv"
XSTEST_COMPLETIONS: Final = "xstest/model_completions"
PKU_FILE: Final = "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json"
_SCORER_EVALS: Final = "pyrit/datasets/scorer_evals"

Value = TypeVar("Value")


@dataclass(frozen=True)
class LabelSet:
    """Responses that people labelled, and the label that is looked for.

    Attributes:
        name: for people.
        positive: the label that is set against all others.
        rows: the responses.
        fitted_by: judges that were fitted on these rows, so that their numbers here prove nothing.
        seen_by: judges whose rules were written with these rows in view, so that their numbers here prove little.
        unfit: why the numbers do not describe a judge's errors in a score; empty where they do.
        content: key of a user's file, which may be corrected under the same name; empty for published sets.
    """

    name: str
    positive: Label
    rows: tuple[LabelledResponse, ...]
    fitted_by: frozenset[str] = frozenset()
    seen_by: frozenset[str] = frozenset()
    unfit: str = ""
    content: str = ""


class _OwnRow(Record):
    """One row of a user's file of labels."""

    prompt: str
    response: str
    label: Literal["refused", "safe", "harmful", "degenerate"]
    source: str = "your labels"


def set_rank(name: str) -> int:
    """The place of a set of this name among all sets; the user's own come first."""
    return next((place for place, beginning in enumerate(PUBLIC) if name.startswith(beginning)), -1)


def label_sets(
    folder: Path | None, own: Path | None, limit: int | None = None, warn: Callable[[str], None] = lambda note: None
) -> list[LabelSet]:
    """Every labelled set at hand, the user's own first. PyRIT's are fetched; if that fails, the others will do.

    Args:
        folder: of public benchmarks; None leaves these out.
        own: a JSONL file of rows {"prompt", "response", "label"}, or None.
        limit: rows of each set at most, sampled evenly from both sides by a hash of their text.
        warn: called with what is left out, and why.

    Raises:
        UserError: a malformed file, or PyRIT's labels cannot be fetched and there are no others.
    """
    sets = _own_sets(own) if own else []
    if folder is not None:
        sets += _benchmark_sets(folder)
    try:
        sets += _pyrit_sets()
    except UserError as error:
        if not sets:
            raise
        warn(f"PyRIT's labels are left out: {error}")
    return [replace(one, rows=sample_rows(one.rows, one.positive, limit)) for one in sets]


def sample_rows(rows: Sequence[LabelledResponse], positive: Label, limit: int | None) -> tuple[LabelledResponse, ...]:
    """At most `limit` rows, half of them with the label if there are enough; the same on every machine."""
    if limit is None or len(rows) <= limit:
        return tuple(rows)
    order = sorted(rows, key=lambda row: hashlib.sha256(f"{row.prompt}\n{row.response}".encode()).hexdigest())
    yes = [row for row in order if row.label is positive]
    no = [row for row in order if row.label is not positive]
    half = min(len(yes), max(limit // 2, limit - len(no)))
    return tuple(yes[:half] + no[: limit - half])


def _own_sets(path: Path) -> list[LabelSet]:
    """One set for each label that some rows have and others do not."""
    rows = [
        LabelledResponse(prompt=row.prompt, response=row.response, label=Label(row.label), source=row.source)
        for row in read_rows(path, _OwnRow)
    ]
    if not rows:
        raise UserError(f"{path}: no rows; each line is {{'prompt', 'response', 'label'}}")
    present = {row.label for row in rows}
    if len(present) == 1:
        raise UserError(f"{path}: every row is labelled '{rows[0].label}'; measuring a judge takes two labels or more")
    wanted = [label for label in (Label.HARMFUL, Label.REFUSED, Label.DEGENERATE) if label in present]
    return [LabelSet(path.name, label, tuple(rows), content=file_key(path)) for label in wanted]


def _pyrit_sets() -> list[LabelSet]:
    objectives, refusals = tuple(pyrit_objective()), tuple(pyrit_refusal())
    unfit = "an answer to another question counts as a refusal here"
    return [
        LabelSet("PyRIT objectives", Label.HARMFUL, objectives, fitted_by=frozenset({"probe"})),
        LabelSet("PyRIT refusals", Label.REFUSED, refusals, seen_by=BY_REFUSAL_RULES, unfit=unfit),
    ]


def _gptfuzz_label_set(folder: Path) -> LabelSet:
    name, unfit = "GPTFuzz, held-out questions", ""
    rows = tuple(gptfuzz_set(folder, held_out=True))
    if not (folder / GPTFUZZ_QUESTIONS).exists():
        # A name of its own, so that it is never mistaken for what was measured with the words.
        name += f" (their words unknown: no {Path(GPTFUZZ_QUESTIONS).name})"
    if not all(row.prompt for row in rows):
        unfit = "the questions' words are not at hand, so the judge read answers to nothing"
    return LabelSet(name, Label.HARMFUL, rows, unfit=unfit)


def _benchmark_sets(folder: Path) -> list[LabelSet]:
    sets = []
    if (folder / GPTFUZZ_ROWS).exists():
        sets.append(_gptfuzz_label_set(folder))
    if (folder / XSTEST_COMPLETIONS).exists():
        rows = xstest_set(folder)
        development = [row for row in rows if row.source in XSTEST_DEVELOPMENT]
        held_out = [row for row in rows if row.source not in XSTEST_DEVELOPMENT]
        if held_out:
            sets.append(LabelSet("XSTest, held-out models", Label.REFUSED, tuple(held_out)))
        if development:
            name = "XSTest, models of the rules' development"
            sets.append(LabelSet(name, Label.REFUSED, tuple(development), seen_by=BY_REFUSAL_RULES))
    if (folder / PKU_FILE).exists():
        rows, unfit = pku_pairs(folder), "people labelled whether an answer is safe, not whether it complies"
        sets.append(LabelSet("PKU-SafeRLHF", Label.HARMFUL, tuple(rows), unfit=unfit))
    return sets


def gptfuzz_set(folder: Path, *, held_out: bool) -> list[LabelledResponse]:
    """GPTFuzz's responses to the held-out questions, or to the others; distinct, not empty.

    The file names questions by number. Their text is in `gptfuzz_labeled/question_list.csv` (from `datasets/questions/`
    of github.com/sherdencooper/GPTFuzz); without that file prompts are empty, and a judge reads answers to nothing.
    """
    questions = folder / GPTFUZZ_QUESTIONS
    text = {}
    if questions.exists():
        text = {row["index"]: row["text"] for row in csv_rows(questions, ("index", "text"))}
    rows = {}
    for row in csv_rows(folder / GPTFUZZ_ROWS, ("question", "Response", "label")):
        number, response = row["question"].strip(), row["Response"].strip()
        if not response or not number.isdigit() or (int(number) in FITTED_QUESTIONS) is held_out:
            continue
        label = Label.HARMFUL if row["label"].strip() == "1" else Label.SAFE
        answer = _labelled(text.get(number, ""), response, label, "gptfuzz/train.csv")
        rows[number, response, label] = answer.model_copy(update={"group": f"question {number}"})
    return list(rows.values())


def xstest_set(folder: Path) -> list[LabelledResponse]:
    """Full refusals and full compliances of all models, each named in `source`; partial refusals are left out.

    Over-refusal is corrected by this set, though most of its refusals are of *unsafe* prompts; `docs/judges.md` says
    what follows.
    """
    rows = []
    meanings = {"1_full_compliance": Label.SAFE, "2_full_refusal": Label.REFUSED}
    for path in sorted((folder / XSTEST_COMPLETIONS).glob("*.csv")):
        for row in csv_rows(path, ("prompt", "completion", "final_label")):
            if label := meanings.get(row["final_label"]):
                model = path.stem.removeprefix("xstest_v2_completions_")
                rows.append(_labelled(row["prompt"], row["completion"], label, model))
    return rows


def pyrit_objective() -> list[LabelledResponse]:
    """394 distinct responses to harmful objectives; people judged whether the response achieves the objective.

    `HARMFUL` where it does. `SAFE` means only that it does not: such a response may as well be a refusal.
    """
    return _pyrit("objective", {"1": Label.HARMFUL, "0": Label.SAFE})


def pyrit_refusal() -> list[LabelledResponse]:
    """169 distinct responses to all sorts of requests; people judged whether the response refuses.

    `REFUSED` where it does. `SAFE` means only that it is no refusal: it may as well be a harmful answer.
    """
    return _pyrit("refusal_scorer", {"1": Label.REFUSED, "0": Label.SAFE})


def pku_pairs(folder: Path) -> list[LabelledResponse]:
    """PKU-SafeRLHF's pairs, one of each prompt: a `SAFE` and a `HARMFUL` answer, one after the other.

    People judged whether the answer is safe to give, not whether it complies: a refusal with a bad reason can be
    unsafe, and compliance can be harmless. The order has nothing to do with the rows' meaning.
    """
    pairs: dict[str, tuple[str, str]] = {}
    for row in json_list(folder / PKU_FILE):
        answers = row.get("response")
        if not isinstance(answers, list) or len(answers) != 2:
            raise row.error("response: two answers were expected")
        safe, unsafe = (Row({"response": answer}, row.where).text("response") for answer in answers)
        pairs.setdefault(row.text("prompt"), (safe, unsafe))
    return [
        _labelled(prompt, answer, label, "pku/pairs")
        for prompt in sorted(pairs, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
        for answer, label in zip(pairs[prompt], (Label.SAFE, Label.HARMFUL), strict=True)
    ]


def _pyrit(folder: str, labels: Mapping[str, Label]) -> list[LabelledResponse]:
    rows = []
    for item in ASSETS["pyrit"].members:
        if not item.path.startswith(f"{_SCORER_EVALS}/{folder}/"):
            continue
        path = member("pyrit", item.path)
        for row in csv_rows(path, ("objective", "assistant_response", "human_score")):
            label = _lookup(labels, row, "human_score")
            rows.append(_labelled(row["objective"], row["assistant_response"], label, f"pyrit/{folder}/{path.name}"))
    return list(dict.fromkeys(rows))


def _labelled(prompt: str, response: str, label: Label, source: str) -> LabelledResponse:
    return LabelledResponse(prompt=prompt, response=response, label=label, source=source)


def _lookup(labels: Mapping[str, Value], row: Row, column: str) -> Value:
    value = row[column].strip()
    if value not in labels:
        raise row.error(f"{value[:20]!r} is no label; one of {', '.join(labels)}")
    return labels[value]
