"""The pictures of the README: what is said where they cannot be made. That they can, the docs show."""

from pathlib import Path

import pytest

from tools import screenshots


def test_a_run_without_a_report_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert screenshots.main([str(tmp_path / "run"), "--out", str(tmp_path / "images")]) == 2
    assert "report.html: missing; finish the run first" in capsys.readouterr().err
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert screenshots.main([str(tmp_path / "run")]) == 2
    assert "chromium: not installed" in capsys.readouterr().err


def test_the_readme_s_pictures_are_there_and_small() -> None:
    for name in ("report.png", "play.png"):
        picture = Path(__file__).parents[2] / "docs/images" / name
        assert 10_000 < picture.stat().st_size < 500_000
