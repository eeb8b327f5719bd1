"""The table of `docs/families.md`: made from a run of tests/models/test_families.py, never by hand.

python tests/helpers/families/matrix.py          # runs the tests and writes the table
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

TESTS = Path(__file__).parents[2]
PAGE = TESTS.parent / "docs" / "families.md"
BEGIN, END = "<!-- families:begin -->", "<!-- families:end -->"

CHECKS = {
    "test_loads_with_everything_frozen": "loads",
    "test_scores_exactly_the_answer_and_its_end": "scores the answer and its end",
    "test_learns_from_text_with_the_language_model_alone": "text step, language model alone",
    "test_adapter_changes_what_it_says": "adapter acts",
    "test_says_another_thing_of_another_picture": "picture matters",
    "test_plain_peft_loads_the_adapter": "plain peft",
    "test_merged_checkpoint_says_the_same": "merged export",
}
"""Test of tests/models/test_families.py → its column."""


def table(outcomes: dict[tuple[str, str], str], checkpoints: dict[str, str]) -> str:
    """Markdown: a row per family, a column per check.

    Args:
        outcomes: (family, test) → `yes`, or what else came of it.
        checkpoints: family → the published checkpoint whose layout it has.
    """
    head = ["Family", "laid out as", *CHECKS.values()]
    rows = [head, ["---"] * len(head)]
    for family, checkpoint in checkpoints.items():
        rows.append([family, f"`{checkpoint}`", *(outcomes.get((family, test), "not run") for test in CHECKS)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def read_table(page: str) -> dict[tuple[str, str], str]:
    """(family, check) → cell, of a page."""
    lines = page.split(BEGIN)[1].split(END)[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, *rows = cells[:1] + cells[2:]
    return {(row[0], head[column]): row[column] for row in rows for column in range(2, len(head))}


def outcomes_of(report: Path) -> dict[tuple[str, str], str]:
    """What a JUnit file of pytest says."""
    found = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        named = re.fullmatch(r"(\w+)\[(.+)\]", case.get("name", ""))
        if named:
            child = next(iter(case), None)
            skipped = child is not None and child.tag == "skipped"
            found[named[2], named[1]] = "yes" if child is None else "not run" if skipped else "**no**"
    return found


def main() -> int:
    """Run the tests, write the table; the exit code is pytest's."""
    sys.path.insert(0, str(TESTS))
    from helpers.families import FAMILIES

    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        plugin = ("-p", "torchvision_beside_torch")
        command = [
            sys.executable,
            "-m",
            "pytest",
            *plugin,
            f"--junitxml={report}",
            str(TESTS / "models/test_families.py"),
        ]
        code = subprocess.run([*command, "-k", " or ".join(CHECKS)], cwd=TESTS).returncode
        outcomes = outcomes_of(report)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    made = table(outcomes, {family.name: family.checkpoint for family in FAMILIES.values()})
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
