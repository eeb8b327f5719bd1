"""PKU-Alignment's prompts: BeaverTails-Evaluation (Ji et al. 2023) and PKU-SafeRLHF (Ji et al. 2024).

BeaverTails-Evaluation (arXiv 2307.04657) has 700 prompts in 14 categories of harm. The data set on the hub holds the
same rows compressed; the plain file is that of the authors' evaluation suite.

PKU-SafeRLHF (arXiv 2406.15513): the prompts of pairs that were published for safety realignment. Textual unlearning was
first trained on PKU-SafeRLHF: a run that trains on these prompts must not ask this suite, and refuses to.
"""

from unsay.data.published import github, json_list
from unsay.data.splits import prompt_key
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

REPOSITORY = "PKU-Alignment/align-anything"
EVALUATION = github(
    "beavertails/BeaverTails-Evaluation.json",
    REPOSITORY,
    "3f9decc221be74b2052e712e3a32e155686ec6ec",
    "projects/eval-anything/eval_anything/benchmarks/safedata/BeaverTails-Evaluation.json",
    "568aac19f8615c78",
)
PAIRS = github(
    "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json",
    "xinykou/safety_realignment",
    "5a805935b6fbdd7d63cf013c622631a186c133a5",
    "llama_factory/data/pku_seferlhf_realign_dpo_5k.json",
    "deafcb69fea91daa",
)


def _evaluation() -> list[Item]:
    return [Item(row.text("prompt"), category=row.text("category")) for row in json_list(EVALUATION.find())]


def _saferlhf() -> list[Item]:
    """The distinct prompts of the 5,135 pairs, each once."""
    texts = [row.text("prompt") for row in json_list(PAIRS.find())]
    return [Item(text) for text in {prompt_key(text): text for text in reversed(texts)}.values()]


SUITE = Suite(
    name="beavertails",
    title="BeaverTails-Evaluation",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"BeaverTails-Evaluation, github.com/{REPOSITORY}",
    licence="CC BY-NC 4.0",
    items=_evaluation,
    size=700,
    files=(EVALUATION,),
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
    files=(PAIRS,),
)
