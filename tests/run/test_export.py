"""Exports: whole or absent, opened without unsay, compared before they are said to be done, with an honest card."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import dispatch_model
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

from helpers import tiny
from tests.models.test_models import acting, logits
from unsay import api
from unsay.config import DataConfig, RunConfig, read_config, write_config
from unsay.errors import UserError
from unsay.files import atomic_folder
from unsay.models import ModelSettings, load, load_adapter, merge
from unsay.models.merge import Parity, write_merged
from unsay.playground.session import PlaySettings, of_run
from unsay.records import Kind, Modality, Phase
from unsay.run.directory import begin_work
from unsay.run.export import export
from unsay.run.model_card import Form, _data, _recipe, model_card
from unsay.scoring import read_scores, write_scores
from unsay.scoring.schema import (
    Accuracy,
    JudgeInfo,
    Scores,
    SuiteRow,
    Target,
    TargetResult,
    UtilityRow,
)
from unsay.statistics import Interval


@pytest.fixture
def run(tiny_folder, tmp_path):
    """A run directory with an adapter that acts, and the logits that it gives."""
    folder = tmp_path / "run"
    write_config(folder / "config.yaml", RunConfig(model=str(tiny_folder)))
    adapted = acting(load(str(tiny_folder)))
    tiny.save_trained(adapted, folder)
    return folder, logits(adapted.model)


def test_merged_checkpoint_opens_with_transformers_alone(run, tmp_path):
    folder, wanted = run
    done = export(folder, tmp_path / "out", merge=True)
    assert done.dtype == "float32"
    assert done.parity.text < 1e-5
    assert done.parity.effect > 0.01
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert (logits(model) - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-6
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert AutoProcessor.from_pretrained(tmp_path / "out").chat_template
    assert model.lm_head.weight is model.get_input_embeddings().weight  # tied before, tied after
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= names
    assert not list(tmp_path.glob(".*.tmp"))


def test_shards_are_whole_too(run, tmp_path, monkeypatch):
    folder, wanted = run
    monkeypatch.setattr(merge, "SHARD", "50KB")
    export(folder, tmp_path / "out", merge=True)
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert (logits(model) - wanted).abs().max() < 1e-4


def test_precision_is_asked_for_or_the_checkpoints_own(run, tmp_path):
    folder, _ = run
    done = export(folder, tmp_path / "half", merge=True, dtype="float16")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    assert 1e-6 < done.parity.text < 2e-2
    with pytest.raises(UserError, match="--dtype: 'int8'"):
        export(folder, tmp_path / "eight", merge=True, dtype="int8")
    assert not (tmp_path / "eight").exists()


def test_without_merge_it_is_a_plain_adapter_with_a_card(run, tiny_folder, tmp_path):
    folder, wanted = run
    done = export(folder, tmp_path / "out")
    assert done.parity is None
    plain = PeftModel.from_pretrained(load(str(tiny_folder)).model, str(tmp_path / "out"))
    assert torch.equal(logits(plain), wanted)
    assert "nothing was measured" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_an_adapter_at_another_strength_is_what_peft_makes_of_it(run, tiny_folder, tmp_path, strength):
    folder, full = run
    here = load(str(tiny_folder), adapter=folder / "adapter")
    for module in here.model.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(strength)
    wanted = logits(here.model)
    assert not torch.allclose(wanted, full)
    export(folder, tmp_path / "out", strength=strength)
    there = PeftModel.from_pretrained(load(str(tiny_folder)).model, str(tmp_path / "out"))
    assert torch.allclose(logits(there), wanted, atol=1e-6)
    export(folder, tmp_path / "merged", merge=True, strength=strength)
    merged_model = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    assert (logits(merged_model) - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-6


def test_alphas_of_single_modules_are_scaled_too(run, tiny_folder, tmp_path):
    folder, _ = run
    path = folder / "adapter" / "adapter_config.json"
    settings = json.loads(path.read_text())
    name = settings["target_modules"][0]
    path.write_text(json.dumps({**settings, "alpha_pattern": {name: 3 * settings["lora_alpha"]}}))
    export(folder, tmp_path / "out", strength=0.5)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["lora_alpha"] == 0.5 * settings["lora_alpha"]
    assert written["alpha_pattern"] == {name: 1.5 * settings["lora_alpha"]}


def test_the_card_says_that_another_strength_was_not_measured(run, tmp_path):
    card = card_of(run[0], tmp_path / "out", {"dtype": "float32"}, strength=0.7)
    assert "**The adapter acts at 0.7 times its trained strength.**" in card
    assert "**Measured in float32 at strength 1; at strength 0.7 it was not asked.**" in card
    plain = card_of(run[0], tmp_path / "plain", {"dtype": "float32"})
    assert "strength" not in plain


@pytest.mark.parametrize("strength", [0, -1, float("nan"), float("inf")])
def test_a_strength_is_above_0(run, tmp_path, strength):
    with pytest.raises(UserError, match=r"--strength .*: give a number above 0; 0 is the original model"):
        export(run[0], tmp_path / "out", strength=strength)
    assert not (tmp_path / "out").exists()


def test_an_adapter_that_is_more_than_lora_has_one_strength(run, tmp_path):
    folder, _ = run
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "modules_to_save": ["lm_head"]}))
    with pytest.raises(UserError, match="more than LoRA"):
        export(folder, tmp_path / "out", strength=0.5)


def test_logits_are_compared_as_coarsely_as_they_were_computed(run, tmp_path):
    """A run in bfloat16 whose checkpoint is in float16: what it rounds is not the merge's fault."""
    folder, _ = run
    config = read_config(folder / "config.yaml")
    write_config(folder / "config.yaml", config.model_copy(update={"model_settings": ModelSettings(dtype="bfloat16")}))
    compared = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "_check", lambda _name, _parity, dtype: compared.append(dtype))
        export(folder, tmp_path / "half", merge=True, dtype="float16")
        write_config(folder / "config.yaml", config)
        export(folder, tmp_path / "whole", merge=True, dtype="float16")
    assert compared == ["bfloat16", "float16"]


def test_a_merge_that_says_something_else_fails_and_leaves_nothing(run, tmp_path, monkeypatch):
    folder, _ = run
    save = merge._save

    def spoilt(model, processor, into):
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(1.5)
        save(model, processor, into)

    monkeypatch.setattr(merge, "_save", spoilt)
    with pytest.raises(UserError, match="does not say what the adapter says"):
        export(folder, tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("parity", "dtype", "says"),
    [
        (Parity(text=0.002, image=0.0, effect=0.5), "float32", "does not say"),
        (Parity(text=0.0, image=0.002, effect=0.5), "float32", "does not say"),
        (Parity(text=float("nan"), image=0.0, effect=0.5), "float32", "does not say"),
        (Parity(text=0.01, image=0.01, effect=0.015), "bfloat16", "--dtype float32"),
        (Parity(text=0.0009, image=0.0009, effect=0.002), "float32", None),
        (Parity(text=0.079, image=0.01, effect=0.2), "bfloat16", None),
    ],
)
def test_what_counts_as_the_same(parity, dtype, says):
    if says is None:
        merge._check("m", parity, dtype)
    else:
        with pytest.raises(UserError, match=says):
            merge._check("m", parity, dtype)


def test_a_full_disk_is_named_before_and_while_writing(run, tmp_path, monkeypatch):
    folder, _ = run
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(merge.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(UserError, match="disk full"):
            export(folder, tmp_path / "out", merge=True)

    def full(*_args, **_more):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(UserError, match="disk full while writing"):
        export(folder, tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def opened(monkeypatch):
    """How every model was opened, from first to last: (device, settings)."""
    seen = []

    def noted(source, *, device="cpu", settings, **more):
        seen.append((device, settings))
        return load(source, device=device, settings=settings, **more)

    for room in ("unsay.run.export.load", "unsay.models.merge.load"):
        monkeypatch.setattr(room, noted)
    return seen


def test_what_is_written_is_opened_as_the_model_was(run, tmp_path, opened):
    """A model that needs a device map needs it again, and does not fit one card the second time either."""
    folder, _ = run
    config = read_config(folder / "config.yaml")
    settings = ModelSettings(dtype="auto", device_map="auto", attention="eager")
    write_config(folder / "config.yaml", config.model_copy(update={"model_settings": settings}))
    export(folder, tmp_path / "out", merge=True, dtype="bfloat16")
    (_, first), (_, second) = opened
    assert (first.device_map, first.attention) == (second.device_map, second.attention) == ("auto", "eager")
    assert second.dtype == "float32"  # the tiny checkpoint's own, not that of what was written


def test_a_device_goes_before_the_map(run, tmp_path, opened):
    folder, _ = run
    config = read_config(folder / "config.yaml")
    settings = ModelSettings(device_map="auto", attention="flash_attention_2")
    changed = {"model_settings": settings, "device": "cuda"}
    write_config(folder / "config.yaml", config.model_copy(update=changed))
    export(folder, tmp_path / "out", merge=True, device="cpu")
    assert [device for device, _ in opened] == ["cpu", "cpu"]
    assert all(settings.device_map is None and settings.attention is None for _, settings in opened)


@pytest.mark.parametrize("where", ["unsay.run.export.load", "unsay.models.merge.load"])
@pytest.mark.parametrize("told", [True, False])
def test_too_little_memory_says_what_to_do(run, tmp_path, monkeypatch, where, told):
    folder, _ = run

    def full(*_args, **_more):
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError as error:
            if told:  # as `load` says it of a model that is put on a device
                raise UserError("device: 'cuda' cannot be used here") from error
            raise

    monkeypatch.setattr(where, full)
    with pytest.raises(UserError, match=r"out of memory while merging.*: use a machine") as caught:
        export(folder, tmp_path / "out", merge=True)
    assert "\n" not in str(caught.value)
    config = read_config(folder / "config.yaml")
    write_config(folder / "config.yaml", config.model_copy(update={"device": "cpu:0"}))
    with pytest.raises(UserError, match="use --device cpu, the machine's own memory"):
        export(folder, tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()


def test_other_problems_of_loading_are_said_as_they_are(run, tmp_path):
    folder, _ = run
    with pytest.raises(UserError, match="device: 'toaster' cannot be used here"):
        export(folder, tmp_path / "out", merge=True, device="toaster")


def test_a_model_that_is_partly_elsewhere_is_not_merged(tiny_folder, run, tmp_path):
    folder, _ = run
    whole = load(str(tiny_folder))
    places = dict.fromkeys(("model.language_model", "model.multi_modal_projector", "lm_head"), "cpu")
    places["model.vision_tower"] = "disk"
    whole.model = dispatch_model(whole.model, places, offload_dir=str(tmp_path / "offload"))
    spread = load_adapter(whole, folder / "adapter")
    with pytest.raises(UserError, match="a part of it is not in memory and cannot be merged: export with --device cpu"):
        write_merged(spread, tmp_path / "out", "float32")
    assert not (tmp_path / "out").exists()


def test_what_is_missing_or_in_the_way_is_named(run, tmp_path):
    folder, _ = run
    with pytest.raises(UserError, match=r"no run there \(config\.yaml is missing\)"):
        export(tmp_path / "none", tmp_path / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    with pytest.raises(UserError, match="exists already"):
        export(folder, tmp_path / "taken")
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no PEFT adapter there \(adapter_model\.safetensors is missing"):
        export(folder, tmp_path / "out")


def test_a_damaged_adapter_is_not_handed_out(run, tmp_path):
    folder, _ = run
    weights = folder / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: cannot be read .*is it damaged"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_earlier_settings_is_not_passed_off_as_the_runs(run, tmp_path):
    folder, _ = run
    begin_work(folder, read_config(folder / "config.yaml").model_copy(update={"data": DataConfig(answer_tokens=7)}), {})
    earlier = f"{folder / 'adapter'}: the adapter there belongs to earlier settings: run the same `unsay unlearn` again"
    with pytest.raises(UserError, match=earlier):
        export(folder, tmp_path / "out")
    with pytest.raises(UserError, match=earlier):
        api.robustness(folder, checks=["samples"], quick=True)
    with pytest.raises(UserError, match=earlier):
        of_run(folder, PlaySettings())
    assert not (tmp_path / "out").exists()


def test_an_atomic_folder_is_whole_or_absent(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(UserError, match="is the current folder"), atomic_folder(Path()):
        pass
    monkeypatch.chdir(tmp_path)
    # Empty is as good as absent.
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("whole")
    assert (tmp_path / "a" / "x").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_sampling_settings_without_sampling_do_not_stop_the_export(tiny_folder, tmp_path):
    """LLaVA-1.5 is published with a temperature and without sampling; transformers refuses to save that."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_folder, copy)
    path = copy / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_sample": False, "temperature": 0.9, "top_p": 0.6}))
    adapted = acting(load(str(copy)))
    tiny.save_trained(adapted, tmp_path / "run")
    write_config(tmp_path / "run" / "config.yaml", RunConfig(model=str(copy)))
    export(tmp_path / "run", tmp_path / "out", merge=True)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def scores():
    def row(phase, harmful, rate):
        return SuiteRow(
            suite="a", title="Attacks", kind=Kind.ATTACK, modality=Modality.TEXT, phase=phase, n=40, unique=40,
            refused=40 - harmful, safe=0, harmful=harmful, degenerate=0, failed=0, rate=rate,
            interval=Interval(low=max(0, rate - 0.1), high=rate + 0.1), coherent_safety=1 - rate,
            coherent_interval=Interval(low=0.1, high=1),
        )  # fmt: skip

    accuracy = Accuracy(value=0.86, low=0.82, high=0.89, n=394, dataset="labels")
    utility = UtilityRow(suite="u", title="Reading", phase=Phase.BEFORE, n=12, value=0.25)
    return Scores(
        rows=(row(Phase.BEFORE, 34, 0.85), row(Phase.AFTER, 2, 0.05)),
        utility=(utility,),
        judge=JudgeInfo(name="probe", accuracy={"accuracy": accuracy}),
    )


def test_the_card_has_method_data_scores_judge_limits_and_licence(run, tmp_path, tiny_folder):
    folder, _ = run
    write_scores(folder / "scores.json", scores())
    export(folder, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["base_model"] == tiny_folder.name
    assert str(tiny_folder.parent) not in card  # where it lies here is nobody's business
    assert f"# {tiny_folder.name}, after textual-unlearning" in card
    assert header["library_name"] == "peft"
    assert "license" not in header  # nobody here knows it
    for words in ("2406.02575", "rank 16", "AdvBench", "| Attacks | 40 | ASR | 85.0% (75.0–95.0) | 5.0%", "86.0%",
                  "394 human labels", "| Reading (higher is better) | 12 | 25.0%", "## Limits",
                  "## Licence"):  # fmt: skip
        assert words in card, words


def test_the_card_says_what_was_shown_in_training(run, tmp_path):
    folder, _ = run
    export(folder, tmp_path / "words")
    card = (tmp_path / "words" / "README.md").read_text()
    assert "on text alone: the vision tower" in card
    assert "were given as" not in card
    data = DataConfig(modality={Modality.TEXT: 1, Modality.TYPOGRAPHIC: 3}, retain_modality=Modality.IMAGE)
    config = read_config(folder / "config.yaml")
    write_config(folder / "config.yaml", config.model_copy(update={"data": data}))
    (folder / "train").mkdir()
    (folder / "train" / "metrics.jsonl").write_text('{"step": 1, "tokens": 9, "image_tokens": 4}\n')
    export(folder, tmp_path / "pictures")
    card = (tmp_path / "pictures" / "README.md").read_text()
    assert "on pictures too; yet the vision tower and the projector are as they were" in card
    assert "text alone" not in card
    assert "given as: text 25.0%, typographic 75.0%. Ordinary prompts: image 100.0%." in card


@pytest.mark.parametrize(
    ("method", "settings", "says", "not_so"),
    [
        ("textual-unlearning", {}, ["the model itself and by refusals", "Ordinary prompts"], []),
        ("refusal-sft", {}, ["answered by refusals", "Ordinary prompts"], ["the model itself"]),
        ("idk", {}, ["answered by refusals"], ["the model itself"]),
        ("gradient-ascent", {}, ["answered by the model itself."], ["refusals", "Ordinary prompts"]),
        ("dpo", {}, ["the model itself and by refusals", "Ordinary prompts"], []),
        ("npo", {"retain_ce_weight": 0}, ["answered by the model itself."], ["refusals", "Ordinary prompts"]),
        ("prompt-decouple", {"retain_ce_weight": 0}, ["by refusals", "Ordinary prompts"], ["the model itself"]),
    ],
)
def test_the_card_names_the_data_that_the_method_learned_from(method, settings, says, not_so):
    data = _recipe(RunConfig(method=method, method_settings=settings))
    assert all(words in data for words in says), data
    assert not any(words in data for words in not_so), data


@pytest.mark.parametrize(
    ("data", "says", "not_so"),
    [
        ({"recipe": {"sources": ["advbench"]}}, ["AdvBench's train half, answered"], ["PyRIT", "garak"]),
        ({"recipe": {"sources": ["pyrit_seeds", "pyrit_objectives"]}}, ["from PyRIT, answered"], ["AdvBench"]),
        ({"forget": ["pku_saferlhf_pairs"]}, ["Besides: Refusals of", "Ordinary prompts"], ["AdvBench", "PyRIT"]),
        ({"retain": ["truthfulqa"]}, ["AdvBench's train half, PyRIT and garak"], ["Magpie"]),
        ({"refuse": ["pku_saferlhf_pairs"]}, ["answered by the model itself."], ["refusals written"]),
        ({"forget": ["pku_saferlhf_pairs"], "retain": ["truthfulqa"]}, ["To forget:"], ["Ordinary", "AdvBench"]),
    ],
)
def test_the_card_names_no_data_that_was_not_used(data, says, not_so):
    text = _data(RunConfig(data=data))
    assert all(words in text for words in says), text
    assert not any(words in text for words in not_so), text


def test_the_card_has_a_row_for_every_part_of_a_suite(run, tmp_path):
    """A user's suite may mix words and pictures, attacks and harmless requests."""
    folder, _ = run
    one = scores()
    others = [
        row.model_copy(update={"title": "Attacks (image)", "modality": Modality.IMAGE, "rate": row.rate / 2})
        for row in one.rows
    ]
    write_scores(folder / "scores.json", one.model_copy(update={"rows": (*one.rows, *others)}))
    export(folder, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| Attacks | 40 | ASR | 85.0% (75.0–95.0) | 5.0%" in card
    assert "| Attacks (image) | 40 | ASR | 42.5% (75.0–95.0) | 2.5%" in card


def test_the_command_says_what_it_did(run, tmp_path, monkeypatch, capsys):
    from unsay import cli

    folder, _ = run
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["unsay", "export", str(folder), "--merge", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "Merged in float32 and read back" in said
    assert said.rstrip().endswith(f"Export: {out}")


def card_of(folder, out, settings, **how):
    """The card of an export of a run with scores and these model settings."""
    config = read_config(folder / "config.yaml")
    write_config(folder / "config.yaml", config.model_copy(update={"model_settings": ModelSettings(**settings)}))
    write_scores(folder / "scores.json", scores())
    export(folder, out, **how)
    return (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("settings", "dtype", "says"),
    [
        ({"quantisation": "4-bit"}, "bfloat16", "Measured in 4 bits; this checkpoint in bfloat16 was not asked:"),
        ({"dtype": "float32"}, "bfloat16", "Measured in float32; this checkpoint in bfloat16 was not asked:"),
        ({"dtype": "bfloat16"}, "float32", "Measured in bfloat16; this checkpoint in float32 was not asked:"),
        ({"dtype": "auto"}, None, None),
    ],
)
def test_the_card_of_a_merged_checkpoint_says_which_weights_were_measured(run, tmp_path, settings, dtype, says):
    """A run in 4 bits is merged into whole weights: its scores are those of another model."""
    card = card_of(run[0], tmp_path / "out", settings, merge=True, dtype=dtype)
    if says is None:
        assert "Measured in float32, with the adapter on; this checkpoint was compared with that" in card
        assert "not asked" not in card
    else:
        assert f"**{says}** `unsay evaluate --config ask.yaml --model THIS_FOLDER" in card
        assert f"model_settings: {{dtype: {dtype}}}" in card


def test_the_card_of_an_adapter_says_on_which_weights_it_was_measured(run, tmp_path):
    card = card_of(run[0], tmp_path / "out", {"dtype": "bfloat16", "quantisation": "4-bit"})
    assert "Measured with the base model in 4 bits; in another precision it was not asked." in card


def test_the_card_holds_no_model_but_the_demos_to_the_demos_limits(run, tmp_path):
    """Also where older scores have them."""
    missed = [
        TargetResult(target=Target(suite="a", measure=measure, limit=0.05), title="Attacks", value=0.5, met=False)
        for measure in ("asr", "degenerate")
    ]
    write_scores(run[0] / "scores.json", scores().model_copy(update={"targets": tuple(missed)}))
    export(run[0], tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "More than 5% of the answers are degenerate in 1 of 1 suites." in card
    assert "set before the run" not in card
    demo = model_card(RunConfig(), read_scores(run[0] / "scores.json"), {}, {}, Form())
    assert "2 of 2 targets that were set before the run were missed." in demo
