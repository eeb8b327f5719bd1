"""JailbreakBench (Chao et al. 2024, arXiv 2404.01318): 100 harmful behaviours and their 100 benign twins."""

from unsay.data.sources.published import Published, csv_rows, hub, text_field
from unsay.errors import UserError
from unsay.records import Kind, Modality, Turn
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET, REVISION = "JailbreakBench/JBB-Behaviors", "886acc352a31533ffbcf4ef22c744658688086fc"
HARMFUL = hub("jailbreakbench/jbb_harmful-behaviors.csv", DATASET, "data/harmful-behaviors.csv", REVISION)
HARMLESS = hub("jailbreakbench/jbb_benign-behaviors.csv", DATASET, "data/benign-behaviors.csv", REVISION)


def items(file: Published) -> list[Item]:
    """The goals of one of the two files.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = file.find()
    return [
        Item(text=text_field(row["Goal"], path, "Goal", line), category=row["Category"] or None)
        for line, row in csv_rows(path, ("Goal", "Category"))
    ]


def second_turn_items() -> list[Item]:
    """Every harmful goal as the second turn, after its benign twin and the first words of an answer to that.

    Both are JailbreakBench's own: rows of the two files with equal `Index` are twins, and `Target` begins the answer.

    Raises:
        UserError: a file cannot be had or is malformed, or a goal has no twin.
    """
    path = HARMLESS.find()
    columns = ("Index", "Goal", "Target")
    twins = {
        row["Index"]: (text_field(row["Goal"], path, "Goal", line), text_field(row["Target"], path, "Target", line))
        for line, row in csv_rows(path, columns)
    }
    path = HARMFUL.find()
    found = []
    for line, row in csv_rows(path, (*columns, "Category")):
        if row["Index"] not in twins:
            raise UserError(f"{path}:{line}: no benign twin with Index {row['Index']!r}")
        asked, said = twins[row["Index"]]
        turns = (Turn(role="user", text=asked), Turn(role="assistant", text=said))
        goal = text_field(row["Goal"], path, "Goal", line)
        found.append(Item(text=goal, category=row["Category"] or None, turns=turns))
    return found


SUITE: Suite = Suite(
    name="jailbreakbench",
    title="JailbreakBench",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"JBB-Behaviors, huggingface.co/datasets/{DATASET}",
    licence="MIT",
    prompts=lambda setting: listed(SUITE, items(HARMFUL), setting),
    size=100,
    files=(HARMFUL,),
)
SECOND_TURN: Suite = Suite(
    name="jailbreakbench-second-turn",
    title="JailbreakBench as a second turn",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    prompts=lambda setting: listed(SECOND_TURN, second_turn_items(), setting),
    size=100,
    bare=False,
    files=(HARMFUL, HARMLESS),
)
BENIGN: Suite = Suite(
    name="jailbreakbench-benign",
    title="JailbreakBench benign",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    prompts=lambda setting: listed(BENIGN, items(HARMLESS), setting),
    size=100,
    files=(HARMLESS,),
)
