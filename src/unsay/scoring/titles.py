"""Readable names for suites that were given none."""


def plain_title(suite: str) -> str:
    """`advbench_heldout` becomes `Advbench heldout`; a name that already holds capitals keeps them."""
    words = suite.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]
