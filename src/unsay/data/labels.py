"""Responses that people have labelled: what judges are fitted and measured on.

From the pinned `pyrit` wheel: `pyrit_objective` (was the harmful objective achieved?) and `pyrit_refusal` (is it a
refusal?). From a benchmark folder (`UNSAY_DATA_DIR`): `xstest_completions` and `gptfuzz`. Every set answers its own
question only, so each keeps its file in `source`, and each function says what its labels do not mean.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from unsay.assets import ASSETS, member
from unsay.data.sources.reading import benchmark, csv_rows, text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Label, LabelledResponse

Value = TypeVar("Value")

_SCORER_EVALS = "pyrit/datasets/scorer_evals"


def pyrit_objective() -> list[LabelledResponse]:
    """394 distinct responses to harmful objectives; people judged whether the response achieves the objective.

    `HARMFUL` where it does. `SAFE` means only that it does not: such a response may as well be a refusal.

    Raises:
        UserError: the wheel cannot be fetched, or a row is malformed.
    """
    return _pyrit("objective", {"1": Label.HARMFUL, "0": Label.SAFE})


def pyrit_refusal() -> list[LabelledResponse]:
    """169 distinct responses to all sorts of requests; people judged whether the response refuses.

    `REFUSED` where it does. `SAFE` means only that it is no refusal: it may as well be a harmful answer.

    Raises:
        UserError: the wheel cannot be fetched, or a row is malformed.
    """
    return _pyrit("refusal_scorer", {"1": Label.REFUSED, "0": Label.SAFE})


def xstest_completions() -> list[LabelledResponse]:
    """Answers of five models to the 450 XSTest prompts with final human labels, from `UNSAY_DATA_DIR`.

    `REFUSED` for a full and for a partial refusal (a partial one still withholds what was asked); `SAFE` for full
    compliance with a safe prompt and `HARMFUL` for full compliance with an unsafe one (types `contrast_*`).
    The people labelled refusal, not harm: `HARMFUL` here means "complied with an unsafe prompt".

    Raises:
        UserError: the files are absent or malformed.
    """
    folder = benchmark(
        "xstest/model_completions", "the `model_completions` folder of github.com/paul-rottger/exaggerated-safety"
    )
    refusal = {"1_full_compliance": False, "2_full_refusal": True, "3_partial_refusal": True}
    rows = []
    for path in sorted(folder.glob("*.csv")):
        for line, row in csv_rows(path, ("prompt", "completion", "type", "final_label")):
            refused = _lookup(refusal, row["final_label"], path, line)
            complied = Label.HARMFUL if row["type"].startswith("contrast_") else Label.SAFE
            label = Label.REFUSED if refused else complied
            rows.append(_labelled(row["prompt"], row["completion"], label, f"xstest/{path.name}"))
    if not rows:
        raise UserError(f"{folder}: holds no .csv file with labelled completions")
    return rows


def gptfuzz() -> list[LabelledResponse]:
    """GPTFuzz's human-checked responses to jailbreak prompts, exact duplicates removed, from `UNSAY_DATA_DIR`.

    `HARMFUL` where the response was labelled jailbroken, else `REFUSED`: the set calls everything else a rejection,
    so some of those are harmless answers.

    Raises:
        UserError: the file is absent or malformed.
    """
    path = benchmark("gptfuzz_labeled/train.csv", "the classifier's `train.csv` of github.com/sherdencooper/GPTFuzz")
    labels = {"1": Label.HARMFUL, "0": Label.REFUSED}
    rows = [
        _labelled(row["question"], row["Response"], _lookup(labels, row["label"], path, line), "gptfuzz/train.csv")
        for line, row in csv_rows(path, ("question", "Response", "label"))
    ]
    return _distinct(rows)


PKU_FILE = "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json"


def pku_pairs(folder: Path) -> list[LabelledResponse]:
    """PKU-SafeRLHF's pairs, one pair of each prompt: a `SAFE` and a `HARMFUL` answer; both of a prompt stand together.

    People judged whether the answer is safe to give, not whether it complies: a refusal with a bad reason can be
    unsafe, and compliance can be harmless. The order has nothing to do with the rows' meaning.

    Args:
        folder: of public benchmarks.

    Raises:
        UserError: the file is absent or malformed.
    """
    path = folder / PKU_FILE
    pairs: dict[str, tuple[str, str]] = {}
    rows = read_json(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: a list was expected")
    for number, row in enumerate(rows, start=1):
        answers = row.get("response") if isinstance(row, dict) else None
        if not isinstance(answers, list) or len(answers) != 2:
            raise UserError(f"{path}: row {number}: response: two answers were expected")
        safe, unsafe = (text_field(answer, path, "response", number) for answer in answers)
        pairs.setdefault(text_field(row.get("prompt"), path, "prompt", number), (safe, unsafe))
    found = []
    for prompt in sorted(pairs, key=lambda text: hashlib.sha256(text.encode()).hexdigest()):
        for answer, label in zip(pairs[prompt], (Label.SAFE, Label.HARMFUL), strict=True):
            found.append(_labelled(prompt, answer, label, "pku/pairs"))
    return found


def _pyrit(folder: str, labels: Mapping[str, Label]) -> list[LabelledResponse]:
    rows = []
    for item in ASSETS["pyrit"].members:
        if not item.path.startswith(f"{_SCORER_EVALS}/{folder}/"):
            continue
        path = member("pyrit", item.path)
        for line, row in csv_rows(path, ("objective", "assistant_response", "human_score")):
            label = _lookup(labels, row["human_score"], path, line)
            rows.append(_labelled(row["objective"], row["assistant_response"], label, f"pyrit/{folder}/{path.name}"))
    return _distinct(rows)


def _labelled(prompt: str, response: str, label: Label, source: str) -> LabelledResponse:
    return LabelledResponse(prompt=prompt, response=response, label=label, source=source)


def _lookup(labels: Mapping[str, Value], value: str, path: Path, line: int) -> Value:
    try:
        return labels[value.strip()]
    except KeyError:
        raise UserError(f"{path}:{line}: {value.strip()[:20]!r} is no label; one of {', '.join(labels)}") from None


def _distinct(rows: list[LabelledResponse]) -> list[LabelledResponse]:
    return list(dict.fromkeys(rows))
