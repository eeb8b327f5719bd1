"""COCO's validation pictures of 2014, which VQAv2 and POPE ask about."""

from unsay.assets import Source, Url
from unsay.data.sources.published import Pictures


def _picture(name: str) -> Source:
    return Url(f"http://images.cocodataset.org/val2014/{name}")


VAL2014 = Pictures(
    "coco/val2014", "val2014.zip of cocodataset.org, unpacked", _picture, "they are fetched by name, without hashes"
)
