"""A push to the model hub, through its own client, against a stand-in for its upload API."""

from pathlib import Path

import pytest

from helpers import tiny
from helpers.hub_stub import TOKEN, Hub, hub
from tests.models.test_models import acting
from tests.reports.test_headline import AFTER, BEFORE, change, row, scores
from unsay.config import RunConfig, read_run_config, write_config
from unsay.errors import UserError
from unsay.files import write_rows
from unsay.models import load
from unsay.records import Kind, Modality, Prompt, Response
from unsay.run.hub import push_to_hub
from unsay.scoring import read_scores, write_scores


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_config(folder / "config.yaml", RunConfig(model=str(tiny_folder)))
    tiny.save_trained(acting(load(str(tiny_folder))), folder)
    write_scores(folder / "scores.json", scores([row("a", BEFORE, 60), row("a", AFTER, 5)], [change("a", -0.55)]))
    asked = Prompt(id="a-1", suite="a", kind=Kind.ATTACK, modality=Modality.TEXT, prompt="[request 1]",
                   request="[request 1]", group="1")  # fmt: skip
    said = Response(id="a-1", suite="a", modality=Modality.TEXT, prompt="[request 1]", image=None,
                    response="[answer 1]", finish_reason="stop", tokens=1, model_key="x")  # fmt: skip
    write_rows(folder / "suites/a.jsonl", [asked])
    write_rows(folder / "responses/a.before.jsonl", [said])
    return folder


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch):
    with hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # its store is not in the stand-in
        yield running


def test_adapter_card_scores_and_report_go_to_a_private_repository(run: Path, stub: Hub) -> None:
    done = push_to_hub(run, "me/safer")
    assert stub.private == {"me/safer": True}
    sent = stub.files["me/safer"]
    assert set(sent) >= {"README.md", "adapter_config.json", "adapter_model.safetensors", "scores.json", "report.html"}
    assert {path: len(content) for path, content in sent.items()} == done.files
    assert sent["adapter_model.safetensors"] == (run / "adapter/adapter_model.safetensors").read_bytes()
    assert done.url == f"{stub.url}/me/safer"
    assert read_scores(run / "scores.json").rows[0].suite == "a"


def test_no_prompt_and_no_answer_is_sent(run: Path, stub: Hub) -> None:
    push_to_hub(run, "me/safer")
    everything = b"".join(stub.files["me/safer"].values())
    assert b"[request 1]" not in everything
    assert b"[answer 1]" not in everything
    assert b"Title of a" in stub.files["me/safer"]["report.html"]


def test_no_folder_of_this_machine_is_sent(run: Path, stub: Hub, tiny_folder: Path) -> None:
    config = read_run_config(run)
    own = config.data.model_copy(update={"examples": run / "mine/examples.jsonl"})
    write_config(run / "config.yaml", config.model_copy(update={"data": own}))
    push_to_hub(run, "me/safer")
    write_config(run / "config.yaml", config)
    sent = stub.files["me/safer"]
    for name in ("report.html", "scores.json", "README.md", "adapter_config.json"):
        assert str(run).encode() not in sent[name], name
        assert str(tiny_folder.parent).encode() not in sent[name], name
    assert b"examples.jsonl" in sent["report.html"]


def test_a_dry_run_sends_nothing(run: Path, stub: Hub) -> None:
    done = push_to_hub(run, "me/safer", dry_run=True)
    assert done.url is None
    assert stub.calls == []
    assert push_to_hub(run, "me/safer").files == done.files


def test_a_public_repository_needs_the_word(run: Path, stub: Hub) -> None:
    stub.private["me/open"] = False
    with pytest.raises(UserError, match="is public"):
        push_to_hub(run, "me/open")
    assert "me/open" not in stub.files
    push_to_hub(run, "me/open", private=False)
    push_to_hub(run, "me/new", private=False)
    assert stub.private["me/new"] is False
    assert "README.md" in stub.files["me/open"]


def test_what_goes_wrong_is_one_line(run: Path, stub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="OWNER/NAME"):
        push_to_hub(run, "safer")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match=r"refuses \(401") as refused:
        push_to_hub(run, "me/safer")
    assert "hf_wrong" not in str(refused.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="no connection"):
        push_to_hub(run, "me/safer")
    with pytest.raises(UserError, match=r"config\.yaml"):
        push_to_hub(tmp_path, "me/safer")


def test_the_command_prints_what_would_go(run: Path, stub: Hub, unsay) -> None:
    code, said, _ = unsay("export", run, "--push-to-hub", "me/safer", "--dry-run")
    assert code == 0
    assert "adapter_model.safetensors" in said
    assert "Nothing was sent; it would go to me/safer (private)." in said
    code, said, _ = unsay("export", run, "--push-to-hub", "me/safer")
    assert (code, "Uploaded (private)" in said) == (0, True)
    for bad in ([], ["--out", "x", "--push-to-hub", "me/x"], ["--out", "x", "--dry-run"], ["--out", "x", "--public"]):
        assert unsay("export", run, *bad)[0] == 2
