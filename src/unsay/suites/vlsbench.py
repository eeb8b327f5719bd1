"""VLSBench (Hu et al. 2024, arXiv 2411.19939): harmless words, the harm in the picture alone."""

from functools import partial

from unsay.data.published import Pictures, hub, json_list
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

DATASET, REVISION = "Foreshhh/vlsbench", "b56f6f6aad102fdb53f46e35fec96836bbe13001"
FILE = hub("vlsbench/data.json", DATASET, "data.json", REVISION)
PICTURES = Pictures("vlsbench/imgs", f"`imgs.tar` of huggingface.co/datasets/{DATASET}, unpacked")


def _items() -> list[Item]:
    return [
        Item(
            row.text("instruction"),
            category=row.text("category"),
            # Paths in the file begin with the folder of pictures itself.
            image=partial(PICTURES.picture, row.text("image_path").removeprefix("./").removeprefix("imgs/")),
            label=row.text("image_path"),
        )
        for row in json_list(FILE.find())
    ]


SUITE = Suite(
    name="vlsbench",
    title="VLSBench",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=f"VLSBench, huggingface.co/datasets/{DATASET}",
    licence="Apache-2.0",
    items=_items,
    harm_in_picture=True,
    files=(FILE, PICTURES),
)
