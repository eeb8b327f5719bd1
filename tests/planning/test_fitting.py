"""What would fit where a plan does not, and settings that are chosen for a model and its cards."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.shapes import SHAPES, shape
from unsay import cli
from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.planning import GPUS, choose, first_that_fits, outline, parse_gpus, plan
from unsay.planning.choose import Saving, savings
from unsay.presets import ENDS, preset
from unsay.training.settings import TrainSettings, advice

GIB = 2**30
CARDS = {"": "1xH100", "-24gb": "1xRTX4090", "-8gpu": "8xA100-80"}
SCALE = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.fixture(scope="module")
def tiny_plan(tiny_folder):
    """Settings of the tiny model whose parts are of one order of magnitude, and what plans them for a card."""
    config = RunConfig.model_validate({"model": str(tiny_folder), "train": {"head_chunk": 1}})
    vlm = outline(config)

    def planned(config, answer):
        return plan(config, (1, "L4"), prompt=20, answer=answer, vlm=vlm)

    return config, planned


def changed(config, turns=1, recompute=False, four_bits=False):
    train = config.train.model_copy(update={"accumulate": turns, "recompute": recompute})
    settings = config.model_settings.model_copy(update={"quantisation": "4-bit" if four_bits else None})
    return config.model_copy(update={"train": train, "model_settings": settings})


def just_holding(monkeypatch, needed):
    """A card of which nine tenths hold so many bytes, and hardly more."""
    monkeypatch.setitem(GPUS, "L4", replace(GPUS["L4"], memory_bytes=needed * 10 // 9 + 10))


@pytest.mark.parametrize(
    ("way", "changes"),
    [
        ((2,), ("train.accumulate: 2 (half as much at a time, the same result)",)),
        ((4,), ("train.accumulate: 4 (a quarter at a time, the same result)",)),
        ((8,), ("train.accumulate: 8 (an eighth at a time, the same result)",)),
        (
            (8, True),
            (
                "train.accumulate: 8 (an eighth at a time, the same result)",
                "train.recompute: true (a third more work)",
            ),
        ),
        (
            (8, True, True),
            (
                "train.accumulate: 8 (an eighth at a time, the same result)",
                "train.recompute: true (a third more work)",
                "model_settings.quantisation: 4-bit",
            ),
        ),
    ],
)
def test_the_cheapest_combination_that_fits_is_named(tiny_plan, monkeypatch, way, changes):
    config, planned = tiny_plan
    wanted = changed(config, *way)
    just_holding(monkeypatch, planned(wanted, 48).memory.total)
    assert planned(config, 48).fits is False
    fit = first_that_fits(config, 48, planned)
    assert fit.changes == changes
    assert fit.config == wanted
    assert fit.plan == planned(wanted, 48)
    assert fit.plan.fits


def test_answers_are_shortened_last_and_then_nothing_is_left(tiny_plan, monkeypatch):
    config, planned = tiny_plan
    all_of_it = changed(config, 8, True, True)
    just_holding(monkeypatch, planned(all_of_it, 24).memory.total)
    fit = first_that_fits(config, 48, planned)
    assert fit.changes[-1] == "train.max_answer_tokens: 24 (longer answers are cut)"
    assert fit.config.train.max_answer_tokens == 24
    just_holding(monkeypatch, planned(all_of_it, 12).memory.total - 1000)
    assert first_that_fits(config, 48, planned) is None


def test_what_is_done_already_is_not_advised_again(tiny_plan, monkeypatch):
    config, planned = tiny_plan
    done = changed(config, 2, True)
    just_holding(monkeypatch, planned(changed(config, 4, True), 48).memory.total)
    assert first_that_fits(done, 48, planned).changes == (
        "train.accumulate: 4 (half as much at a time, the same result)",
    )


def test_rows_that_do_not_divide_are_not_computed_in_turns(tiny_folder, tiny_plan, monkeypatch):
    _, planned = tiny_plan
    config = RunConfig.model_validate(
        {"model": str(tiny_folder), "train": {"batch": {"forget": 3, "refuse": 3, "retain": 3}, "head_chunk": 1}}
    )
    just_holding(monkeypatch, planned(changed(config, recompute=True), 48).memory.total)
    assert first_that_fits(config, 48, planned).changes == ("train.recompute: true (a third more work)",)


def test_a_split_model_is_not_put_into_4_bits(tiny_plan, monkeypatch):
    config, _ = tiny_plan
    vlm, asked = outline(config), []

    def planned(config, answer):
        made = plan(config, (8, "L4"), prompt=20, answer=answer, sharded=True, vlm=vlm)
        asked.append(config.model_settings.quantisation)
        return made

    just_holding(monkeypatch, 1)
    assert first_that_fits(config, 48, planned) is None
    assert set(asked) == {None}  # 4 bits are refused by the plan, in training's words


def test_the_words_are_those_of_training():
    (saving,) = [saving for saving in savings(RunConfig(), 48) if saving == Saving(2, True, True, 48)]
    said = saving.changes(RunConfig())
    assert len(said) == 3
    assert all(words in advice(TrainSettings()) for words in said)


def test_the_command_says_what_would_fit_and_what_it_does_not_count(tiny_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "my.yaml").write_text(f"model: {tiny_folder}\n")
    config = read_config(tmp_path / "my.yaml")
    just_holding(monkeypatch, plan(changed(config, 4), (1, "L4")).memory.total)

    def said(*more):
        monkeypatch.setattr(
            "sys.argv", ["unsay", "plan", "--config", str(tmp_path / "my.yaml"), "--gpus", "1xL4", *more]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    short = said()
    assert "NO: " in short
    assert re.search(r"would fit \d+ MiB with train.accumulate: 4 \(a quarter at a time, the same result\)", short)
    assert "64 tokens a prompt, 48 an answer, 0 a picture" in short
    assert "not counted evaluation" in short
    fitting = said("--prompt-tokens", "8", "--answer-tokens", "4")
    assert "would fit" not in fitting
    assert "8 tokens a prompt, 4 an answer" in fitting
    just_holding(monkeypatch, 1)
    assert "would fit nothing on this card" in said()


# ------------------------------------------------------------------------------------------------ a model and its cards


def test_a_model_gets_its_familys_preset_by_its_configuration(tmp_path):
    """No weights, no hub: a folder with config.json alone."""
    start = choose(str(shape("qwen3-vl-8b", tmp_path)))
    assert start.config == preset("qwen3-vl-8b").model_copy(update={"model": str(tmp_path)})
    assert start.launch is None
    assert "8.77 G parameters" in start.reasons[0]
    assert "qwen3_vl, preset qwen3-vl-8b" in start.reasons[0]
    small = choose(str(tmp_path), (1, "L4"))
    assert small.config == preset("qwen3-vl-8b-24gb").model_copy(update={"model": str(tmp_path)})
    assert re.search(r"Training then takes 1\d\.\d\d GiB of 24\.00 GiB on each card \(1xL4\)", small.reasons[1])


def test_a_card_between_gets_what_fits_it(tmp_path):
    start = choose(str(shape("pixtral-12b", tmp_path)), (1, "A100-40"))
    assert "train.accumulate: 8" in start.reasons[1]
    assert start.config.train.accumulate == 8
    assert start.config.model_settings.quantisation is None
    assert plan(start.config, (1, "A100-40")).fits


def test_a_family_without_a_preset_goes_by_size(tiny_folder, tmp_path):
    written = json.loads((tiny_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**written, "model_type": "vipllava"}))
    start = choose(str(tmp_path))
    assert "No preset is of its family (vipllava): settings by size alone" in start.reasons[0]
    assert start.config.train.learning_rate == 2e-4


def test_eight_cards_are_launched_and_others_are_refused(tiny_folder):
    start = choose(str(tiny_folder), (8, "H100"))
    assert start.launch == "ddp"
    assert start.config.train.batch.forget == 64
    with pytest.raises(UserError, match="--gpus: there are settings for 1 and for 8 cards, not for 3"):
        choose(str(tiny_folder), (3, "H100"))


def test_a_model_that_no_way_brings_onto_a_card_is_refused(tiny_folder, monkeypatch):
    just_holding(monkeypatch, 1)
    with pytest.raises(UserError, match="does not fit 1xL4, not in 4 bits either"):
        choose(str(tiny_folder), (1, "L4"))


def test_the_pocket_model_has_the_defaults():
    assert choose("pocket").config == RunConfig()


def init(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["unsay", "init", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_init_writes_what_was_chosen_and_why(tiny_folder, tmp_path, monkeypatch, capsys):
    path = tmp_path / "my.yaml"
    assert init(monkeypatch, path, "--model", tiny_folder, "--gpus", "1xRTX4090") == 0
    start = choose(str(tiny_folder), (1, "RTX4090"))
    assert read_config(path) == start.config
    text, said = path.read_text(), " ".join(capsys.readouterr().out.split())
    comments = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    for reason in start.reasons:
        assert reason in said
        assert reason in comments
    assert all(len(line) <= 100 for line in text.splitlines() if str(tiny_folder) not in line)


def test_init_refuses_options_that_would_do_nothing(tiny_folder, tmp_path, monkeypatch, capsys):
    path = tmp_path / "my.yaml"
    for arguments, needle in (
        (("--model", tiny_folder, "--preset", "demo"), "--preset and --model exclude each other"),
        (("--gpus", "1xL4"), "--gpus needs --model"),
        (("--gpus", "1xL4", "--preset", "llava-1.5-7b"), "--gpus needs --model"),
        (("--model", tmp_path / "none"), "no such folder"),
        (("--model", tiny_folder, "--gpus", "1xH1000"), "--gpus: '1xH1000' is not understood"),
    ):
        assert init(monkeypatch, path, *arguments) == 2
        said = capsys.readouterr().err
        assert needle in said
        assert said.strip().count("\n") == 0
    assert not path.exists()


# --------------------------------------------------------------------------------------------------------- the presets


def check(name, folder):
    """How large a preset's model is, and the GiB that it takes on each kind of card, which it fits."""
    source = str(shape(name, folder))
    vlm = outline(preset(name).model_copy(update={"model": source}))
    taken = []
    for end in ENDS:
        config = preset(f"{name}{end}").model_copy(update={"model": source})
        made = plan(config, parse_gpus(CARDS[end]), vlm=vlm)
        assert made.fits, (name, end, made.memory.total / GIB)
        taken.append(made.memory.total / GIB)
    return made.parameters, taken


def table():
    """docs/scale.md: preset → billions of parameters, and GiB on 80 GB, on 24 GB, and on each of eight."""
    rows = re.findall(r"^\| `([\w.-]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", SCALE.read_text(), re.M)
    return {name: (float(size), [float(one), float(small), float(one)]) for name, size, one, small in rows}


def check_stated(name, folder):
    parameters, taken = check(name, folder)
    size, stated = table()[name]
    assert parameters / 1e9 == pytest.approx(size, abs=0.006)
    assert taken == pytest.approx(stated, abs=0.06)


@pytest.mark.parametrize("name", ["llava-1.5-7b", "gemma-3-12b"])
def test_a_preset_fits_its_cards_by_the_plan(name, tmp_path):
    check_stated(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_every_preset_fits_its_cards_by_the_plan(name, tmp_path):
    check_stated(name, tmp_path)


def test_the_page_states_every_preset_with_the_size_that_it_was_given():
    from unsay import presets

    given = {name: entry["billions"] for name, entry in presets._parts()["models"].items()}
    assert {name: size for name, (size, _) in table().items()} == given
    kinds = {name: entry["type"] for name, entry in presets._parts()["models"].items()}
    assert kinds == {name: make().model_type for name, make in SHAPES.items()}


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llava-1.6-mistral-7b"])
def test_the_papers_preset_fits_one_card_of_80_gb_and_trains_in_minutes(name, tmp_path):
    """What docs/reproduce.md says of it."""
    paper = preset(f"paper-{name}").model_copy(update={"model": str(shape(name, tmp_path))})
    made = plan(paper, parse_gpus("1xH100"), prompt=64, answer=paper.train.max_answer_tokens)
    assert made.fits
    assert 25 < made.memory.total / 2**30 < 36
    assert 2 < made.seconds * made.steps / 60 < 4
    pictured = plan(paper, parse_gpus("1xH100"), prompt=64, answer=paper.train.max_answer_tokens, image_tokens=576)
    assert pictured.fits
    assert pictured.seconds / made.seconds == pytest.approx(2.8, abs=0.1)
