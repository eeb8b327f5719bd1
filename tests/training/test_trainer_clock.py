"""What a run pays for: what it needs, when it needs it, and that once, however often it is killed."""

import time
from types import SimpleNamespace

import pytest
from PIL import Image
from safetensors import safe_open

from helpers import tiny
from tests.studies.test_budget import batch_tokens
from tests.training.test_trainer import METHOD, changed, go, interrupted
from unsay.errors import UserError
from unsay.models.vlm import VLM
from unsay.training import BatchSettings, trainer
from unsay.training.plan import steps_of

CACHED = changed(reference="cached", batch=BatchSettings(forget=1, refuse=1, retain=1))


def remembered(folder):
    """Examples whose original answers are on disk."""
    found = set()
    for path in (folder / "train/reference").glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {name.split(".")[0] for name in file.keys()}  # noqa: SIM118 (it is no dict)
    return found


def retained(settings, steps):
    """Retain examples of the first steps; only these does the original read."""
    plan = steps_of(tiny.examples(), METHOD.needs, settings)[:steps]
    return {example.id for batch in plan for example in batch if example.role.value == "retain"}


@pytest.mark.parametrize("killed_after", [1, 3], ids=["before the first checkpoint", "after it"])
def test_a_kept_original_is_paid_once_however_the_run_is_killed(tmp_path, one_thread, killed_after):
    whole = go(tiny.llava(), tmp_path / "whole", CACHED)
    interrupted(tiny.llava(), tmp_path / "killed", killed_after, CACHED)
    again = go(tiny.llava(), tmp_path / "killed", CACHED)
    assert again.flops == pytest.approx(whole.flops, rel=1e-12)
    assert again.tokens == whole.tokens


def test_the_seconds_of_a_kept_original_survive_a_kill(tmp_path, monkeypatch):
    from unsay.training.reference import ReferenceCache

    compute = ReferenceCache._compute

    def slow(*arguments):
        time.sleep(0.3)
        return compute(*arguments)

    monkeypatch.setattr(ReferenceCache, "_compute", slow)
    interrupted(tiny.llava(), tmp_path, 1, CACHED)
    monkeypatch.setattr(ReferenceCache, "_compute", compute)
    assert go(tiny.llava(), tmp_path, CACHED).seconds > 0.3


def test_the_original_reads_only_up_to_the_next_checkpoint(tmp_path):
    interrupted(tiny.llava(), tmp_path, 1, CACHED)
    assert len(remembered(tmp_path)) == len(retained(CACHED, 2)) == 2


def test_the_original_does_not_read_what_the_budget_of_tokens_leaves_out(tmp_path):
    tokens = batch_tokens(tiny.llava(), CACHED)
    limited = CACHED.model_copy(update={"max_tokens": sum(tokens[:3])})
    assert go(tiny.llava(), tmp_path, limited).steps == 3
    assert len(remembered(tmp_path)) == len(retained(CACHED, 3)) == 3  # the next checkpoint would be after step 4


@pytest.fixture
def pictured(tmp_path):
    """Examples of which each has a picture of its own."""
    rows = []
    for number, row in enumerate(tiny.examples()):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (tiny.IMAGE_SIZE, tiny.IMAGE_SIZE), (number, 0, 0)).save(path)
        rows.append(row.model_copy(update={"image": str(path)}))
    return rows


def test_pictures_are_laid_out_for_steps_that_are_taken_and_on_the_clock(pictured, tmp_path, monkeypatch):
    """Six steps of six pictures are planned. Each takes a second twice: for its tokens, and for its features."""
    lay_out, now = VLM.encode_picture, [0.0]

    def slow(vlm, prompt, image):
        now[0] += 1.0
        return lay_out(vlm, prompt, image)

    monkeypatch.setattr(VLM, "encode_picture", slow)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("unsay.training.picture_inputs.accepts_features", lambda *_: True)
    seen = []
    result = go(
        tiny.llava(), tmp_path / "run", changed(checkpoint_every=6, max_seconds=30.0), examples=pictured,
        progress=lambda *_: seen.append(now[0]),
    )  # fmt: skip
    assert seen == [12, 24]
    assert (result.steps, result.seconds) == (2, 24.0)  # at 12 s a step a third is not begun


def test_text_that_cannot_be_encoded_is_found_before_the_first_step(tmp_path):
    rows = tiny.examples()
    rows[-1] = rows[-1].model_copy(update={"answer": " "})
    steps = []
    with pytest.raises(UserError, match="its answer is empty"):
        go(tiny.llava(), tmp_path, examples=rows, progress=lambda step, *_: steps.append(step))
    assert steps == []
