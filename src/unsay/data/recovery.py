"""Answers that have begun already: refusals in the middle of a harmful answer, and benign answers that go on.

A model that has learned to refuse at an answer's first token alone goes on with a harmful answer once it has begun, be
it by prefilling, by sampling or after a little fine-tuning. Safety recovery examples teach it to turn back: a harmful
prompt, the first k tokens of a harmful answer as context, and the refusal, whose tokens alone are scored,

    L = − log π(refusal | prompt, harmful answer ≤ k)

(Qi et al. 2024, arXiv 2406.05946, "data augmentation with safety recovery examples": no prefix in half of the cases,
else k uniform from 1 to 100; Yuan et al. 2024, arXiv 2407.09121, "MLE with harmful response prefix": a cut at a uniform
place, no prefix in a third of the cases). Harmful answers here are the forget examples of the same request, so refuse
examples of other requests stay as they are.

An answer that has begun is no sign of harm, so retain examples are cut the same way: their own first k tokens are given
and the rest is scored.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from unsay.data.recipe import RecipeSettings
from unsay.data.splits import PicturedRequest, pictured_request_of
from unsay.records import Example, Role

TokenEnds = Callable[[str], Sequence[int]]
"""Where each token of a text ends, in characters, in order."""

WORD = re.compile(r"\s*\S+")


def word_ends(text: str) -> list[int]:
    """Where each word ends: for tokenizers that do not say where their tokens do."""
    return [match.end() for match in WORD.finditer(text)]


def with_beginnings(
    examples: Sequence[Example], settings: RecipeSettings, seed: int, ends: TokenEnds = word_ends
) -> list[Example]:
    """The examples, a share of refuse and retain ones behind the beginning of an answer; order and ids stay.

    What happens to an example is drawn from its id and the seed alone. One that has a prefix already keeps it.

    Args:
        examples: of every role, not yet put into modalities: one request as two pictures would be two requests.
        settings: `recovery` and `retain_recovery`, the shares, and `recovery_depth`, the most tokens that are given.
        seed: of every random draw.
        ends: the tokens of the model at hand.
    """
    harmful: dict[PicturedRequest, list[str]] = {}
    for example in examples:
        if example.role is Role.FORGET:
            harmful.setdefault(pictured_request_of(example), []).append(example.whole_answer)
    return [_begun(example, harmful, settings, seed, ends) for example in examples]


def _begun(
    example: Example,
    harmful: Mapping[PicturedRequest, Sequence[str]],
    settings: RecipeSettings,
    seed: int,
    ends: TokenEnds,
) -> Example:
    if example.role is Role.FORGET or example.prefix is not None:
        return example
    rng = random.Random(f"{seed}/recovery/{example.id}")
    if rng.random() >= (settings.recovery if example.role is Role.REFUSE else settings.retain_recovery):
        return example
    depth = rng.randint(1, settings.recovery_depth)
    if example.role is Role.REFUSE:
        answers = harmful.get(pictured_request_of(example))
        begun = _cut(rng.choice(answers), depth, ends)[0].rstrip() if answers else ""
        return example.model_copy(update={"prefix": f"{begun} "}) if begun else example
    begun, rest = _cut(example.answer, depth, ends, keep=1)
    return example.model_copy(update={"prefix": begun, "answer": rest}) if begun and rest.strip() else example


def _cut(text: str, depth: int, ends: TokenEnds, keep: int = 0) -> tuple[str, str]:
    """The text's first `depth` tokens and the rest, which has at least `keep` tokens."""
    places = ends(text)
    count = min(depth, len(places) - keep)
    place = places[count - 1] if count > 0 else 0
    return text[:place], text[place:]
