"""Does it hold in 8 and 4 bits? What unlearning changed may be smaller than the rounding, and then rounding undoes it.

Merged weights of the language model's linears are rounded by quantisers of the libraries that serve such weights, and
read back (Zhang et al. 2025, arXiv 2410.16454: 4 bits brought up to 83 % of the forgotten back). These formats keep
weights alone in few bits, so a product with the weights read back is the kernel's up to the order of its sums. All are
compared with the merged weights as they are, answer by answer.

| format | quantiser | |
|---|---|---|
| int8 | llama.cpp's Q8_0, of `gguf` | rounded to nearest, a scale for each 32 weights |
| int4 | llama.cpp's Q4_0, of `gguf` | the same in 4 bits |
| nf4 | bitsandbytes (extra `qlora`) | NormalFloat (QLoRA, arXiv 2305.14314), a scale for each 64 weights |
| q4_k_m | the tool `llama-quantize` | llama.cpp's mixture of 4 to 6 bits, without an importance matrix |

The last two are left out, with a note, where they are not installed.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from torch import Tensor

from unsay.errors import UserError
from unsay.models import VLM
from unsay.robustness.base import Check
from unsay.robustness.bench import WORDS, Bench, by_request
from unsay.robustness.weights import changing
from unsay.run.suites import Suites
from unsay.scoring.robustness import Number, Setting, Subject

BITSANDBYTES, LLAMA_QUANTIZE = "bitsandbytes", "llama-quantize"
GROUP = 32
"""Weights to a scale in Q8_0 and Q4_0; a row of another length is filled up with zeros."""
NF4_GROUP = 64
MERGED: Setting = {"weights": "merged"}
"""What the formats are compared with: the adapter added into the weights, in the run's precision."""

Weights: TypeAlias = Mapping[str, Tensor]
"""Weights [out, in] of the language model's linears by name."""
Format: TypeAlias = Callable[[Weights], Iterable[tuple[str, Tensor]]]
"""Weights → what is left of each, in any precision and on any device, one after the other: all may not fit."""


class UnsupportedError(UserError):
    """A format cannot hold this model's weights."""


def by_groups(kind: gguf.GGMLQuantizationType, weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Round trip through one of llama.cpp's plain formats, in the arithmetic of its reference code."""
    for name, weight in weights.items():
        yield name, _by_groups(kind, weight)


def _by_groups(kind: gguf.GGMLQuantizationType, weight: Tensor) -> Tensor:
    width = weight.shape[1]
    rows = np.pad(weight.detach().float().cpu().numpy(), ((0, 0), (0, -width % GROUP)))
    return torch.from_numpy(dequantize(quantize(rows, kind), kind)[:, :width].copy())


def nf4(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Round trip through bitsandbytes' NormalFloat."""
    functional = import_module(BITSANDBYTES).functional
    for name, weight in weights.items():
        few = functional.quantize_4bit(weight.detach().contiguous(), blocksize=NF4_GROUP, quant_type="nf4")
        yield name, functional.dequantize_4bit(*few)


def q4_k_m(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """What llama.cpp's own tool makes of the weights, read back.

    It is given a file with the linears under the names of llama's layout and without a vocabulary: enough for it to
    choose the bits of each as it does in a whole model.

    Raises:
        UnsupportedError: the linears have other names than llama's.
        UserError: the tool fails.
    """
    names = _names_in_llama(weights)
    with tempfile.TemporaryDirectory() as temporary:
        plain, rounded = Path(temporary) / "plain.gguf", Path(temporary) / "rounded.gguf"
        _write_gguf(plain, {names[name]: weight for name, weight in weights.items()})
        command = [LLAMA_QUANTIZE, str(plain), str(rounded), "Q4_K_M"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not rounded.is_file():
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise UserError(f"q4_k_m: {LLAMA_QUANTIZE} failed ({last}): take one of a current llama.cpp")
        read = {tensor.name: tensor for tensor in gguf.GGUFReader(rounded).tensors}
        for name in weights:
            tensor = read[names[name]]
            yield name, torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())


def _names_in_llama(weights: Weights) -> dict[str, str]:
    """Name of each linear → its name in a GGUF file of llama's layout."""
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, _blocks(weights))
    places = {name: re.search(r"layers\.\d+\..*", name) for name in weights}
    names = {name: known.get_name(f"model.{place[0]}") if place else None for name, place in places.items()}
    if odd := [name for name, translated in names.items() if translated is None]:
        raise UnsupportedError(f"q4_k_m: the language model's linears have other names than llama's, as {odd[0]}")
    if missing := {"blk.0.attn_q", "blk.0.ffn_up"} - set(names.values()):
        raise UnsupportedError(f"q4_k_m: the language model has no linear that llama's layout calls {min(missing)}")
    return {name: f"{translated}.weight" for name, translated in names.items()}


def _blocks(weights: Weights) -> int:
    return 1 + max((int(number) for name in weights for number in re.findall(r"layers\.(\d+)\.", name)), default=0)


def _write_gguf(path: Path, tensors: Weights) -> None:
    """A GGUF file of llama's architecture, with what the tool wants to know of a model."""
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=True)  # a 7B model in float32 may not fit beside itself
    writer.add_block_count(1 + max(int(name.split(".")[1]) for name in tensors))
    writer.add_context_length(2048)
    writer.add_embedding_length(tensors["blk.0.attn_q.weight"].shape[1])
    writer.add_feed_forward_length(tensors["blk.0.ffn_up.weight"].shape[0])
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, weight in tensors.items():
        writer.add_tensor(name, weight.detach().float().cpu().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


FORMATS: dict[str, Format] = {
    "int8": partial(by_groups, gguf.GGMLQuantizationType.Q8_0),
    "int4": partial(by_groups, gguf.GGMLQuantizationType.Q4_0),
    "nf4": nf4,
    "q4_k_m": q4_k_m,
}


QUICK = ("int4", "nf4")
DRAWN_IN_QUICK = ("merged", "int4")
"""What the short form also asks in pictures, of the unlearned model alone."""


def possible(_bench: Bench) -> tuple[str, ...]:
    """Those of the optional quantisers that are installed here."""
    places = {BITSANDBYTES: find_spec(BITSANDBYTES), LLAMA_QUANTIZE: shutil.which(LLAMA_QUANTIZE)}
    return tuple(name for name, place in places.items() if place is not None)


def _run(bench: Bench) -> Iterable[Number]:
    installed = bench.possible
    formats = {name: make for name, make in FORMATS.items() if name in QUICK or not bench.quick}
    if "nf4" in formats and BITSANDBYTES not in installed:
        del formats["nf4"]
        bench.note("NF4 was not tried: it needs bitsandbytes: pip install 'unsay[qlora]'")
    if "q4_k_m" in formats and LLAMA_QUANTIZE not in installed:
        del formats["q4_k_m"]
        bench.note(f"GGUF's Q4_K_M was not tried: llama.cpp's {LLAMA_QUANTIZE} is not installed here")
    bench.expect(sum(len(_asked(bench, subject, name)) for subject in Subject for name in ("merged", *formats)))
    rates: dict[tuple[str, str, Subject], dict[str, float]] = {}
    for subject in (Subject.REFERENCE, Subject.UNLEARNED):
        model = cache(partial(bench.merged, subject))
        bench.measure(subject, MERGED, model, _asked(bench, subject, "merged"))
        for name, make in list(formats.items()):
            try:
                with ExitStack() as asking:
                    measured = bench.measure(
                        subject,
                        {"weights": name},
                        partial(_rounded, model, make, asking),
                        _asked(bench, subject, name),
                        baseline=MERGED,
                    )
            except UnsupportedError as error:
                del formats[name]
                bench.note(f"not tried: {error}")
                continue
            for suite, labels in measured.items():
                rates[name, suite, subject] = by_request(bench.attacks[suite], labels)
        del model  # one model in memory
    return [
        bench.number(
            name,
            subject,
            values,
            reference=rates.get((name, suite, Subject.REFERENCE)) if subject is Subject.UNLEARNED else None,
            suite=suite,
            title=f"ASR in {name}",
        )
        for (name, suite, subject), values in rates.items()
    ]


def _asked(bench: Bench, subject: Subject, name: str) -> Suites:
    """The suites that a subject is asked in a format."""
    drawn = not bench.quick or (subject is Subject.UNLEARNED and name in DRAWN_IN_QUICK)
    return bench.attacks if drawn else {WORDS: bench.attacks[WORDS]}


def _rounded(model: Callable[[], VLM], make: Format, asking: ExitStack) -> VLM:
    """The model in a format, until it has been asked."""
    vlm = model()
    linears = asking.enter_context(changing(vlm))
    with torch.no_grad():
        for name, weight in make({name: linear.weight for name, linear in linears.items()}):
            linears[name].weight.copy_(weight)
    return vlm


CHECK = Check(
    name="quantise",
    title="Round its weights to 8 and 4 bits",
    setting="merged weights in int8 and int4 (groups of 32), NF4 (groups of 64) and GGUF Q4_K_M, each answer beside "
    "that of the merged weights as they are",
    source="arXiv 2410.16454",
    version=1,
    run=_run,
    quick=True,
    possible=possible,
)
