"""A merged checkpoint as GGUF files, and whether llama.cpp answers with them as transformers does without."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.generation import GenerationSettings, respond
from unsay.generation.server import EndpointResponder, EndpointResponderSettings
from unsay.models.llama_cpp import GET_WHEELS, GgufKind, convert, convert_pictures, server_command, serving
from unsay.models.vlm import VLM
from unsay.records import Prompt, Response
from unsay.suites import get_suite
from unsay.suites.base import Setting

ASKED = 20
"""Harmless prompts that both are asked: half of them with a picture where there is a picture part."""
GENERATION = GenerationSettings(max_new_tokens=32)


@dataclass(frozen=True)
class Agreement:
    """Greedy answers of llama.cpp and of transformers to the same prompts.

    Attributes:
        n: prompts.
        equal: answers that are equal word for word.
        tokens: mean share of an answer's tokens before the first that differs; the longer answer counts.
        unlike: prompts that have another number of tokens in llama.cpp, a picture's included.
    """

    n: int
    equal: int
    tokens: float
    unlike: int

    def note(self, asked: str, precision: str) -> str:
        """What a person must know, as a sentence without its full stop; `asked` says what was asked."""
        text = (
            f"Asked {self.n} harmless prompts {asked}, llama.cpp and transformers (in {precision}) gave "
            f"{self.equal} equal answers; {self.tokens:.0%} of an answer's tokens came before the first difference"
        )
        if not self.unlike:
            return text
        return (
            f"{text}. **{self.unlike} of these prompts have another number of tokens in llama.cpp**, which is no "
            "rounding: it reads the chat template or the picture in another way"
        )


@dataclass(frozen=True)
class Comparison:
    """How llama.cpp answers with the files.

    Attributes:
        words: prompts in words alone.
        pictures: prompts with a picture; None where there is no picture part.
        precision: in which transformers computed.
    """

    words: Agreement
    pictures: Agreement | None
    precision: str


@dataclass(frozen=True)
class Gguf:
    """GGUF files, and what is known of them.

    Attributes:
        kind: type of the language model's weights.
        files: their names.
        no_pictures: why there is no picture part; None where there is one.
        comparison: how llama.cpp answers with them; None if no server is installed.
    """

    kind: GgufKind
    files: tuple[str, ...]
    no_pictures: str | None
    comparison: Comparison | None

    @property
    def notes(self) -> list[str]:
        """What a person must know, as sentences without their full stops."""
        notes = [f"Files: {', '.join(self.files)}"]
        if self.no_pictures is not None:
            notes.append(
                "Words only: llama.cpp's converter does not take this family's picture part "
                f"({self.no_pictures.rstrip('.')})"
            )
        if self.comparison is None:
            notes.append(f"Not asked: llama.cpp's server is not installed here ({GET_WHEELS})")
        else:
            notes.append(self.comparison.words.note("in words", self.comparison.precision))
            if self.comparison.pictures is not None:
                notes.append(self.comparison.pictures.note("with a picture", self.comparison.precision))
        return notes


def write_gguf(checkpoint: Path, folder: Path, kind: GgufKind, reload: Callable[[], VLM]) -> Gguf:
    """Convert a merged checkpoint by llama.cpp's own converter, and compare the answers.

    Args:
        checkpoint: folder of the merged checkpoint.
        folder: an existing folder for the files: `model-<kind>.gguf`, and `mmproj.gguf` for pictures.
        kind: type of the language model's weights.
        reload: opens the checkpoint; called only if there is a server to compare with.

    Raises:
        UserError: llama.cpp does not convert the language model or does not load it, or prompts got no answer.
    """
    model, pictures = folder / f"model-{kind}.gguf", folder / "mmproj.gguf"
    convert(checkpoint, kind, model)
    no_pictures = convert_pictures(checkpoint, kind, pictures)
    mmproj = pictures if no_pictures is None else None
    comparison = None if server_command() is None else _compare(model, mmproj, reload)
    return Gguf(kind, tuple(path.name for path in (model, mmproj) if path is not None), no_pictures, comparison)


def _compare(model: Path, mmproj: Path | None, reload: Callable[[], VLM]) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="unsay-gguf-") as temporary:
        folder = Path(temporary)
        prompts = _prompts(folder, pictured=mmproj is not None)
        with serving(model, mmproj, folder / "server.txt") as url:
            server = EndpointResponder(EndpointResponderSettings(url=url, model=model.name, concurrency=1, timeout=600))
            there = server.respond(prompts, GENERATION, folder / "there.jsonl")
        vlm = reload()
        here = respond(vlm, prompts, GENERATION, folder / "here.jsonl")
    rows = list(zip(prompts, here, there, strict=True))
    seen = [(one, other) for prompt, one, other in rows if prompt.image is not None]
    read = [(one, other) for prompt, one, other in rows if prompt.image is None]
    precision = str(next(vlm.base.parameters()).dtype).removeprefix("torch.")
    return Comparison(
        agreement(vlm.encode_answer, read), agreement(vlm.encode_answer, seen) if seen else None, precision
    )


def _prompts(folder: Path, *, pictured: bool) -> list[Prompt]:
    seen = get_suite("shapes").prompts(Setting(folder, ASKED // 2)) if pictured else []
    return [*get_suite("benign").prompts(Setting(folder, ASKED - len(seen))), *seen]


def agreement(encode: Callable[[str], list[int]], pairs: Sequence[tuple[Response, Response]]) -> Agreement:
    """Compare answers of transformers (first) and of llama.cpp; `encode` gives an answer's tokens."""
    shares = [_common(encode(one.response), encode(other.response)) for one, other in pairs]
    return Agreement(
        n=len(pairs),
        equal=sum(one.response == other.response for one, other in pairs),
        tokens=sum(shares) / len(shares),
        unlike=sum(one.prompt_tokens + one.image_tokens != other.prompt_tokens for one, other in pairs),
    )


def _common(one: Sequence[int], other: Sequence[int]) -> float:
    """The share of the longer row that both begin with; 1 for two empty ones."""
    longest = max(len(one), len(other))
    same = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return (min(len(one), len(other)) if same is None else same) / longest if longest else 1.0
