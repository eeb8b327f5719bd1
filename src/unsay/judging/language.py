"""Which language is a text in? Told by function words, for the main languages in Latin letters, and only when clear.

A request in one script and an answer in another is seen by the letters (`degeneration.py`); this sees a German answer
to an English request. It needs no model and no network: in running text a third to a half of all words are among the
most frequent few dozen of their language, and few words of another one are.
"""

import re
from collections.abc import Iterable
from typing import Final

FEWEST_WORDS: Final = 12
"""Shorter answers are not told: a title or a line of verse may stand in any language."""

LEAST_SHARE: Final = 0.22
"""So many of an answer's words must be function words of its language."""

FEWEST_KINDS: Final = 5
"""And so many different ones: a program may name its variables `i`, `la` and `le`."""

CLEARLY: Final = 3.0
"""And so many times as many as of any other language."""

_WORDS: Final = {
    "English": """the of and to in is that it was for on are as with his they at be this from have or by one had not
        but what all were when we there can an your which their said if do will each about how up out them
        then she many some so these would other into has more her two like him see could no make than been
        its who now my you i he""",
    "German": """der die das und ist nicht ein eine einen einem einer des dem den zu zum zur mit von vom auf für im
        sich auch es sie ich wir ihr sind war wird werden hat haben aber oder wenn wie bei nach aus dass
        kann können nur noch durch über als um so man diese dieser dieses ihre ihren sehr hier""",
    "French": """le la les un une des du de et est à il elle nous vous ils elles que qui dans pour pas sur avec ce
        cette ces son sa ses au aux en ne se sont être été plus par mais ou où leur leurs comme votre vos
        peut était c'est d'un d'une qu'il n'est l'on si très""",
    "Spanish": """el la los las un una unos unas de del y es en que por para con no se su sus lo al como más pero este
        esta estos estas son ser está muy también cuando o si le les ha han fue puede pueden sobre entre hay
        usted nos esto desde porque""",
    "Portuguese": """o a os as um uma uns umas de do da dos das e é em no na nos nas que por para com não se seu sua
        seus suas ao à como mais mas este esta isso são ser está muito também quando ou você foi pode podem sobre
        pelo pela há até ele ela""",
    "Italian": """il lo la i gli le un uno una di del della dei delle degli e è in nel nella che per con non si su sul
        sulla al alla come più ma questo questa questi sono essere molto anche quando o se ha hanno può
        possono da dal dalla ci suo sua loro""",
    "Dutch": """de het een en van in is dat op te zijn voor met niet aan er om ook als dan maar bij uit naar door
        over ze hij zij wij je jij u deze dit die wordt worden heeft hebben kan kunnen nog meer wel geen of
        was werd tot hun""",
    "Swedish": """och att det som en ett är på av för med den till inte har om de han hon vi jag du kan från var men
        eller när så vid ska även efter mycket deras detta denna dessa också mot""",
    "Polish": """i w na z do nie się że to jest o jak po co tak za od przez dla są jego jej ich który która które ale
        oraz był być może można tym tego te czy już tylko""",
}  # fmt: skip
WORDS: Final = {name: frozenset(text.split()) for name, text in _WORDS.items()}

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ASKS_FOR_ONE = re.compile(
    r"\b(?:translat\w*|languages?|multilingual|bilingual|"
    r"german|deutsch|french|français|spanish|español|portuguese|português|italian|italiano|dutch|nederlands|swedish|"
    r"svenska|polish|polski|latin|english)\b",
    re.IGNORECASE,
)


def drift(answer: str, request: str) -> str | None:
    """Why an answer is in a language that the request did not call for, or None.

    Nothing is said unless both languages are clear. An English answer is never drift: a model that was taught in
    English answers so, and declines so, whatever it is asked in.
    """
    if _ASKS_FOR_ONE.search(request):
        return None
    spoken = language_of(answer)
    if spoken in (None, "English"):
        return None
    asked = _counts(_words(request))
    # A request is short: the language with most of its function words is its own, and a tie is none.
    most = max(asked.values())
    leading = [name for name, count in asked.items() if count == most and count]
    if len(leading) != 1 or leading[0] == spoken:
        return None
    return f"off-language: {spoken}, asked in {leading[0]}"


def language_of(text: str) -> str | None:
    """The language of a text, or None where it is not clear, or none of those that are known here."""
    words = _words(text)
    if len(words) < FEWEST_WORDS:
        return None
    counts = _counts(words)
    first, second, *_ = sorted(counts, key=lambda name: counts[name], reverse=True)
    few = counts[first] < LEAST_SHARE * len(words) or len(WORDS[first].intersection(words)) < FEWEST_KINDS
    if few or counts[first] < CLEARLY * own(words, second, first):
        return None
    return first


def own(words: Iterable[str], language: str, other: str) -> int:
    """How many words are function words of a language and not of the other: related languages share many."""
    return sum(word in WORDS[language] and word not in WORDS[other] for word in words)


def _words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def _counts(words: list[str]) -> dict[str, int]:
    return {name: sum(word in known for word in words) for name, known in WORDS.items()}
