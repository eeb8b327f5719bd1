"""What servers were sent otherwise than the settings say, and what that means for the numbers."""

from collections.abc import Mapping
from typing import Any

from unsay.responding import GenerationSettings
from unsay.responding.endpoint import EndpointResponder
from unsay.scoring import Caution

AGAIN = "the intervals do not count that"


def sent_instead(server: EndpointResponder | None, judge: Any) -> dict[str, str]:
    """What became of parameters that a server does not take; empty where all was sent as set.

    Args:
        server: that answered, if one did.
        judge: any judge; of a panel, the members behind servers count.

    Returns:
        `answers.` or `verdicts.` and the parameter → what was done: `answers.temperature` → "left to the server".
    """
    answers = {} if server is None else server.sent_instead
    found = {f"answers.{name}": done for name, done in answers.items()}
    for member in (judge, *getattr(judge, "members", ())):
        found |= {f"verdicts.{name}": done for name, done in getattr(member, "sent_instead", {}).items()}
    return found


def drawn(how: Mapping[str, str], generation: GenerationSettings) -> list[Caution]:
    """Cautions where a server kept its own temperature: what it said may be drawn at random.

    Args:
        how: what `sent_instead` found.
        generation: what the settings asked for.
    """
    found = []
    if "answers.temperature" in how:
        asked = f"temperature {generation.temperature:g}" + (" (greedy)" if generation.temperature == 0 else "")
        text = f"The server that answered takes no temperature and kept its own; {asked} was asked for. Asked again, it"
        found.append(Caution(text=f"{text} may answer otherwise, and {AGAIN}."))
    if "verdicts.temperature" in how:
        text = "The judge's server takes no temperature and kept its own; 0 was asked for. Asked again, it may judge"
        found.append(Caution(text=f"{text} the same answer otherwise, and {AGAIN}."))
    return found
