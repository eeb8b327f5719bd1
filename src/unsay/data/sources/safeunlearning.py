"""Safe Unlearning (Zhang et al. 2024, arXiv 2407.02855): 100 harmful requests with 5 answers each, and 500 normal ones.

The texts stand in Vicuna's conversation format, which is taken off: every model has a chat template of its own.
"""

from unsay.data.published import Row, github, json_list
from unsay.data.sources.licences import UNSTATED
from unsay.data.sources.source import HARM, NORMAL, Source, Split, merged
from unsay.records import SourceRow

FILE = github(
    "safeunlearning/train.json",
    "thu-coai/SafeUnlearning",
    "20b41bea509bc022861d076a2c418e1a575bf271",
    "data/ft_full_data/vicuna_format/train.json",
)
USER, ASSISTANT = "USER: ", " ASSISTANT:"
NORMAL_TYPE, HARMFUL_TYPE, REFUSAL_TYPE = 0, 1, 2
"""Values of `type`."""


def _rows(harmful: bool) -> list[SourceRow]:
    rows = []
    for row in json_list(FILE.find()):
        kind, answer = row.get("type"), (row.text("output"),)
        if kind not in (NORMAL_TYPE, HARMFUL_TYPE, REFUSAL_TYPE):
            raise row.error("type: 0, 1 or 2 was expected")
        if harmful == (kind != NORMAL_TYPE):
            known = {"harmful": answer} if kind == HARMFUL_TYPE else {"answers": answer}
            rows.append(SourceRow(text=_request(row), source="safeunlearning", **known))
    return merged(rows)


def _request(row: Row) -> str:
    """What the user says; the format stands around it."""
    _, user, rest = row.text("input").partition(USER)
    if not user or not rest.endswith(ASSISTANT):
        raise row.error("input: a turn of USER and ASSISTANT was expected")
    return rest.removesuffix(ASSISTANT).strip()


SOURCE = Source(
    "safeunlearning",
    "Safe Unlearning",
    "github.com/thu-coai/SafeUnlearning; Zhang et al. 2024, arXiv 2407.02855",
    UNSTATED,
    {
        "harmful": Split(lambda: _rows(True), 100, HARM, files=(FILE,)),
        "benign": Split(lambda: _rows(False), 500, NORMAL, files=(FILE,)),
    },
)
