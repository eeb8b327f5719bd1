"""An export on the model hub: what would go there, and its upload through the hub's own client."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from unsay.config import read_run_config
from unsay.errors import UserError
from unsay.files import read_json, write_text
from unsay.models.lora import ADAPTER_CONFIG
from unsay.reports import read_inputs, render
from unsay.reports.html import redact_yaml
from unsay.run.export import Exported, export
from unsay.run.finished import portable_settings, public_name
from unsay.scoring import read_scores, write_scores

NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""A repository: its owner and its name."""

TRANSPORTS = ("httpx", "httpx2", "httpcore")
"""HTTP libraries that the hub's client may use; their errors have no common class."""


@dataclass(frozen=True)
class Upload:
    """What goes to the hub, or would.

    Attributes:
        name: the repository, as OWNER/NAME.
        private: whether only its owner sees it.
        files: path in the repository → bytes.
        url: where it is; None if nothing was sent.
        export: how the weights were exported.
    """

    name: str
    private: bool
    files: dict[str, int]
    url: str | None
    export: Exported


def push_to_hub(
    run_dir: Path,
    name: str,
    *,
    merge: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    strength: float = 1.0,
    gguf: str | None = None,
    private: bool = True,
    dry_run: bool = False,
) -> Upload:
    """Upload a run's adapter or merged checkpoint with its card, its scores and its report.

    The report goes without sample answers, since some are harmful. Nothing of the run directory changes.

    Args:
        run_dir: of a run that has unlearned.
        name: the repository, as OWNER/NAME; it is made if it does not exist.
        merge: upload a whole checkpoint, as `export` makes it.
        dtype: its precision.
        device: where it is merged.
        strength: what the adapter's update is multiplied by.
        gguf: upload files for llama.cpp, as `export` makes them.
        private: whether a new repository is private; a public one is then refused.
        dry_run: make everything and send nothing.

    Raises:
        UserError: no adapter, a malformed name, nobody is logged in, no permission, or no connection.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"--push-to-hub {name}: name the repository as OWNER/NAME")
    with tempfile.TemporaryDirectory(prefix="unsay-hub-") as temporary:
        folder = Path(temporary) / "export"
        done = export(run_dir, folder, merge=merge, dtype=dtype, device=device, strength=strength, gguf=gguf)
        _add_results(Path(run_dir), folder)
        _name_base(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        url = None if dry_run else _upload(folder, name, private)
    return Upload(name, private, files, url, done)


def _add_results(run_dir: Path, folder: Path) -> None:
    if not (run_dir / "scores.json").is_file():
        return
    scores = read_scores(run_dir / "scores.json")
    settings = {**scores.settings, "model": public_name(str(scores.settings.get("model", "")))}
    scores = scores.model_copy(update={"settings": settings})
    # Nothing of this machine: neither its folders nor its prompts and answers.
    config = portable_settings(read_run_config(run_dir).model_dump(mode="json"))
    inputs = replace(
        read_inputs(run_dir, scores), samples=[], config=redact_yaml(yaml.safe_dump(config, sort_keys=False))
    )
    write_scores(folder / "scores.json", scores)
    write_text(folder / "report.html", render(scores, inputs))


def _name_base(folder: Path) -> None:
    """An adapter names the model that it was trained on: as others know it, and not by a folder of this machine."""
    path = folder / ADAPTER_CONFIG
    if path.is_file():
        config = read_json(path)
        base = public_name(str(config.get("base_model_name_or_path") or ""))
        write_text(path, json.dumps({**config, "base_model_name_or_path": base}, indent=2) + "\n")


def _upload(folder: Path, name: str, private: bool) -> str:
    from huggingface_hub import HfApi

    # The variable is read at import otherwise, and the client may have been imported long ago.
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="unsay")
    with _explained(name):
        hub.create_repo(name, private=private, exist_ok=True)
        if private and not hub.model_info(name).private:
            raise UserError(f"{name}: exists and is public: name another repository, or say --public")
        return str(hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Export by unsay").repo_url)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Errors of the hub's client as one line that says what to do; they quote no token."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    login = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
    try:
        yield
    except LocalTokenNotFoundError:
        raise UserError(f"{name}: nobody is logged in on the hub: {login}") from None
    except OfflineModeIsEnabled:
        raise UserError(f"{name}: the hub is switched off here: unset HF_HUB_OFFLINE") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise UserError(f"{name}: the hub refuses ({status}): {login}") from None
        raise UserError(f"{name}: the hub answered {status or 'with an error'}: try the same command again") from None
    except OSError as error:
        raise UserError(f"{name}: no connection to the hub ({type(error).__name__})") from None
    except Exception as error:  # of the HTTP library, whose classes differ between versions
        if isinstance(error, UserError) or type(error).__module__.partition(".")[0] not in TRANSPORTS:
            raise
        raise UserError(f"{name}: no connection to the hub ({type(error).__name__})") from None
