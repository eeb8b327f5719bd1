"""English that no native engineer writes, as far as a pattern can tell it from English that one does."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *(path for suffix in ("py", "j2", "yaml") for path in (ROOT / "src").rglob(f"*.{suffix}")),
        *(ROOT / "tools").rglob("*.py"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
)
VERB = r"(is|are|was|were|has|have|had|can|cannot|may|might|must|would|will|does|do|did|could)"
BANNED = {
    "because": [
        r", for (it|they|there|nobody|that (is|was|would))\b",
        rf", for (the|an?|each|some|its|no|these|such|every|all|one) (?!(rest|case)\b)"
        rf"((?!(that|which|who|where|whose)\b)[\w'`-]+ ){{1,5}}{VERB}\b",
        r"\bfor to\b",
    ],
    "otherwise": [r"\bElse\b"],
    "so that … not": [r"\blest\b"],
    "unknown, or missing": [r"\bthat there (is|are) not\b", r"\bwhat there (is|are)\b"],
    "ignored, or does not matter": [r"\bof no account\b"],
    "is not available, or cannot be read": [r"\bcannot be had\b"],
    "called with, or reports": [r"\btold what\b"],
    "appears twice": [r"\bstands? twice\b"],
    "original model": [r"\buntrained models?\b"],
}
"""What to write → patterns of what not to write. A space also matches a line break, in comments and strings too."""
GAP = r"""(?:\s|"\s*\n\s*f?"|\n\s*#)+"""


def hits(text: str, pattern: str) -> list[tuple[int, str]]:
    """Line and text of each match."""
    found = re.finditer(pattern.replace(" ", GAP), text)
    return [(text.count("\n", 0, match.start()) + 1, " ".join(match[0].split())) for match in found]


@pytest.mark.parametrize("better", BANNED)
def test_plain_english(better: str) -> None:
    lines = [
        f"{page.relative_to(ROOT)}:{line}: '{words}': write: {better}"
        for page in PAGES
        for pattern in BANNED[better]
        for line, words in hits(page.read_text(encoding="utf-8"), pattern)
    ]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It stops, for it has no data.", 1),
        ("# It stops, for\n# it has no data.", 1),
        ('"It stops, for "\n    "the file is gone."', 1),
        ("A judge is not told, for nobody asks.", 1),
        ("A folder, for the suites that need it, is made.", 0),
        ("One for each role that is trained, for the page.", 0),
        ("The path, for the rest, is as it was.", 0),
    ],
)
def test_only_the_for_that_means_because_is_found(text: str, number: int) -> None:
    assert sum(len(hits(text, pattern)) for pattern in BANNED["because"]) == number
