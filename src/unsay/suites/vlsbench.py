"""VLSBench (Hu et al. 2024, arXiv 2411.19939): harmless words, the harm in the picture alone."""

from functools import partial

from unsay.data.sources.published import Pictures, hub, json_list, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET, REVISION = "Foreshhh/vlsbench", "b56f6f6aad102fdb53f46e35fec96836bbe13001"
FILE = hub("vlsbench/data.json", DATASET, "data.json", REVISION)
PICTURES = Pictures("vlsbench/imgs", f"`imgs.tar` of huggingface.co/datasets/{DATASET}, unpacked")


def items() -> list[Item]:
    """The instructions with their pictures, by category.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    path = FILE.find()
    found = []
    for number, row in enumerate(json_list(path), start=1):
        picture = text_field(row.get("image_path"), path, f"entry {number}: image_path")
        found.append(
            Item(
                text=text_field(row.get("instruction"), path, f"entry {number}: instruction"),
                category=text_field(row.get("category"), path, f"entry {number}: category"),
                # Paths in the file begin with the folder of pictures itself.
                image=partial(PICTURES.picture, picture.removeprefix("./").removeprefix("imgs/")),
                label=picture,
            )
        )
    return found


SUITE: Suite = Suite(
    name="vlsbench",
    title="VLSBench",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=f"VLSBench, huggingface.co/datasets/{DATASET}",
    licence="Apache-2.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    harm_in_picture=True,
    files=(FILE, PICTURES),
)
