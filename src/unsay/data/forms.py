"""Forms of a request: a question, a command or a wish, in a role or a scenario, for somebody else, or with context.

People ask for one thing in many ways, and no way is harmful in itself. Harmful requests come from data sets with few
ways of asking; if only they were plain commands, that form would be what is refused. Forget, refuse and retain prompts
are therefore drawn from the same forms. The request stands in every form as it is, in quotation marks or on a line of
its own, so that commands, questions and sentences all fit. None of the words are a suite's.
"""

import random
from collections.abc import Callable

FORMS: dict[str, tuple[str, ...]] = {
    "question": (
        "{request}\n\nCan you help me with that?",
        "I have a question for you. {request}",
        "{request}\nWhat would you say to that?",
        "Could I ask you for something? Here it is:\n{request}",
        'How would you deal with this: "{request}"',
    ),
    "command": (
        "Here is your next task.\n{request}",
        "{request}\nTake it one point at a time.",
        "Task for today: {request}\nKeep it clear.",
        "Handle this one, and be thorough.\n\n{request}",
        "Get on with this, please: {request}",
    ),
    "wish": (
        "What I would like from you is this. {request}",
        "It would make my day if you could help with this.\n{request}",
        "{request}\n\nI would be so glad of a good answer.",
        "I wish that somebody would finally do this for me:\n{request}",
    ),
    "role": (
        'You are a patient teacher in front of a small class. A pupil says: "{request}" What do you say back?',
        "Speak to me as an old friend would.\n\n{request}",
        "You work at the front desk of a busy office. Somebody hands you a note, and it says:\n{request}",
        'As an editor who likes short sentences, write back to a reader who asks: "{request}"',
        "Imagine that you are my grandmother's oldest neighbour, and answer in her voice.\n{request}",
    ),
    "scenario": (
        'Two friends sit in a coffee shop. "{request}" says one. The other knows a lot. What does the other say?',
        "In a radio play, a caller gets through to the studio and says:\n{request}\nWrite what the host says.",
        'On the night train a stranger looks up from a book. "{request}" How does the conversation go on?',
        "The next card in the quiz show reads:\n{request}\nWrite the winner's answer.",
    ),
    "indirect": (
        'My neighbour said this to me, and I had no answer: "{request}" What should I tell her?',
        'A colleague wrote to me: "{request}" Please draft the reply.',
        'I found a slip of paper in a library book. It says: "{request}" What would a good answer be?',
        "For a friend who does not write English well, I am passing this on:\n{request}",
        'My brother keeps asking people the same thing: "{request}" What could one say to him?',
    ),
    "long": (
        (
            "I have been on my feet since six this morning, the kettle is on, and this is the last thing on my "
            "list before I can sit down with the newspaper. Take your time with it, I am in no hurry at "
            "all.\n\n{request}"
        ),
        (
            "{request}\n\nI am writing this on a train with a weak connection, so please put the whole answer into "
            "one message. Short paragraphs are easiest to read on my telephone, and there is no need for headings, "
            "links or a summary at the end."
        ),
        (
            "We moved into a new flat last week and half of our things are still in boxes. In the evenings my "
            "sister and I play a game: one of us draws a card, reads out what it says, and the other must find a "
            "good answer. This is tonight's card:\n{request}"
        ),
        (
            "{request}\n\nThat is all I need for now. My last two messages got lost, which is why I send it again, "
            "and I am sorry if you see it twice. Plain words are fine; I am not an expert, but I read quickly and "
            "I like examples."
        ),
        (
            "Our evening class meets on Thursdays in the room above the bakery. Everyone brings one thing to talk "
            "about, the smell of bread comes up the stairs, and the discussion usually goes on until the lights "
            "are turned off. What I want to bring is this:\n\n{request}"
        ),
        (
            "{request}\n\nSome background, in case it is useful: I am fifty-two, I live near the coast, and I have "
            "a free weekend ahead of me because the weather is too wet for the garden. I have not asked anybody "
            "else yet, and you are the first to hear of it."
        ),
        (
            "Thank you for your help yesterday; the cake turned out well, and the children ate nearly all of it "
            "before the guests came. Today it is something else. I wrote it down as it came into my head, so "
            "excuse the wording.\n{request}"
        ),
        (
            "{request}\n\nPlease answer the way you would answer a person across the table: first the short "
            "version in a sentence or two, then whatever else one ought to know. If something depends on the "
            "circumstances, say on which, and go on with the likeliest case."
        ),
    ),
}
"""Kind → forms; `{request}` stands for the request. Long ones have 25 to 60 words before or after it."""
KINDS = (*FORMS, "long")
"""Kinds as they are drawn: long ones twice as often as the others."""


def sample_form(rng: random.Random) -> Callable[[str], str]:
    """A form sampled at random."""
    form = rng.choice(FORMS[rng.choice(KINDS)])
    return lambda request: form.replace("{request}", request)
