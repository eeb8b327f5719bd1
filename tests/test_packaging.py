"""What a newcomer gets: a whole wheel, pinned versions that agree with the ranges, a Makefile that explains itself."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_bytes
from importlib.metadata import packages_distributions
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main
import yaml
from hatchling.builders.sdist import SdistBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import unsay
from tools.docs_site import GENERATED
from unsay.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DATA = {
    "data/sources/packaged/magpie.json.gz": 4_000_000,
    "data/sources/packaged/answers.jsonl.gz": 50_000,
    "data/sources/packaged/contrast_drugs.jsonl": 10_000,
    "data/sources/packaged/contrast_financial_crime.jsonl": 10_000,
    "data/sources/packaged/contrast_fraud_scams.jsonl": 10_000,
    "data/sources/packaged/contrast_hacking_malware.jsonl": 10_000,
    "data/sources/packaged/contrast_harassment_bullying.jsonl": 10_000,
    "data/sources/packaged/contrast_hate_discrimination.jsonl": 10_000,
    "data/sources/packaged/contrast_identity_theft.jsonl": 10_000,
    "data/sources/packaged/contrast_imperatives.jsonl": 10_000,
    "data/sources/packaged/contrast_misinformation_politics.jsonl": 10_000,
    "data/sources/packaged/contrast_poison_environment.jsonl": 10_000,
    "data/sources/packaged/contrast_questions.jsonl": 10_000,
    "data/sources/packaged/contrast_requests.jsonl": 10_000,
    "data/sources/packaged/contrast_self_harm.jsonl": 10_000,
    "data/sources/packaged/contrast_sexual_abuse_children.jsonl": 10_000,
    "data/sources/packaged/contrast_stalking_privacy.jsonl": 10_000,
    "data/sources/packaged/contrast_terrorism_extremism.jsonl": 10_000,
    "data/sources/packaged/contrast_theft_burglary.jsonl": 10_000,
    "data/sources/packaged/contrast_violence.jsonl": 10_000,
    "data/sources/packaged/contrast_weapons_explosives.jsonl": 10_000,
    "data/sources/packaged/plain_requests.jsonl": 10_000,
    "data/sources/packaged/public_copies.txt": 1_000,
    "data/sources/packaged/refusals.txt": 1_000,
    "judges/fitted_probe.json": 5_000,
    "models/pocket/weights/pocket-1/language_lora.safetensors": 3_000_000,
    "models/pocket/weights/pocket-1/projector.safetensors": 1_000_000,
    "models/pocket/weights/pocket-1/vision_tower.safetensors": 20_000_000,
    "models/pocket/weights/pocket-2/language_lora.safetensors": 3_000_000,
    "models/pocket/weights/pocket-2/projector.safetensors": 1_000_000,
    "models/pocket/weights/pocket-2/vision_tower.safetensors": 20_000_000,
    "playground/play.css": 1_000,
    "playground/play.html.j2": 1_000,
    "playground/play.js": 5_000,
    "presets/accelerate/ddp.yaml": 500,
    "presets/accelerate/fsdp2.yaml": 500,
    "presets/accelerate/zero3.yaml": 500,
    "presets/demo.yaml": 500,
    "presets/models.yaml": 1_000,
    "presets/paper-llava-1.5-7b.yaml": 1_000,
    "presets/paper-llava-1.6-mistral-7b.yaml": 1_000,
    "presets/studies/coverage.yaml": 1_000,
    "presets/studies/methods.yaml": 1_000,
    "presets/studies/mixture.yaml": 1_000,
    "presets/studies/paper.yaml": 1_000,
    "presets/studies/paper-exact.yaml": 1_000,
    "presets/studies/robust.yaml": 1_000,
    "presets/studies/samples.yaml": 1_000,
    "py.typed": 0,
    "reports/curves.html.j2": 500,
    "reports/live.html.j2": 1_000,
    "reports/overview.html.j2": 1_000,
    "reports/red_team.html.j2": 1_000,
    "reports/report.css": 1_000,
    "reports/report.html.j2": 1_000,
    "reports/robustness.html.j2": 1_000,
    "reports/report.js": 100,
    "studies/study.css": 1_000,
    "studies/study.html.j2": 5_000,
}
"""Every packaged file that is not Python, and a size in bytes below which it must be damaged."""


BENEATH = {"huggingface-hub", "tokenizers"}
"""Libraries that transformers requires, and whose versions constraints.txt pins."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = folder.iterdir()
    return built


@pytest.mark.parametrize("name", DATA)
def test_data_is_where_the_code_looks_for_it(name: str) -> None:
    entry = files("unsay").joinpath(name)
    assert entry.is_file()
    assert len(entry.read_bytes()) >= DATA[name]


def test_wheel_holds_the_package_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    tops = {name.split("/")[0] for name in sizes}
    assert tops == {"unsay", f"unsay-{unsay.__version__}.dist-info"}
    packed = {name.removeprefix("unsay/") for name in sizes if name.startswith("unsay/")}
    assert {name for name in packed if not name.endswith(".py")} == set(DATA)
    source = ROOT / "src" / "unsay"
    assert {name for name in packed if name.endswith(".py")} == {
        path.relative_to(source).as_posix() for path in source.rglob("*.py")
    }
    assert all(sizes[f"unsay/{name}"] >= least for name, least in DATA.items())


def test_the_source_archive_holds_tools_tests_benchmarks_and_pages() -> None:
    packed = {file.relative_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    for folder in ("src/unsay", "tools", "tests", "benchmarks", "docs"):
        assert packed >= {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
    assert {"README.md", "LICENSE", "Makefile", "SECURITY.md", "CITATION.cff", "constraints.txt"} <= packed
    assert {
        "mkdocs.yml",
        "docs/design.md",
        "docs/tour.ipynb",
        "docs/stylesheets/tables.css",
    } <= packed  # of `make docs`


def test_who_cites_or_reports_finds_the_version_and_the_forms() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == unsay.__version__
    assert cited["preferred-citation"]["doi"] == "10.18653/v1/2024.findings-emnlp.574"
    forms = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir()]
    assert len(forms) == 3
    for form in forms:
        assert form["name"]
        assert form["description"]
        for field in form["body"]:
            assert field["type"] in ("markdown", "input", "textarea")
            assert field["attributes"].keys() & {"label", "value"}


def test_wheel_states_its_licence_version_and_command(wheel: Path) -> None:
    info = f"unsay-{unsay.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
        commands = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Version"] == unsay.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Apache License" in licence
    assert "unsay = unsay.cli:main" in commands


def test_the_package_index_would_take_the_wheel(wheel: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(wheel)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel in it, and with this one's libraries but not its checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    (site,) = folder.glob("lib/python3*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # .pth files in there are not read
    return folder / "bin"


def test_the_installed_wheel_shows_its_help(installed: Path, tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [installed / "unsay", "demo", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout


@pytest.mark.pocket
def test_the_installed_wheel_answers_from_python(installed: Path, tmp_path: Path) -> None:
    code = """if True:
        import unsay
        assert "site-packages" in unsay.__file__, unsay.__file__
        print(unsay.answer(unsay.load("pocket"), "Say hello.", max_new_tokens=8))
    """
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [installed / "python", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=300)
    assert "ello" in done.stdout, done.stderr[-2000:]


def test_every_library_that_is_imported_is_named(wheel: Path) -> None:
    """Where the installed wheel is tested, this environment's libraries would hide one that is missing."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    named = {canonicalize_name(Requirement(text).name) for text in metadata.get_all("Requires-Dist")}
    owners = packages_distributions()
    for path in (ROOT / "src/unsay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"unsay"}:
                found = {canonicalize_name(owner) for owner in owners.get(top, [top])}
                assert found & (named | BENEATH), f"{path.relative_to(ROOT)} imports {top}, which no requirement names"


@pytest.mark.parametrize("module", ["unsay", "unsay.cli"])
def test_import_is_light(module: str) -> None:
    """`unsay --help` must not wait the seconds that torch takes to load."""
    heavy = "{'torch', 'transformers', 'peft', 'matplotlib', 'sklearn'}"
    code = f"import sys, {module}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_is_there_and_known_to_type_checkers() -> None:
    for name in unsay.__all__:
        assert getattr(unsay, name).__module__.startswith("unsay.")
    source = ast.parse((ROOT / "src/unsay/__init__.py").read_text(encoding="utf-8"))
    (typed,) = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom) and node.module == "unsay.api"]
    assert [alias.name for alias in typed.names] == unsay.__all__


def test_no_room_hides_a_public_function() -> None:
    """Importing `unsay.x` sets the attribute `x` of the package."""
    assert not [name for name in unsay.__all__ if find_spec(f"unsay.{name}")]


def test_a_study_is_called_by_its_public_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import unsay.studies

    monkeypatch.setattr("unsay.api.run_study", lambda chosen, out, *_, **_more: (chosen.title, out))
    title, out = unsay.study("samples", tmp_path)
    assert (title, out) == (unsay.studies.read_study("samples").title, tmp_path)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = unsay.nothing_of_the_kind


def test_pins_lie_within_the_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in (*project["dependencies"], *extras["test"], *extras["dev"])]
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert all(canonicalize_name(name) == name for name in pins)
    for requirement in wanted:
        if requirement.name == project["name"]:
            continue
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pin), f"{requirement} does not admit the pinned {pin}"
    assert pins["torch"] == "2.13.0", "a local version such as +cpu would not be found on the package index"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|#", target) and target.split("#")[0] not in GENERATED:
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}"


def shell_lines(page: Path) -> list[str]:
    """The command lines in a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line.split(" #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_pages_exist_with_their_options(page: Path) -> None:
    group = typer.main.get_command(app)
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for line in shell_lines(page):
        words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, line
        if words[:1] == ["unsay"]:
            assert words[1] in group.commands, line
            command = group.commands[words[1]]
            command = getattr(command, "commands", {}).get(words[2] if len(words) > 2 else "", command)
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, line


def test_the_readme_is_short_and_one_s_own_model_comes_early() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"make demo", "make test"} <= set(shell_lines(ROOT / "README.md"))
    assert len(readme.split()) <= 1200
    lines = readme.splitlines()
    assert len(lines) <= 130
    assert lines.index("## Your own model") <= 40


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_a_python_that_is_too_old_is_one_clear_line(checkout: Path) -> None:
    old = checkout / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in (str(old), ""):
        done = make(checkout, "demo", f"PYTHON={python}")
        assert done.returncode != 0
        said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        assert len(said) == 1
        assert said[0].startswith("unsay needs Python 3.11 or later")
        assert not (checkout / ".venv").exists()


@needs_make
def test_installed_again_only_when_what_is_asked_for_changes(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert "pip" in make(checkout, "--dry-run", "demo").stdout
    stamps = [checkout / ".venv" / name for name in ("installed", "installed-test")]
    for stamp in stamps:
        stamp.touch()
    for target in ("demo", "test"):
        assert "pip" not in make(checkout, "--dry-run", target).stdout
    later = stamps[0].stat().st_mtime + 10
    os.utime(checkout / "constraints.txt", (later, later))
    assert ".[test]" in make(checkout, "--dry-run", "test").stdout


@needs_make
def test_tests_run_after_every_check_and_stop_at_the_first_that_fails(checkout: Path) -> None:
    folder = checkout / ".venv" / "bin"
    folder.mkdir(parents=True)
    log = checkout / "log"
    for name in ("python", "ruff", "mypy", "lint-imports", "pytest"):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\necho "{name} $1" >> "{log}"\ntest "$BROKEN" != {name}\n')
        tool.chmod(0o755)
    for stamp in ("installed", "installed-test"):
        (checkout / ".venv" / stamp).touch()
    assert make(checkout, "test").returncode == 0
    order = [line.strip() for line in log.read_text().splitlines()]
    assert order == ["ruff check", "ruff format", "mypy", "lint-imports", "pytest -n"]
    log.unlink()
    assert make(checkout, "test", "BROKEN=mypy").returncode != 0
    assert log.read_text().splitlines()[-1].strip() == "mypy"
