"""Writes the golden files, hashes of today's outputs on fixed inputs, and the pages' lists of suites, sources, checks.

    python -m tools.golden

Outputs that changed while their version did not are refused: raise the VERSION that the message names first. Where the
fixed inputs have changed instead, remove the golden file and run this again.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tools import checks_table, sources_table, suites_table

ROOT = Path(__file__).parents[1]
GOLDEN = {
    "tests/data/golden.json": "helpers.golden_sources",
    "tests/judges/golden.json": "helpers.golden_judges",
    "tests/methods/golden.json": "helpers.golden_methods",
    "tests/suites/golden.json": "helpers.golden_suites",
}
"""Each golden file, and the module whose `OUTPUTS` it is written from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every golden file; 1 if outputs changed under an old version."""
    parser = argparse.ArgumentParser(prog="python -m tools.golden", description=__doc__.split("\n")[0])
    parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "tests"))
    golden = import_module("helpers.golden")
    suites_table.write()
    sources_table.write()
    checks_table.write()
    failures = 0
    for file, module in GOLDEN.items():
        stale = golden.write(ROOT / file, import_module(module).OUTPUTS)
        for name in stale:
            print(f"{file}: outputs of '{name}' changed: raise its VERSION, then run this again")
        failures += len(stale)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
