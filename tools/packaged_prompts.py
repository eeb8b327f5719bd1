"""Checks what is trained on against public suites, and packages what is near none of them.

    python -m tools.packaged_prompts                    # public_copies.txt: which harmful requests copy a suite
    python -m tools.packaged_prompts --contrast FOLDER  # instead: contrast_<subject>.jsonl from FOLDER/<subject>.jsonl

The suites are those whose texts are at hand: set UNSAY_DATA_DIR. Only counts are printed, never texts.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from unsay.data.published import Published, json_lines
from unsay.data.renderers import PLAIN_MARKS
from unsay.data.sources import shipped, wheels
from unsay.data.splits import drop_copies, drop_overlap, prompt_key
from unsay.files import write_text
from unsay.records import Kind, SourceRow
from unsay.suites import SUITES, UNLISTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m tools.packaged_prompts", description=__doc__.split("\n")[0])
    parser.add_argument("--contrast", type=Path, help="folder of <subject>.jsonl with text, subject and kind")
    folder = parser.parse_args(arguments).contrast
    if folder is None:
        write_copies(shipped.PACKAGED / "public_copies.txt")
    else:
        package_contrast(sorted(folder.glob("*.jsonl")), shipped.PACKAGED)
    return 0


def public_prompts(*kinds: Kind) -> dict[str, list[SourceRow]]:
    """The requests of every suite of these kinds that is made of public texts at hand, by suite, halves included."""
    suites = {}
    for suite in (*SUITES.values(), *UNLISTED.values()):
        texts = [file for file in suite.files if isinstance(file, Published)]
        if suite.kind in kinds and texts and all(file.here for file in texts):
            suites[suite.name] = [
                SourceRow(text=item.request or item.text, source=suite.name) for item in suite.items()
            ]
    return suites


def write_copies(path: Path) -> None:
    """Write the keys of the wheels' harmful requests that are near copies of a public suite's."""
    suites = public_prompts(Kind.ATTACK, Kind.BENIGN)
    rows = [row for source in (wheels.advbench, *wheels.HARMFUL) for row in source()]
    kept = drop_overlap(rows, *suites.values())
    copies = [row for row in rows if row not in kept]
    print(f"harmful requests: {len(rows)}, of which copies: {dict(Counter(row.source for row in copies))}")
    head = f"# Written by tools.packaged_prompts from the suites {', '.join(sorted(suites))}."
    write_text(path, "\n".join([head, *sorted({prompt_key(row.text) for row in copies})]) + "\n")


def package_contrast(paths: Sequence[Path], into: Path) -> None:
    """Write `contrast_<subject>.jsonl` without near copies of a benign public suite, each other or other files."""
    others = [row for row in shipped.contrast() if row.subject is None] + shipped.plain()
    rows = [
        SourceRow(
            # Curly quotes and dashes are other tokens than plain ones: a small model should see one spelling.
            text=" ".join(row.text("text").translate(PLAIN_MARKS).split()),
            source="contrast",
            category=row.text("kind"),
            subject=row.text("subject"),
        )
        for path in paths
        for row in json_lines(path)
    ]
    clear = drop_overlap(rows, *public_prompts(Kind.BENIGN).values())
    kept = drop_copies(clear, others)
    print(f"contrast prompts: {len(rows)}, {len(clear)} of them near no public suite, {len(kept)} near no other prompt")
    lines: defaultdict[str | None, list[str]] = defaultdict(list)
    for row in kept:
        fields = {"text": row.text, "category": row.category, "subject": row.subject}
        lines[row.subject].append(json.dumps(fields, ensure_ascii=False) + "\n")
    for subject, of_subject in lines.items():
        write_text(into / f"contrast_{subject}.jsonl", "".join(of_subject))


if __name__ == "__main__":
    sys.exit(main())
