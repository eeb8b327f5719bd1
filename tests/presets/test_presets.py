"""Presets of real models: each resolves, differs where it should, and trains the tiny model of its family."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from helpers import published_sources, tiny
from helpers.families import FAMILIES
from helpers.shapes import SHAPES
from helpers.training import train
from unsay import api, cli, presets
from unsay.cli.starting_config import starting_config
from unsay.config import RunConfig, parse_config, read_config
from unsay.data.recipe import FORMATS
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.models import load
from unsay.models.sharding import check_shardable
from unsay.planning import Choice, for_launch
from unsay.presets import (
    LAUNCHES,
    launch_config,
    launch_of,
    model_presets,
    nearest,
    note_of,
    preset,
    preset_names,
    processes_of,
    settings_for,
)
from unsay.records import Role
from unsay.run.directory import stored_config
from unsay.training import plan_training

PRESETS = Path(presets.__file__).parent
WANTED = tuple(SHAPES)
TRAINED = (
    "llava-1.5-7b", "llava-1.5-7b-24gb", "llava-1.6-mistral-7b", "qwen2.5-vl-7b", "qwen3-vl-8b", "smolvlm-2.2b",
    "gemma-3-12b",
)  # fmt: skip
"""The others differ from these in the model's name alone, and every family is trained in test_families."""
PAPER = {"paper-llava-1.5-7b": "llava-1.5-7b", "paper-llava-1.6-mistral-7b": "llava-1.6-mistral-7b"}
"""Presets of the paper's experiment → the preset of the same model."""
UNSIZED = {"MiniCPM-V 4.6"}
"""How large it is was not at hand when the presets were written; `unsay init --model` counts it."""


def test_every_model_has_a_preset_for_one_gpu_for_a_small_one_and_for_eight():
    assert sorted(model_presets()) == sorted(f"{name}{end}" for name in WANTED for end in ("", "-24gb", "-8gpu"))
    assert preset_names() == ["demo", *PAPER, *model_presets()]
    assert set(model_presets().values()) == FAMILIES.keys() - UNSIZED


@pytest.mark.parametrize("name", model_presets())
def test_a_preset_is_of_the_family_that_it_says(name):
    assert preset(name).model == FAMILIES[model_presets()[name]].checkpoint


@pytest.mark.parametrize("name", WANTED)
def test_eight_gpus_have_eight_times_the_batch_and_as_much_to_learn(name):
    one, eight = preset(name), preset(f"{name}-8gpu")
    assert all(eight.train.batch.of(role) == 8 * one.train.batch.of(role) for role in Role)
    assert eight.train.steps < one.train.steps
    assert eight.train.learning_rate == pytest.approx(2 * one.train.learning_rate)
    assert one.model_copy(update={"train": eight.train}) == eight  # nothing else differs


@pytest.mark.parametrize("name", model_presets())
def test_an_eight_gpu_preset_is_launched_with_eight_processes(name):
    launch = launch_of(name)
    assert (launch is not None) == name.endswith("-8gpu")
    if launch is not None:
        count = yaml.safe_load(launch_config(launch))["num_processes"]
        config = preset(name)
        plan_training(build_method(config.method, config.method_settings), config.train, processes=count)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_every_preset_is_launched_with_steps_that_can_be_shared_or_refused(launch):
    for name in preset_names():
        config = preset(name)
        quantised = config.model_settings.quantisation is not None
        try:
            start = for_launch(Choice(config), launch)
        except UserError as error:
            assert (name in ("demo", *PAPER) and "rows do not divide by 8 processes" in str(error)) or (
                quantised and launch != "ddp" and "4 bits" in str(error)
            )
            continue
        method = build_method(config.method, config.method_settings)
        plan_training(method, start.config.train, processes=processes_of(launch))
        if launch != "ddp":
            check_shardable(SimpleNamespace(base=SimpleNamespace(is_quantized=quantised)), [])
        turns = start.config.train.accumulate
        assert turns <= config.train.accumulate
        assert bool(start.reasons) == (turns < config.train.accumulate)
        unchanged = start.config.train.model_copy(update={"accumulate": config.train.accumulate})
        assert start.config.model_copy(update={"train": unchanged}) == config


def test_init_writes_a_pair_that_fits_together(tmp_path, monkeypatch, capsys):
    def init(name, launch):
        path = tmp_path / "my.yaml"
        monkeypatch.setattr("sys.argv", ["unsay", "init", str(path), "--preset", name, "--launch", launch])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return path, ended.value.code, " ".join("".join(capsys.readouterr()).split())

    path, code, said = init("mistral-small-3.1-24b-24gb", "fsdp2")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "--launch fsdp2: 4 bits (model_settings.quantisation) cannot be split over processes" in said
    path, code, said = init("mistral-small-3.1-24b", "fsdp2")
    assert code == 0
    assert "train.accumulate is 1 instead of 8: 8 processes share the rows of a step" in said
    assert read_config(path).train.accumulate == 1
    assert "fsdp_version: 2" in (tmp_path / "my.accelerate.yaml").read_text()


def test_cards_that_the_launcher_would_not_fill_are_refused():
    with pytest.raises(UserError, match=r"--launch ddp: starts 8 processes.* --gpus has 1: give 8xL4, or leave"):
        for_launch(Choice(), "ddp", (1, "L4"))


def test_what_a_preset_needs_first_is_told():
    told = {name: note_of(name) for name in preset_names() if note_of(name) is not None}
    assert told.keys() == {f"phi-4-multimodal{end}" for end in ("", "-24gb", "-8gpu")}
    assert all("--revision refs/pr/70" in note for note in told.values())
    assert not any("@" in preset(name).model for name in preset_names())


@pytest.mark.parametrize("name", LAUNCHES)
def test_launch_configurations_are_accelerates_own(name, tmp_path):
    path = tmp_path / "launch.yaml"
    path.write_text(launch_config(name))
    read = load_config_from_file(str(path))
    assert read.num_processes == 8
    # What `unsay.processes` reads, as the launcher sets it.
    environment = {"fsdp2": read.fsdp_config.get("fsdp_version"), "zero3": read.deepspeed_config.get("zero_stage")}
    assert environment.get(name) == {"fsdp2": 2, "zero3": 3}.get(name)


def test_an_unknown_way_to_launch_is_named():
    with pytest.raises(UserError, match="--launch: unknown 'zero2'; known are ddp, fsdp2, zero3"):
        launch_config("zero2")


def test_a_models_own_settings_go_before_the_general_ones():
    assert preset("gemma-3-12b").train.head_chunk == 256
    assert preset("gemma-3-12b").train.learning_rate == 5e-5
    assert preset("llava-1.5-7b").train.learning_rate == 1e-4


def test_real_models_begin_with_the_weights_and_forms_that_were_measured():
    demo, model = preset("demo"), preset("llava-1.5-7b")
    assert model.method_settings == demo.method_settings
    forms = [name for name in type(demo.data.recipe).model_fields if name.removeprefix("retain_") in FORMATS]
    assert len(forms) == 2 * len(FORMATS)
    assert [getattr(model.data.recipe, name) for name in forms] == [getattr(demo.data.recipe, name) for name in forms]


@pytest.mark.parametrize("name", WANTED)
def test_a_card_of_24_gb_makes_the_same_steps_in_turns(name):
    one, small = preset(name), preset(f"{name}-24gb")
    left_out = {"accumulate", "recompute"}  # no part of the result
    assert small.train.model_dump(exclude=left_out) == one.train.model_dump(exclude=left_out)
    assert small.train.accumulate > one.train.accumulate or small.train.recompute
    packed = small.model_settings.quantisation is not None
    assert packed == (one.train.learning_rate == 5e-5)  # the two sizes that half precision is too wide for
    assert small.model_copy(update={"train": one.train, "model_settings": one.model_settings}) == one


@pytest.mark.parametrize(
    ("kind", "billions", "name"),
    [
        ("qwen2_5_vl", 72, "qwen2.5-vl-7b"),
        ("llava", 7, "llava-1.5-7b"),
        ("llava", 13.4, "pixtral-12b"),
        ("paligemma", 2.9, "paligemma-3b"),
        ("aya_vision", 8, None),
    ],
)
def test_the_nearest_preset_is_of_the_family_and_then_of_the_size(kind, billions, name):
    assert nearest(kind, round(billions * 1e9)) == name


def test_a_model_without_a_preset_gets_its_sizes_settings_and_its_familys_own():
    small, large = (settings_for("mine", "gemma3", round(size * 1e9)) for size in (4.3, 27.4))
    assert (small.model, small.train.head_chunk, large.train.head_chunk) == ("mine", 256, 256)
    assert (small.train.learning_rate, small.train.accumulate) == (1e-4, 1)
    assert (large.train.learning_rate, large.train.accumulate) == (5e-5, 8)
    unknown = settings_for("mine", "aya_vision", 2 * 10**9, "8gpu")
    assert unknown.train.head_chunk == 512
    assert unknown.train.learning_rate == pytest.approx(4e-4)  # twice a small model's, with eight times the batch
    assert settings_for("mine", "aya_vision", 32 * 10**9, "24gb").model_settings.quantisation == "4-bit"


@pytest.mark.parametrize("name", ["llava-1.5-7b", "gemma-3-12b-8gpu", "mistral-small-3.1-24b-24gb", "demo"])
def test_what_init_writes_for_a_preset_parses_back_to_it(name):
    text = starting_config(preset(name))
    assert parse_config(text, "x") == preset(name)
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("name", ["models", "llava-1.5-7b-2gpu", "../demo"])
def test_an_unknown_preset_is_named_with_those_that_are_known(name):
    with pytest.raises(UserError, match=r"preset: unknown .*known are demo, paper-llava-1\.5-7b"):
        preset(name)


@pytest.mark.parametrize("name", TRAINED)
def test_a_preset_trains_the_tiny_model_of_its_family(name, tmp_path):
    family = FAMILIES[model_presets()[name]]
    if family.lacks:
        pytest.skip(f"{family.name} needs {', '.join(family.lacks)}; run with torchvision in test_families")
    config = preset(name)
    family.build(tmp_path / "tiny")
    # Everything of the preset but the graphics card and the number of steps.
    settings = config.train.model_copy(update={"steps": 1, "warmup_steps": 0})
    vlm = load(str(tmp_path / "tiny"), settings=config.model_settings)
    assert next(vlm.base.parameters()).dtype is torch.bfloat16
    method = build_method(config.method, config.method_settings)
    result = train(vlm, tiny.examples(per_role=8), method, settings, tmp_path / "run")
    assert (result.steps, result.stopped) == (1, "finished")
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_preset_says_where_each_of_its_values_is_from(name):
    path = PRESETS / f"{name}.yaml"
    lines = path.read_text().splitlines()
    settings = [line for line in lines if ":" in line and not line.lstrip().startswith("#") and not line.endswith(":")]
    bare = [line for line in settings if not any(mark in line for mark in ("[paper]", "[origin]", "[unsay]"))]
    sections = {"data:", "train:", "evaluation:", "  recipe:", "method_settings:"}
    named_above = {"forget: [pku_saferlhf_pairs]", "suites: ["}  # a comment of several lines stands above them
    assert [line for line in bare if line not in sections and not any(name in line for name in named_above)] == []


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_preset_has_the_papers_weights_and_no_addition_of_ours(name):
    config = preset(name)
    weights = config.method_settings
    assert (weights["forget_weight"], weights["refuse_weight"], weights["retain_weight"]) == (0.5, 1.0, 1.0)
    assert (weights["forget_cap"], weights["decision_weight"], weights["mismatch_weight"]) == (None, 0, 0)
    assert config.model == preset(PAPER[name]).model
    assert config.model_copy(update={"model": "same"}) == preset(next(iter(PAPER))).model_copy(update={"model": "same"})


@pytest.mark.usefixtures("unmeasured_judge")
@pytest.mark.parametrize("name", PAPER)
def test_the_papers_preset_runs_from_its_data_to_the_report_on_the_tiny_model_of_its_family(
    name, tmp_path, monkeypatch
):
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path / "data"))
    published_sources.pku_saferlhf_pairs(tmp_path / "data")
    published_sources.truthfulqa(tmp_path / "data")
    FAMILIES[model_presets()[PAPER[name]]].build(tmp_path / "tiny")
    values = preset(name).model_dump(exclude={"train": {"seed"}})
    values |= {"model": str(tmp_path / "tiny"), "device": "cpu"}
    values["train"]["steps"] = 2
    values["data"]["recipe"]["probe"] = 0
    values["evaluation"] |= {"suites": ("shapes",), "limit": 2, "judge": "rules", "judge_settings": {}}
    values["evaluation"]["generation"] = {"max_new_tokens": 2}
    scores = api.unlearn(RunConfig.model_validate(values), tmp_path / "run")
    assert {row.suite for row in scores.utility} == {"shapes"}
    assert (tmp_path / "run" / "report.html").exists()
    assert stored_config(tmp_path / "run").train.lora.rank == 32


def test_a_preset_runs_by_its_name_with_another_model_and_fewer_steps(monkeypatch, tmp_path, capsys):
    started = []
    monkeypatch.setattr(api, "unlearn", lambda config, out, **_: started.append(config) or (_ for _ in ()).throw(
        UserError("[started]")
    ))  # fmt: skip

    def run(*options):
        monkeypatch.setattr("sys.argv", ["unsay", "unlearn", *options, "--out", str(tmp_path / "run")])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    run("--preset", "paper-llava-1.5-7b", "--model", "pocket", "--steps", "3", "--limit", "2")
    (config,) = started
    assert (config.model, config.device, config.train.steps, config.evaluation.limit) == ("pocket", "cpu", 3, 2)
    assert config.model_settings == RunConfig().model_settings
    assert config.data == preset("paper-llava-1.5-7b").data
    assert run() == (2, "unsay: give --config FILE (`unsay init` writes one) or --preset NAME")
    assert run("--preset", "demo", "--config", "x.yaml")[1].endswith(
        "--config and --preset exclude each other: give one of them"
    )
    assert "preset: unknown 'papers'; known are demo, paper-llava-1.5-7b" in run("--preset", "papers")[1]
