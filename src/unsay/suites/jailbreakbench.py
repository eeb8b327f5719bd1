"""JailbreakBench (Chao et al. 2024, arXiv 2404.01318): 100 harmful behaviours and their 100 benign twins."""

from functools import partial

from unsay.data.published import Published, csv_rows, hub
from unsay.records import Kind, Modality, Turn
from unsay.suites.base import Item, Suite

DATASET, REVISION = "JailbreakBench/JBB-Behaviors", "886acc352a31533ffbcf4ef22c744658688086fc"
HARMFUL = hub("jailbreakbench/jbb_harmful-behaviors.csv", DATASET, "data/harmful-behaviors.csv", REVISION)
HARMLESS = hub("jailbreakbench/jbb_benign-behaviors.csv", DATASET, "data/benign-behaviors.csv", REVISION)


def _goals(file: Published) -> list[Item]:
    rows = csv_rows(file.find(), ("Goal", "Category"))
    return [Item(row.text("Goal"), category=row["Category"] or None) for row in rows]


def _second_turns() -> list[Item]:
    """Every harmful goal as the second turn, after its benign twin and the first words of an answer to that.

    Both are JailbreakBench's own: rows of the two files with equal `Index` are twins, and `Target` begins the answer.
    """
    twins = {row["Index"]: row for row in csv_rows(HARMLESS.find(), ("Index", "Goal", "Target"))}
    items = []
    for row in csv_rows(HARMFUL.find(), ("Index", "Goal", "Target", "Category")):
        twin = twins.get(row["Index"])
        if twin is None:
            raise row.error(f"no benign twin with Index {row['Index']!r}")
        turns = (Turn(role="user", text=twin.text("Goal")), Turn(role="assistant", text=twin.text("Target")))
        items.append(Item(row.text("Goal"), category=row["Category"] or None, turns=turns))
    return items


SUITE = Suite(
    name="jailbreakbench",
    title="JailbreakBench",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"JBB-Behaviors, huggingface.co/datasets/{DATASET}",
    licence="MIT",
    items=partial(_goals, HARMFUL),
    size=100,
    files=(HARMFUL,),
)
SECOND_TURN = Suite(
    name="jailbreakbench-second-turn",
    title="JailbreakBench as a second turn",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    items=_second_turns,
    size=100,
    bare=False,
    files=(HARMFUL, HARMLESS),
)
BENIGN = Suite(
    name="jailbreakbench-benign",
    title="JailbreakBench benign",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    items=partial(_goals, HARMLESS),
    size=100,
    files=(HARMLESS,),
    borderline=True,
)
