"""BeaverTails (Ji et al. 2023, arXiv 2307.04657) and PKU-SafeRLHF (Ji et al. 2024, arXiv 2406.15513).

BeaverTails-Evaluation (Ji et al. 2023, arXiv 2307.04657): 700 prompts in 14 categories of harm.

Their data set on the hub holds the same rows compressed; the plain file is that of their evaluation suite.

PKU-SafeRLHF (Ji et al. 2024, arXiv 2406.15513): the prompts of pairs that were published for safety realignment.

Textual unlearning was first trained on PKU-SafeRLHF: a run that trains on these prompts must not ask this suite, and
refuses to.
"""

from unsay.data.sources.published import github, json_list, text_field
from unsay.data.splits import prompt_key
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY = "PKU-Alignment/align-anything"
FILE = github(
    "beavertails/BeaverTails-Evaluation.json",
    REPOSITORY,
    "3f9decc221be74b2052e712e3a32e155686ec6ec",
    "projects/eval-anything/eval_anything/benchmarks/safedata/BeaverTails-Evaluation.json",
    "568aac19f8615c78",
)


def items() -> list[Item]:
    """The prompts.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(
            text=text_field(row.get("prompt"), path, f"entry {number}: prompt"),
            category=text_field(row.get("category"), path, f"entry {number}: category"),
        )
        for number, row in enumerate(json_list(path), start=1)
    ]


SUITE: Suite = Suite(
    name="beavertails",
    title="BeaverTails-Evaluation",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"BeaverTails-Evaluation, github.com/{REPOSITORY}",
    licence="CC BY-NC 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=700,
    files=(FILE,),
)


PKU_FILE = github(
    "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json",
    "xinykou/safety_realignment",
    "5a805935b6fbdd7d63cf013c622631a186c133a5",
    "llama_factory/data/pku_seferlhf_realign_dpo_5k.json",
    "deafcb69fea91daa",
)


def pku_items() -> list[Item]:
    """The distinct prompts of the 5,135 pairs, each once.

    Raises:
        UserError: the file is not here, or is malformed.
    """
    path = PKU_FILE.find()
    texts = [
        text_field(row.get("prompt"), path, f"entry {number}: prompt")
        for number, row in enumerate(json_list(path), start=1)
    ]
    return [Item(text=text) for text in {prompt_key(text): text for text in reversed(texts)}.values()]


PKU_SAFERLHF: Suite = Suite(
    name="pku-saferlhf",
    title="PKU-SafeRLHF prompts",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="PKU-SafeRLHF, github.com/xinykou/safety_realignment",
    licence="CC BY-NC 4.0",
    prompts=lambda setting: listed(PKU_SAFERLHF, pku_items(), setting),
    size=930,
    files=(PKU_FILE,),
)
