"""MME (Fu et al. 2023, arXiv 2306.13394): 14 subtasks of yes-or-no questions, two to a picture."""

from functools import partial
from pathlib import Path

from unsay.data.published import Published
from unsay.errors import UserError
from unsay.files import read_text
from unsay.records import Kind, Modality
from unsay.suites import scorers
from unsay.suites.base import Item, Measure, Suite

FOLDER = Published(
    "mme/MME_Benchmark_release_version",
    "by e-mail form at github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation",
)
SUFFIXES = (".jpg", ".png", ".jpeg")


def _items() -> list[Item]:
    """The questions by subtask; the two of a picture are asked together or not at all."""
    folder = FOLDER.find()
    items = []
    for subtask in (*scorers.MME_PERCEPTION, *scorers.MME_COGNITION):
        # Some subtasks keep questions and pictures in two folders, others side by side.
        apart = (folder / subtask / "questions_answers_YN").is_dir()
        files = sorted((folder / subtask / ("questions_answers_YN" if apart else "")).glob("*.txt"))
        if not files:
            raise UserError(f"{folder / subtask}: no questions there; the folder is not MME's, or not whole")
        for file in files:
            items += _pair(file, folder / subtask / ("images" if apart else ""), subtask)
    return items


def _pair(file: Path, pictures: Path, subtask: str) -> list[Item]:
    rows = []
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        if not text.strip():
            continue
        question, _, answer = (part.strip() for part in text.rpartition("\t"))
        if not question or answer.lower() not in ("yes", "no"):
            raise UserError(f"{file}:{line}: a question, a tab and Yes or No were expected")
        rows.append((question, answer.lower()))
    if len(rows) != 2:
        raise UserError(f"{file}: holds {len(rows)} questions, 2 were expected")
    name, image = f"{subtask}/{file.stem}", partial(_picture, pictures, file.stem)
    return [
        Item(question, category=subtask, image=image, label=name, cluster=name, unit=name, reference=answer)
        for question, answer in rows
    ]


def _picture(folder: Path, stem: str) -> Path:
    for suffix in SUFFIXES:
        if (path := folder / f"{stem}{suffix}").is_file():
            return path
    raise UserError(f"{folder}: no picture {stem} ({', '.join(SUFFIXES)})")


SUITE = Suite(
    name="mme",
    title="MME score",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="MME, github.com/BradyFU/Awesome-Multimodal-Large-Language-Models",
    licence="research only",
    items=_items,
    size=2374,
    by_category=True,
    measure=Measure(
        scorers.mme_value,
        unit="points of 2,800",
        total=scorers.mme_score,
        parts={
            "perception": partial(scorers.mme_part, scorers.MME_PERCEPTION),
            "cognition": partial(scorers.mme_part, scorers.MME_COGNITION),
        },
    ),
    files=(FOLDER,),
)
