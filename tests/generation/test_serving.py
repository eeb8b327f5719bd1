"""What is exported answers through a real server as it does here: a merged checkpoint is a standard one."""

import pytest
from PIL import Image, ImageDraw

from helpers import tiny
from helpers.serving import transformers_serve
from tests.models.test_models import acting
from unsay.config import RunConfig, write_config
from unsay.generation import GenerationSettings, respond
from unsay.generation.server import EndpointResponder, EndpointResponderSettings
from unsay.models import load
from unsay.records import Kind, Modality, Prompt
from unsay.run.export import export

SETTINGS = GenerationSettings(max_new_tokens=12)
QUESTIONS = ("Name three birds that live near water.", "How do I bake bread?")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with transformers_serve(tmp_path_factory.mktemp("server") / "log.txt") as url:
        yield url


def prompts(folder):
    picture = folder / "boat.png"
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).polygon([(20, 60), (76, 60), (60, 80), (36, 80)], fill="red")
    image.save(picture)
    asked = [(question, None) for question in QUESTIONS] + [("What is in the picture?", str(picture))]
    return [
        Prompt(
            id=str(number), suite="toy", kind=Kind.UTILITY, group=str(number), prompt=text, request=text,
            modality=Modality.TEXT if image is None else Modality.IMAGE, image=image,
        )
        for number, (text, image) in enumerate(asked)
    ]  # fmt: skip


def answers(original, adapted, server, folder):
    """What the original says, and the exported model with the adapter, here and through the server."""
    write_config(folder / "run" / "config.yaml", RunConfig(model=original.name))
    tiny.save_trained(adapted, folder / "run")
    merged = folder / "merged"
    export(folder / "run", merged, merge=True)
    asked = prompts(folder)
    # One at a time: the server computes while it reads the next request.
    through = EndpointResponder(EndpointResponderSettings(url=server, model=str(merged), concurrency=1, timeout=300))
    there = through.respond(asked, SETTINGS, folder / "there.jsonl")
    here = respond(load(str(merged)), asked, SETTINGS, folder / "here.jsonl")
    before = respond(original, asked, SETTINGS, folder / "before.jsonl")
    return ([row.response for row in rows] for rows in (before, here, there))


def test_an_exported_model_answers_through_a_server_as_it_does_here(tiny_folder, server, tmp_path):
    original, adapted = load(str(tiny_folder)), acting(load(str(tiny_folder)))
    before, here, there = answers(original, adapted, server, tmp_path)
    assert there == here
    assert here != before


@pytest.mark.pocket
def test_the_exported_pocket_model_answers_through_a_server_as_it_does_here(pocket_vlm, server, tmp_path):
    before, here, there = answers(pocket_vlm, acting(load("pocket"), size=0.02), server, tmp_path)
    assert there == here
    assert here != before
    assert all(here)
