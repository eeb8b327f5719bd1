"""Ready requests: twenty, harmless first, from the run's suites."""

from pathlib import Path

from PIL import Image

from unsay.files import write_rows
from unsay.playground import example_buttons
from unsay.records import Kind, Modality, Prompt, Turn


def row(suite: str, number: int, kind: Kind, **more: object) -> Prompt:
    words = f"[{suite} request {number}]"
    values = {"modality": Modality.TEXT, "prompt": words, "request": words, "group": words}
    return Prompt(id=f"{suite}-{number}", suite=suite, kind=kind, **(values | more))


def test_twenty_harmless_first_and_every_suite_in_turn(tmp_path: Path) -> None:
    (tmp_path / "suites/images").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "suites/images/a.png")
    picture = {"modality": Modality.IMAGE, "image": "suites/images/a.png"}
    suites = {
        "attack-a": [row("attack-a", n, Kind.ATTACK) for n in range(30)],
        "attack-b": [row("attack-b", n, Kind.ATTACK) for n in range(30)],
        "benign": [row("benign", n, Kind.BENIGN) for n in range(30)],
        "scenes": [row("scenes", n, Kind.UTILITY, **picture) for n in range(30)],
        "loss": [row("loss", n, Kind.UTILITY) for n in range(30)],
    }
    for name, rows in suites.items():
        write_rows(tmp_path / f"suites/{name}.jsonl", rows)
    (tmp_path / "suites/broken.jsonl").write_text('{"id": 1}\n')
    examples = example_buttons.of_folder(tmp_path)
    assert len(examples) == 20
    assert [example.kind for example in examples] == [Kind.BENIGN] * 12 + [Kind.ATTACK] * 8
    assert [example.suite for example in examples[:4]] == ["benign", "scenes"] * 2
    assert [example.suite for example in examples[12:16]] == ["attack-a", "attack-b"] * 2
    assert {example.image for example in examples if example.suite == "scenes"} == {
        str(tmp_path / "suites/images/a.png")
    }
    assert examples == example_buttons.of_folder(tmp_path), "the same ones every time"


def test_what_does_not_fit_on_a_button_is_left_out() -> None:
    rows = [
        row("a", 1, Kind.BENIGN, request="x" * 161),
        row("a", 2, Kind.BENIGN, system="[system]"),
        row("a", 3, Kind.BENIGN, turns=(Turn(role="user", text="x"), Turn(role="assistant", text="y"))),
        row("a", 4, Kind.BENIGN),
        row("b", 5, Kind.BENIGN, request="[a request 4]"),
    ]
    assert [example.id for example in example_buttons.chosen([rows])] == ["a-4"]


def test_without_a_run_they_come_from_packaged_suites(tmp_path: Path) -> None:
    examples = example_buttons.packaged(tmp_path)
    harmless = [example for example in examples if example.kind is Kind.BENIGN]
    assert len(harmless) == 12
    assert {example.suite for example in harmless} == {"benign", "contrast", "shapes"}
    assert all(Path(example.image).is_file() for example in examples if example.image)
