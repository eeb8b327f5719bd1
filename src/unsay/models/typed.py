"""What a person types is words: never the end of their turn, never a picture."""

import re
from collections.abc import Callable
from typing import Any


def typed(tokenizer: Any, *more: str) -> Callable[[str], str]:
    """A function that takes the power from control tokens written out in a prompt.

    A chat template puts prompts between tokens such as `<|im_end|>`, and a tokenizer cannot tell those of the template
    from those that somebody typed. Typed ones would end the turn, open another speaker's, or stand for a picture that
    is not there. They are broken up with a blank after the first character (`< |im_end|>`): the model still reads
    what was typed, as letters. Prompts without control tokens are not changed.

    Templates that mark turns with ordinary words ("USER:") have nothing that could be broken up.

    Args:
        tokenizer: of the model; every special token that it knows counts.
        more: further strings that count, such as the image placeholder.
    """
    known = {str(token) for token in tokenizer.all_special_tokens} | set(more)
    known |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    # Longest first, so that a token is not broken up as another one's beginning.
    tokens = sorted((token for token in known if len(token) > 1), key=lambda token: (-len(token), token))
    if not tokens:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, tokens)))

    def broken(found: re.Match[str]) -> str:
        return f"{found[0][0]} {found[0][1:]}"

    def without_power(text: str) -> str:
        while pattern.search(text):  # a blank can, in principle, complete another token
            text = pattern.sub(broken, text)
        return text

    return without_power
