"""PKU-SafeRLHF (Ji et al. 2024, arXiv 2406.15513): the prompts of pairs that were published for safety realignment.

Textual unlearning was first trained on PKU-SafeRLHF: a run that trains on these prompts must not ask this suite, and
refuses to.
"""

from unsay.data.sources.published import github
from unsay.data.sources.reading import json_list, text_field
from unsay.data.splits import prompt_key
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

FILE = github(
    "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json",
    "xinykou/safety_realignment",
    "5a805935b6fbdd7d63cf013c622631a186c133a5",
    "llama_factory/data/pku_seferlhf_realign_dpo_5k.json",
    "deafcb69fea91daa",
)


def items() -> list[Item]:
    """The distinct prompts of the 5,135 pairs, each once.

    Raises:
        UserError: the file is not here, or is malformed.
    """
    path = FILE.find()
    texts = [
        text_field(row.get("prompt"), path, f"entry {number}: prompt")
        for number, row in enumerate(json_list(path), start=1)
    ]
    return [Item(text=text) for text in {prompt_key(text): text for text in reversed(texts)}.values()]


SUITE: Suite = Suite(
    name="pku-saferlhf",
    title="PKU-SafeRLHF prompts",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="PKU-SafeRLHF, github.com/xinykou/safety_realignment",
    licence="CC BY-NC 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=930,
    files=(FILE,),
)
