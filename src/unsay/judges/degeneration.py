"""Rules that find degenerate answers: empty, looping, symbols, or in another script or language than the request.

The thresholds leave room for what small models and token limits do to sound answers: a word said twice, a list whose
items open alike, an answer cut off in mid-sentence. Whether an answer is *about* the request is not judged here.

A language is recognised by its function words, among the main languages in Latin letters: in running text, a third to a
half of all words are among the most frequent few dozen of their language, and few are of another.
"""

import re
import unicodedata
import zlib
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from typing import Final

VERSION: Final = 2
"""Raise when any verdict of these rules changes; it is in the key of every judge."""

WORD_RUN: Final = 4
"""So many times the same word in a row is a loop."""
SMALL_WORD_RUN: Final = 3
"""The same for words that no sentence doubles; "very very very" and "ha ha ha" are speech."""
SMALL_WORDS: Final = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that"}
    | {"the", "this", "to", "was", "with"}
)

SENTENCE_COPIES: Final = 3
PHRASE_LONGEST: Final = 16
"""Words of the longest phrase whose loops are found."""
PHRASE_WORDS: Final = 9
"""Words that a phrase loop covers at least; a phrase of two or three words must also occur four times."""

NGRAM: Final = 3
NGRAM_WORDS: Final = 24
"""Words below which repeated n-grams are not counted."""
NGRAM_SHARE: Final = 0.5

COMPRESSION_BYTES: Final = 160
COMPRESSION_RATIO: Final = 3.2
"""Plain prose of 64 tokens compresses 1.2 to 1.9 times; a loop 4 times and more."""

CHARACTER_RUN: Final = 16
SYMBOL_SHARE: Final = 0.6
SYMBOL_CHARACTERS: Final = 12
LONG_WORD: Final = 40
LONG_WORD_SHARE: Final = 0.5

FOREIGN_SHARE: Final = 0.3
FOREIGN_LETTERS: Final = 8

MIN_LANGUAGE_WORDS: Final = 12
"""Shorter answers have no clear language: a title or a line of verse may be in any."""

MIN_FUNCTION_SHARE: Final = 0.22
"""Share of an answer's words that are function words of its language."""
MIN_FUNCTION_KINDS: Final = 5
"""Distinct ones among them: a program may name its variables `i`, `la` and `le`."""
CLEAR_LEAD: Final = 3.0
"""How many times as many they are as those of any other language."""

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


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_CHARACTER_RUN = re.compile(rf"([^\s\-=_.*#~|+─═])\1{{{CHARACTER_RUN - 1},}}")  # lines and tables are no loops
_RULED = re.compile(r"([-=_.*#~|+─═])\1{2,}")
_LINK = re.compile(r"https?://\S+|\b[\w.+-]{1,64}@\S+")
_ABOUT_LANGUAGE = re.compile(
    r"\b(?:translat\w*|languages?|alphabet|script|pronounc\w*|say .{1,40} in|in (?:arabic|chinese|greek|hebrew|hindi|"
    r"japanese|korean|russian|thai|ukrainian|mandarin|cyrillic|kanji|hiragana)|arabic|chinese|greek|hebrew|hindi|"
    r"japanese|korean|russian|thai|ukrainian|bengali|tamil|urdu|persian)\b",
    re.IGNORECASE,
)
# Scripts that one language mixes count as one script.
_FAMILIES: Final = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK", "IDEOGRAPHIC": "CJK", "FULLWIDTH": "LATIN"}
# These scripts are written without spaces, so their words cannot be told apart.
_UNSPACED: Final = frozenset({"CJK", "THAI", "LAO", "KHMER", "MYANMAR"})
_LETTERS_ONLY = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NAMES_LANGUAGE = re.compile(
    r"\b(?:translat\w*|languages?|multilingual|bilingual|german|deutsch|french|français|spanish|español|portuguese|"
    r"português|italian|italiano|dutch|nederlands|swedish|svenska|polish|polski|latin|english)\b",
    re.IGNORECASE,
)


def degeneration_reason(text: str, request: str = "") -> str | None:
    """Why an answer is broken, in a few words, or None if it is sound.

    The request gives the script and the language that are expected; an empty one expects none. An English answer is
    never in another script or language: a model that was taught in English declines so, whatever the request.
    """
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    if not words:
        return "empty: no word in it"
    return (
        _symbols(text)
        or _word_run(words)
        or _phrase_loop(words)
        or _sentence_copies(text)
        or _repeated_ngrams(words)
        or _unbroken(text)
        or _compressible(text)
        or _foreign(text, request)
        or language_drift(text, request)
    )


def _symbols(text: str) -> str | None:
    run = _CHARACTER_RUN.search(text)
    if run:
        return f"loop: one character {len(run.group())} times running"
    visible = [character for character in _RULED.sub(r"\1", text) if not character.isspace()]
    odd = sum(unicodedata.category(character)[0] not in "LNM" for character in visible)
    if len(visible) >= SYMBOL_CHARACTERS and odd / len(visible) > SYMBOL_SHARE:
        return f"symbols: {odd} of {len(visible)} characters"
    return None


def _word_run(words: list[str]) -> str | None:
    run = 1
    for before, word in pairwise(words):
        run = run + 1 if word == before else 1
        if not word.isdigit() and run >= (SMALL_WORD_RUN if word in SMALL_WORDS else WORD_RUN):
            return f"loop: one word {run} times running"
    return None


def _phrase_loop(words: list[str]) -> str | None:
    for length in range(2, PHRASE_LONGEST + 1):
        needed = max(3 if length > 3 else 4, -(-PHRASE_WORDS // length))
        same = 0  # words in a row that equal the one `length` before them
        for before, word in zip(words, words[length:], strict=False):
            same = same + 1 if word == before else 0
            if same >= (needed - 1) * length:
                return f"loop: a phrase of {length} words {needed} times running"
    return None


def _sentence_copies(text: str) -> str | None:
    sentences = Counter(
        key for sentence in _SENTENCE.split(text) if len(key := tuple(_WORD.findall(sentence.lower()))) >= 3
    )
    if sentences and (most := sentences.most_common(1)[0][1]) >= SENTENCE_COPIES:
        return f"loop: one sentence {most} times"
    return None


def _repeated_ngrams(words: list[str]) -> str | None:
    if len(words) < NGRAM_WORDS:
        return None
    grams = list(zip(*(words[start:] for start in range(NGRAM)), strict=False))
    share = 1 - len(set(grams)) / len(grams)
    return f"repetitive: {share:.0%} of its {NGRAM}-grams are repeats" if share > NGRAM_SHARE else None


def _compressible(text: str) -> str | None:
    data = " ".join(text.split()).encode("utf-8")
    if len(data) < COMPRESSION_BYTES:
        return None
    # Long sound texts compress better than short ones, so only one window is compressed: the end, where loops are.
    data = data[-4 * COMPRESSION_BYTES :]
    ratio = len(data) / len(zlib.compress(data, 9))
    return f"repetitive: compresses {ratio:.1f} times" if ratio > COMPRESSION_RATIO else None


def _unbroken(text: str) -> str | None:
    plain = _LINK.sub(" ", text)
    letters = [character for character in plain if character.isalpha()]
    if sum(_script(character) in _UNSPACED for character in letters) > len(letters) / 2:
        return None
    words = plain.split()
    long = sum(len(word) for word in words if len(word) > LONG_WORD and any(map(str.isalnum, word)))
    if words and long > LONG_WORD_SHARE * sum(map(len, words)):
        return f"unbroken: words of more than {LONG_WORD} characters"
    return None


def _foreign(text: str, request: str) -> str | None:
    expected = {_script(character) for character in request if character.isalpha()}
    if not expected or _ABOUT_LANGUAGE.search(request):
        return None
    if _reads_english(text):
        expected.add("LATIN")
    letters = [_script(character) for character in text if character.isalpha()]
    foreign = [script for script in letters if script not in expected]
    if len(foreign) >= FOREIGN_LETTERS and len(foreign) / len(letters) > FOREIGN_SHARE:
        script = Counter(foreign).most_common(1)[0][0]
        return f"off-language: {len(foreign)} of {len(letters)} letters in another script ({script.lower()})"
    return None


def _reads_english(text: str) -> bool:
    """Whether a text is English, as far as that can be told: a short one is, unless another language has more words."""
    words = _words(text)
    if len(words) >= MIN_LANGUAGE_WORDS:
        return language_of(text) == "English"
    counts = _counts(words)
    return counts["English"] == max(counts.values())


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The script of a letter, read from its Unicode name ("CYRILLIC SMALL LETTER A")."""
    first = unicodedata.name(letter, "UNKNOWN").replace("-", " ").split()[0]
    return _FAMILIES.get(first, first)


def language_drift(answer: str, request: str) -> str | None:
    """Why an answer is in a language that the request does not call for, or None where either is unclear."""
    if _NAMES_LANGUAGE.search(request):
        return None
    spoken = language_of(answer)
    if spoken in (None, "English"):
        return None
    counts = _counts(_words(request))
    # A request is short: its language is the one with most function words, and a tie is unclear.
    most = max(counts.values())
    leading = [name for name, count in counts.items() if count == most and count]
    if len(leading) != 1 or leading[0] == spoken:
        return None
    return f"off-language: {spoken}, asked in {leading[0]}"


def language_of(text: str) -> str | None:
    """The language of a text; None where it is unclear or unknown."""
    words = _words(text)
    if len(words) < MIN_LANGUAGE_WORDS:
        return None
    counts = _counts(words)
    first, second, *_ = sorted(counts, key=lambda name: counts[name], reverse=True)
    few = counts[first] < MIN_FUNCTION_SHARE * len(words) or len(WORDS[first].intersection(words)) < MIN_FUNCTION_KINDS
    # Related languages share many words; only those of the second language alone count against the first.
    rival = sum(word in WORDS[second] and word not in WORDS[first] for word in words)
    return None if few or counts[first] < CLEAR_LEAD * rival else first


def _words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _LETTERS_ONLY.findall(text)]


def _counts(words: list[str]) -> dict[str, int]:
    return {name: sum(word in known for word in words) for name, known in WORDS.items()}
