"""Every family from end to end: loaded, unlearned on text alone, saved, reloaded by plain peft, merged and exported.

One tiny random model of the real class per family, with a real processor. Families whose processors need torchvision
are run in a process of their own where torch and torchvision do not fit each other; see the last test.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from PIL import Image

from helpers import tiny
from helpers.families import FAMILIES, Family
from helpers.families.matrix import CHECKS, PAGE, read_table
from helpers.training import train
from tests.presets.test_presets import TRAINED
from unsay.generation import GenerationSettings
from unsay.generation.responses import generate
from unsay.methods import build_method
from unsay.models import VLM, load
from unsay.models.lora import weights_outside_language
from unsay.models.merge import write_merged
from unsay.presets import model_presets
from unsay.records import Example, Kind, Modality, Prompt, Role
from unsay.training.encode import collate, encode
from unsay.training.settings import BatchSettings, TrainSettings

LIMITS = {"max_prompt_tokens": 256, "max_answer_tokens": 64}
SETTINGS = TrainSettings(
    steps=2, batch=BatchSettings(forget=2, refuse=2, retain=2), learning_rate=0.05, warmup_steps=0, checkpoint_every=2
)
# One place of padding makes every model build its mask: PaliGemma, opened without unsay, reads a text without one in
# both directions.
TEXT = {
    "input_ids": torch.tensor([[2, 30, 40, 50, 60, 45, 33]]),
    "attention_mask": torch.tensor([[0, 1, 1, 1, 1, 1, 1]]),
}


@dataclass
class Case:
    """One family on its way."""

    family: Family
    checkpoint: Path
    folder: Path
    vlm: VLM
    frozen: tuple[str, ...]
    """Paths of the topmost modules with weights outside the language model's layers."""
    trained: VLM | None = None
    seen: int = 0
    """How often a part of a tower or a projector ran during training."""

    def after_training(self) -> VLM:
        """The adapted model; trains it at first use."""
        if self.trained is None:
            blocks = [
                module
                for path in self.frozen
                for module in self.vlm.base.get_submodule(path).modules()
                if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d)
                and module is not self.vlm.lm_head
            ]
            assert blocks
            handles = [block.register_forward_pre_hook(self._count) for block in blocks]
            method = build_method("textual-unlearning")
            self.trained = train(self.vlm, tiny.examples(), method, SETTINGS, self.folder / "run").vlm
            for handle in handles:
                handle.remove()
        return self.trained

    def _count(self, *_: object) -> None:
        self.seen += 1

    @property
    def adapter(self) -> Path:
        """The saved adapter."""
        self.after_training()
        return self.folder / "run" / "adapter"


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    family = FAMILIES[request.param]
    if family.lacks:
        pytest.skip(f"{family.name} needs {', '.join(family.lacks)}; see test_families_that_need_torchvision")
    folder = tmp_path_factory.mktemp("family")
    family.build(folder / "checkpoint")
    vlm = load(str(folder / "checkpoint"))
    return Case(
        family,
        folder / "checkpoint",
        folder,
        vlm,
        tuple(frozen_paths(vlm.base, {id(layer) for layer in vlm.text_layers})),
    )


def frozen_paths(module: torch.nn.Module, trained: set[int], path: str = "") -> list[str]:
    """Topmost modules that have weights and hold none of the trained layers."""
    if id(module) in trained or next(module.parameters(), None) is None:
        return []
    if not any(id(inner) in trained for inner in module.modules()):
        return [path]
    return [
        name
        for child, inner in module.named_children()
        for name in frozen_paths(inner, trained, f"{path}.{child}".lstrip("."))
    ]


def logits(model: torch.nn.Module, inputs: object = None) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits if inputs is not None else model(**TEXT).logits[:, 1:]


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8))


def with_picture(vlm: VLM, seed: int) -> object:
    text = vlm.render("What is this?", image=True)
    return vlm.processor(images=[[picture(seed)]], text=[text], return_tensors="pt", add_special_tokens=False)


def reopened(case: Case, folder: Path) -> torch.nn.Module:
    """Opened as anyone would who has never heard of unsay."""
    config = json.loads((folder / "config.json").read_text())
    return getattr(transformers, config["architectures"][0]).from_pretrained(folder, dtype=torch.float32).eval()


def test_loads_with_everything_frozen(case):
    assert len(case.vlm.text_layers) >= 2
    assert not any(parameter.requires_grad for parameter in case.vlm.model.parameters())
    layers = {id(p) for layer in case.vlm.text_layers for p in layer.parameters()}
    frozen = {id(p) for path in case.frozen for p in case.vlm.base.get_submodule(path).parameters()}
    whole = {id(p) for p in case.vlm.base.parameters()}
    assert not layers & frozen
    # Nothing is forgotten but single parameters beside modules, such as LLaVA-NeXT's image_newline.
    assert sum(p.numel() for p in case.vlm.base.parameters() if id(p) in whole - layers - frozen) <= 64


def test_what_no_text_meets_is_known(case):
    """Of an adapter's weights: those on the vision side, whatever the layout."""
    vlm = case.vlm if case.trained is None else load(str(case.checkpoint))
    linears = {name: module for name, module in vlm.base.named_modules() if isinstance(module, torch.nn.Linear)}
    met = set()
    handles = [m.register_forward_pre_hook(lambda *_, name=name: met.add(name)) for name, m in linears.items()]
    logits(vlm.base)
    for handle in handles:
        handle.remove()
    layers = {id(module) for layer in vlm.text_layers for module in layer.modules()}
    met |= {name for name, module in linears.items() if id(module) in layers}  # an expert that is not asked, too
    named = {f"base_model.model.{name}.lora_A.weight": name for name in linears}
    found = {named[name] for name in weights_outside_language(vlm, named)}
    assert found
    assert found == linears.keys() - met


def test_a_prompt_with_a_picture_begins_and_ends_once(case):
    """PaliGemma's processor puts a second beginning and line break around what the template wrote."""
    vlm = case.vlm
    ids = with_picture(vlm, 1)["input_ids"][0].tolist()
    words = vlm.encode_prompt("What is this?")
    begins = [token for token in (vlm.tokenizer.bos_token_id,) if token is not None]
    assert [ids.count(token) for token in begins] == [words.count(token) for token in begins]
    assert ids[-3:] == words[-3:]


def test_scores_exactly_the_answer_and_its_end(case):
    for prompt, answer in zip(tiny.PROMPTS, tiny.ANSWERS, strict=True):
        example = Example(id="x", role=Role.REFUSE, prompt=prompt, answer=answer, source="toy")
        batch = collate([encode(case.vlm, example, **LIMITS)])
        assert torch.equal(batch.input_ids[batch.rows, batch.predictors + 1], batch.targets)
        assert case.vlm.tokenizer.decode(batch.targets.tolist()) == answer + case.family.answer_end
    assert case.vlm.answer_end[-1] in case.vlm.end_tokens


def test_learns_from_text_with_the_language_model_alone(case):
    before = {name: parameter.clone() for name, parameter in case.vlm.base.named_parameters()}
    adapted = case.after_training()
    inside = {id(p) for layer in adapted.text_layers for p in layer.parameters()}
    lora = [(name, p) for name, p in adapted.base.named_parameters() if "lora_" in name]
    assert lora
    assert all(id(parameter) in inside for _, parameter in lora)
    assert all(bool(parameter.any()) for _, parameter in lora)  # each of them learned
    after = {name.replace(".base_layer", ""): p for name, p in adapted.base.named_parameters() if "lora_" not in name}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert case.seen == 0  # no tower ran


def test_adapter_changes_what_it_says(case):
    adapted = case.after_training()
    on = logits(adapted.model)
    with adapted.model.disable_adapter():
        off = logits(adapted.model)
    assert (on - off).abs().max() > 0.01


def test_says_another_thing_of_another_picture(case, tmp_path):
    vlm = case.after_training()
    prompts = []
    for seed in range(4):
        picture(seed).save(tmp_path / f"{seed}.png")
        image = str(tmp_path / f"{seed}.png")
        prompts.append(
            Prompt(
                id=str(seed), suite="s", kind=Kind.BENIGN, modality=Modality.IMAGE, prompt="What is this?", image=image,
                request="What is this?", group=str(seed),
            )
        )  # fmt: skip
    answers = [row for rows in generate(vlm, prompts, GenerationSettings(max_new_tokens=8)) for row in rows]
    assert len({row.response for row in answers}) > 1
    assert all(row.image_tokens > 0 for row in answers)


def test_plain_peft_loads_the_adapter(case):
    wanted = logits(case.after_training().model)
    plain = PeftModel.from_pretrained(reopened(case, case.checkpoint), str(case.adapter))
    assert torch.equal(logits(plain), wanted)


def test_merged_checkpoint_says_the_same(case):
    adapted = case.after_training()
    pictured = with_picture(adapted, 0)
    wanted = [logits(adapted.model), logits(adapted.model, pictured)]
    parity = write_merged(load(str(case.checkpoint), adapter=case.adapter), case.folder / "merged", dtype="float32")
    assert parity.text <= 1e-4
    assert parity.image <= 1e-4
    merged = reopened(case, case.folder / "merged")
    for inputs, expected in zip((None, pictured), wanted, strict=True):
        assert (logits(merged, inputs) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_page_has_every_family_and_every_check():
    """Written by tests/helpers/families/matrix.py; a family that joins or a check that is renamed shows here."""
    cells = read_table(PAGE.read_text(encoding="utf-8"))
    assert set(cells) == {(family, check) for family in FAMILIES for check in CHECKS.values()}
    assert set(cells.values()) == {"yes"}


def _torchvision(folder: Path) -> Path | None:
    """torchvision's wheel of this torch's version, unpacked; None if the package index cannot be reached."""
    minor = int(torch.__version__.split(".")[1])
    wanted = f"torchvision==0.{minor + 15}.*"  # torch 2.n goes with torchvision 0.(n + 15)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), wanted]
    return folder if subprocess.run(command, capture_output=True).returncode == 0 else None


@pytest.mark.skipif(not FAMILIES["Qwen2-VL"].lacks, reason="torchvision is installed: its families ran above")
def test_families_that_need_torchvision(tmp_path):
    folder = _torchvision(tmp_path / "torchvision")
    if folder is None:
        pytest.skip("torchvision cannot be had from the package index")
    tests = Path(__file__).parents[1]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "helpers.torchvision_beside_torch",
        "-p",
        "no:cacheprovider",
        "--tb=short",
    ]
    skipped = [family.name for family in FAMILIES.values() if family.lacks]
    cases = [f"{__file__}::{check}[{name}]" for name in skipped for check in CHECKS]
    presets = [name for name in TRAINED if model_presets()[name] in skipped]
    trains = f"{tests / 'presets/test_presets.py'}::test_a_preset_trains_the_tiny_model_of_its_family"
    cases += [f"{trains}[{name}]" for name in presets]
    assert presets
    path = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "UNSAY_TEST_TORCHVISION": str(folder), "PYTHONPATH": path}
    done = subprocess.run([*command, *cases], capture_output=True, text=True, env=environment, cwd=tests.parent)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{len(cases)} passed" in done.stdout, done.stdout[-3000:]
    assert " skipped" not in done.stdout, done.stdout[-3000:]
