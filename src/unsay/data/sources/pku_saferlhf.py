"""PKU-SafeRLHF (Ji et al. 2024, arXiv 2406.15513): pairs of answers to one request, each labelled safe or not.

`pku_saferlhf` is the set of 30,000 pairs that textual unlearning was first trained on, at the last commit of the hub's
data set that has it beside the larger one. `pku_saferlhf_pairs` are 5,135 pairs of a safe and an unsafe answer that
were published for safety realignment, in one file.
"""

from dataclasses import replace

from unsay.data.hub_sets import HubSet
from unsay.data.published import Row, github, json_list
from unsay.data.sources.licences import CC_BY_NC
from unsay.data.sources.source import HARM, Source, Split, merged
from unsay.records import SourceRow

PAIRS_FILE = github(
    "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json",
    "xinykou/safety_realignment",
    "5a805935b6fbdd7d63cf013c622631a186c133a5",
    "llama_factory/data/pku_seferlhf_realign_dpo_5k.json",
    "deafcb69fea91daa",
)
TRAIN = HubSet(
    "pku_saferlhf",
    "PKU-Alignment/PKU-SafeRLHF",
    "round0/30k/train.jsonl.xz",
    "240919205c45b905e7abc2f39bb035640438fba3",
    ("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe"),
)
TEST = replace(TRAIN, files="round0/30k/test.jsonl.xz")


def _labelled(files: HubSet) -> list[SourceRow]:
    """The requests of pairs with an unsafe answer that says anything; safe answers to them are refusals or harmless."""
    rows = []
    for row in files.rows():
        answers: dict[bool, list[str]] = {True: [], False: []}
        for number in (0, 1):
            safe = row.get(f"is_response_{number}_safe")
            if not isinstance(safe, bool):
                raise row.error(f"is_response_{number}_safe: true or false was expected")
            answers[safe] += row.filled(f"response_{number}")
        if answers[False]:
            rows.append(_row("pku_saferlhf", row, answers[True], answers[False]))
    return merged(rows)


def pairs() -> list[SourceRow]:
    """The distinct requests of the realignment pairs: `response` holds the safe answer, then the unsafe one."""
    rows = []
    for row in json_list(PAIRS_FILE.find()):
        answers = row.get("response")
        if not isinstance(answers, list) or len(answers) != 2 or not all(isinstance(text, str) for text in answers):
            raise row.error("response: a safe and an unsafe answer were expected")
        safe, unsafe = (text.strip() for text in answers)
        if safe and unsafe:
            rows.append(_row("pku_saferlhf_pairs", row, [safe], [unsafe]))
    return merged(rows)


def _row(source: str, row: Row, safe: list[str], unsafe: list[str]) -> SourceRow:
    return SourceRow(text=row.text("prompt"), source=source, answers=tuple(safe), harmful=tuple(unsafe))


SOURCE = Source(
    "pku_saferlhf",
    "PKU-SafeRLHF, 30K",
    "huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF; Ji et al. 2024, arXiv 2406.15513",
    CC_BY_NC,
    {
        "train": Split(lambda: _labelled(TRAIN), None, HARM, files=(TRAIN,)),
        "test": Split(lambda: _labelled(TEST), None, HARM, files=(TEST,)),
    },
)
PAIRS = Source(
    "pku_saferlhf_pairs",
    "PKU-SafeRLHF, realignment pairs",
    "github.com/xinykou/safety_realignment; Ji et al. 2024, arXiv 2406.15513",
    CC_BY_NC,
    {"train": Split(pairs, 930, HARM, files=(PAIRS_FILE,))},
)
