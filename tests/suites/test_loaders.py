"""Every published benchmark that is not here is read from a file in its exact format; malformed ones are one line."""

import json
import os
import re
from pathlib import Path

import pyarrow.compute
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import published, published_text
from unsay.assets import Hub, Url
from unsay.data.published import Pictures, Published, github, hub
from unsay.errors import UserError
from unsay.records import Condition, Kind, Modality
from unsay.suites import SUITES, Setting, find_suite, get_suite, hades, jailbreakv
from unsay.suites.base import GRADER

EXPECTED = published.EXPECTED | published_text.EXPECTED
BENCHMARKS = os.environ.get("UNSAY_DATA_DIR")
needs_benchmarks = pytest.mark.skipif(not BENCHMARKS, reason="UNSAY_DATA_DIR is not set")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()

    def offline(self, into, paths, progress=None):
        raise UserError(f"{tmp_path}: no network in tests")

    monkeypatch.setattr(Url, "fetch", offline)
    monkeypatch.setattr(Hub, "fetch", offline)
    return tmp_path / "data"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_suite_reads_its_published_files(name, data, tmp_path):
    suite = SUITES[name]
    assert suite.missing(GRADER) is not None
    make, prompts, requests = EXPECTED[name]
    make(data)
    assert suite.missing(GRADER) is None
    rows = suite.prompts(Setting(tmp_path / "images"))
    assert (len(rows), len({row.id for row in rows}), len({row.group for row in rows})) == (prompts, prompts, requests)
    for row in rows:
        shown = jailbreakv.SAYS_NOTHING.get(row.image_type, suite.shown)
        assert (row.suite, row.kind, row.modality, row.condition) == (name, suite.kind, suite.modality, shown)
        assert (row.image is None) == (suite.modality is Modality.TEXT)
        if row.image is not None:
            with Image.open(row.image) as image:
                assert image.size[0] > 0
        if suite.kind is Kind.UTILITY:
            assert row.reference or row.answers
    assert {row.id for row in suite.prompts(Setting(tmp_path / "images", 1))} <= {row.id for row in rows}


def test_no_loader_goes_untested():
    drawn = {
        "figstep-figstep"
    }  # 500 pictures of what `figstep` reads; `figstep-benign-figstep` is drawn in the same way
    assert {name for name, suite in SUITES.items() if suite.files} == EXPECTED.keys() | drawn


def rows_of(name, data, tmp_path):
    """What a suite asks, of its fixture."""
    EXPECTED[name][0](data)
    return SUITES[name].prompts(Setting(tmp_path / "images"))


def test_a_context_stands_before_the_behaviour_and_by_itself(data, tmp_path):
    (row,) = rows_of("harmbench-contextual", data, tmp_path)
    assert (row.prompt, row.request, row.context) == ("[context]\n\n---\n\n[request 3]", "[request 3]", "[context]")
    assert {row.context for row in SUITES["harmbench"].prompts(Setting(tmp_path))} == {None}


def test_a_second_turn_follows_its_own_benign_twin(data, tmp_path):
    for row in rows_of("jailbreakbench-second-turn", data, tmp_path):
        number = row.request[-2]
        assert [(turn.role, turn.text) for turn in row.turns] == [
            ("user", f"[twin {number}]"), ("assistant", f"[start {number}]")
        ]  # fmt: skip
        assert row.category == {"1": "Fraud", "2": "Malware"}[number]


def test_the_best_answer_is_the_only_right_one_of_mc1_and_all_true_ones_are_of_mc2(data, tmp_path):
    (single,) = rows_of("truthfulqa-mc1", data, tmp_path)
    assert (single.reference, single.answers) == ("[best].", ("[best].",))
    assert single.choices == ("[best].", "[false 1].", "[false 2].")
    (several,) = SUITES["truthfulqa-mc2"].prompts(Setting(tmp_path))
    assert several.answers == ("[best].", "[other].")
    assert several.choices == ("[best].", "[other].", "[false 1].", "[false 2].")


def test_a_question_has_the_reference_answer_and_the_caption_of_its_own(data, tmp_path):
    for row in rows_of("llava-bench", data, tmp_path):
        number = row.prompt[-2]
        assert (row.reference, row.answers) == (f"[answer {number}]", ("[caption]",))


def test_the_choices_are_read_out_of_the_question(data, tmp_path):
    (row,) = rows_of("scienceqa-250", data, tmp_path)
    assert (row.choices, row.reference) == (("[one]", "[two, and more]", "[three]"), "B")
    assert row.prompt.endswith("Answer with the option's letter from the given choices directly.")
    assert "Answer:" not in row.prompt


def test_an_original_picture_is_that_of_its_question(data, tmp_path):
    for row in rows_of("figstep-original", data, tmp_path):
        number = int(row.request.removeprefix("[q ").removesuffix("]"))
        assert Path(row.image).name == f"query_F_{number // 50}_{number % 50}_6.png"
    assert all(row.prompt.startswith("[safe ") for row in rows_of("xstest-safe", data, tmp_path))


REAL = {
    "harmbench": (200, 200, 6), "harmbench-contextual": (100, 93, 6), "jailbreakbench": (100, 100, 10),
    "jailbreakbench-second-turn": (100, 100, 10), "jailbreakbench-benign": (100, 100, 10),
    "redteam-2k": (2000, 2000, 16), "beavertails": (700, 700, 14), "pku-saferlhf": (930, 930, 1),
    "msts": (400, 400, 5), "mm-safetybench": (1680, 1661, 13), "figstep-benign": (300, 300, 1),
    "scienceqa-250": (250, 250, 1), "llava-bench": (60, 24, 3), "truthfulqa-mc1": (817, 817, 38),
    "truthfulqa-mc2": (817, 817, 38), "figstep": (500, 500, 10), "figstep-original": (500, 500, 10),
    "xstest-safe": (250, 250, 10),
}  # fmt: skip


@needs_benchmarks
@pytest.mark.parametrize("name", REAL)
def test_the_real_files_hold_what_their_papers_say(name, tmp_path):
    rows = SUITES[name].prompts(Setting(tmp_path))
    assert (len(rows), len({row.group for row in rows}), len({row.category for row in rows})) == REAL[name]
    assert len({row.id for row in rows}) == len(rows)
    assert SUITES[name].size == len(rows)


@needs_benchmarks
def test_the_truthful_choices_are_apart_from_the_false(tmp_path):
    for row in SUITES["truthfulqa-mc2"].prompts(Setting(tmp_path)):
        assert 0 < len(row.answers) < len(row.choices) == len(set(row.choices))
    for row in SUITES["truthfulqa-mc1"].prompts(Setting(tmp_path)):
        assert row.choices.count(row.reference) == 1


def addresses(suite):
    """Where the files of a suite are fetched from, and one of its pictures."""
    for file in suite.files:
        source = file.source if isinstance(file, Published) else file.each and file.each("picture.png")
        if source is not None:
            yield file, source


REVISION = re.compile(r"raw\.githubusercontent\.com/[^/]+/[^/]+/([^/]+)/")


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.files])
def test_what_is_fetched_is_pinned_or_says_why_not(name):
    for file, source in addresses(SUITES[name]):
        found = REVISION.search(source.url) if isinstance(source, Url) else None
        revision = source.revision if isinstance(source, Hub) else found and found[1]
        if re.fullmatch(r"[0-9a-f]{40}", revision or ""):
            assert file.pin.startswith("commit")
        else:  # 41 digits are no commit either
            assert re.fullmatch(r"not pinned: \w.{8,}", file.pin), name


def test_a_pin_is_a_whole_commit_or_a_hash_that_is_checked():
    assert github("a", "o/r", "0" * 40, "a").pin == "commit"
    assert github("a", "o/r", "0" * 41, "a", floating="[why]").pin == "not pinned: [why]"
    assert hub("a", "o/r", "a", sha256="0" * 16).pin == "sha256"
    assert hub("a", "o/r", "a", "0" * 40, "0" * 16).pin == "commit and sha256"
    assert Published("a", "[how]", sha256="0" * 16).pin.startswith(
        "not pinned"
    )  # a file brought by hand is not checked
    assert Pictures("a", "[how]").pin == "not pinned: they come by hand"


def test_hades_asks_one_step_of_six(data, tmp_path):
    published.hades(data)
    rows = get_suite("hades").prompts(Setting(tmp_path))
    assert len(rows) == 2  # of twelve
    for shard in (0, 1):
        table = pyarrow.parquet.read_table(data / f"hades/test-0000{shard}-of-00002.parquet")
        kept = table.filter(pyarrow.compute.not_equal(table["step"], hades.STEP))
        pyarrow.parquet.write_table(kept, data / f"hades/test-0000{shard}-of-00002.parquet")
    assert get_suite("hades").prompts(Setting(tmp_path)) == []


def test_jailbreakv_says_what_it_repeats(data, tmp_path):
    published.jailbreakv(data)
    rows = get_suite("jailbreakv-28k").prompts(Setting(tmp_path))
    assert len({row.prompt for row in rows}) == 3
    transfer = {f"llm_transfer_attack, {kind}" for kind in ("blank", "noise", "nature", "SD")}
    assert {row.image_type for row in rows} == {*transfer, "figstep"}
    said = {row.image_type.removeprefix("llm_transfer_attack, "): row.condition for row in rows}
    assert said == {
        "blank": Condition.BLANK, "noise": Condition.UNRELATED, "nature": Condition.UNRELATED, "SD": Condition.REAL,
        "figstep": Condition.REAL,
    }  # fmt: skip


def test_hades_points_at_the_picture_instead_of_the_word(data, tmp_path):
    published.hades(data)
    rows = get_suite("hades").prompts(Setting(tmp_path))
    assert [row.prompt for row in rows] == [
        "Tell me of the object in the image.",
        "Tell me of conduct the behavior in the image on.",
    ]
    assert {row.request for row in rows} == {"Tell me of [key]."}


def test_the_two_questions_of_an_mme_picture_are_asked_together(data, tmp_path):
    published.mme(data)
    for limit in (1, 2, 3, 5):
        rows = get_suite("mme").prompts(Setting(tmp_path, limit))
        assert len(rows) == limit // 2 * 2
        assert len({row.group for row in rows}) == limit // 2


def test_a_template_is_the_system_prompt(data, tmp_path):
    published.in_the_wild(data)
    rows = get_suite("in-the-wild-system").prompts(Setting(tmp_path))
    assert all(row.system.startswith("[template") and row.prompt.startswith("[request") for row in rows)
    assert find_suite("in-the-wild-typographic") is None  # a picture of the request would leave the template out


BROKEN = {
    "strongreject": "strongreject/strongreject_dataset.csv",
    "siuo": "siuo/siuo_gen.json",
    "vlsbench": "vlsbench/data.json",
    "vlguard-safe": "vlguard/test.json",
    "mssbench-safe": "mssbench/combined.json",
    "mossbench": "mossbench/information.json",
    "vqav2": "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
    "textvqa": "textvqa/TextVQA_0.5.1_val.json",
    "pope": "pope/coco_pope_random.json",
    "scienceqa": "scienceqa/problems.json",
    "mm-vet": "mm-vet/mm-vet.json",
    "mmlu": "mmlu/data/test/subject_0_test.csv",
    "hades": "hades/test-00001-of-00002.parquet",
    "mme": "mme/MME_Benchmark_release_version/existence/0001.txt",
    "jailbreak-in-pieces": "jailbreak_in_pieces/rows.jsonl",
    "jailbreakv-mini": "jailbreakv_28k/mini_JailBreakV_28K.csv",
}
PLAIN = st.recursive(
    st.none() | st.integers(0, 3) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["1", "chat", "data", "queries", "image", "answers"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken=st.one_of(PLAIN.map(json.dumps), st.text(max_size=20)))
def test_broken_files_are_one_line(name, broken, data, tmp_path):
    make = EXPECTED[name][0]
    path = data / BROKEN[name]
    if not path.exists():
        make(data)
    path.write_text(broken, encoding="utf-8", errors="surrogatepass")
    try:
        rows = SUITES[name].prompts(Setting(tmp_path / "images"))
    except UserError as error:
        assert "\n" not in str(error)
        assert str(tmp_path) in str(error) or "no picture of that folder" in str(error)
    else:
        assert all(row.prompt for row in rows)


def test_a_picture_outside_its_folder_is_refused(data, tmp_path):
    published.siuo(data)
    rows = json.loads((data / "siuo/siuo_gen.json").read_text())
    (data / "siuo/siuo_gen.json").write_text(json.dumps([{**rows[0], "image": "../../secret.png"}]))
    with pytest.raises(UserError, match="no picture of that folder"):
        SUITES["siuo"].prompts(Setting(tmp_path))


def test_a_gated_set_says_how_to_get_it(data, tmp_path):
    line = SUITES["vlguard-safe"].missing()
    assert line is not None
    assert "accept the terms" in line
    assert "\n" not in line
    with pytest.raises(UserError, match="accept the terms"):
        SUITES["vlguard-safe"].prompts(Setting(tmp_path))


def test_a_suite_that_a_judge_grades_needs_that_judge(data):
    published.mm_vet(data)
    assert "endpoint" in SUITES["mm-vet"].missing("probe")
    assert SUITES["mm-vet"].missing("endpoint") is None


@pytest.mark.parametrize(
    ("name", "condition"), [("contrast+blank", Condition.BLANK), ("contrast+unrelated", Condition.UNRELATED)]
)
def test_a_condition_changes_the_picture_and_nothing_else(name, condition, tmp_path):
    plain = {row.group: row for row in get_suite("contrast").prompts(Setting(tmp_path, 6))}
    shown = get_suite(name).prompts(Setting(tmp_path, 6))
    again = get_suite(name).prompts(Setting(tmp_path / "again", 6))
    assert len(shown) == 6
    for row, other in zip(shown, again, strict=True):
        assert (row.suite, row.condition, row.prompt) == (name, condition, plain[row.group].prompt)
        assert Path(row.image).read_bytes() == Path(other.image).read_bytes()
    pictures = {Path(row.image).read_bytes() for row in shown}
    assert len(pictures) == (1 if condition is Condition.BLANK else 6)


def test_a_picture_suite_loses_its_pictures_and_nothing_else(data, tmp_path):
    published.siuo(data)
    real = get_suite("siuo").prompts(Setting(tmp_path))
    for name, condition in (("blank", Condition.BLANK), ("unrelated", Condition.UNRELATED)):
        [row] = get_suite(f"siuo+{name}").prompts(Setting(tmp_path))
        assert (row.condition, row.prompt, row.group) == (condition, real[0].prompt, real[0].group)
        assert Image.open(row.image).size == (224, 224)  # not the picture of the set, which is smaller
    [row] = get_suite("siuo+no-image").prompts(Setting(tmp_path))
    assert (row.condition, row.image, row.prompt) == (Condition.NO_IMAGE, None, real[0].prompt)
    assert SUITES["siuo"].harm_in_picture
    assert not get_suite("siuo+blank").harm_in_picture
    guessed = get_suite("shapes+no-image").prompts(Setting(tmp_path, 6))
    assert [row.reference for row in guessed] == [
        row.reference for row in SUITES["shapes"].prompts(Setting(tmp_path, 6))
    ]


def test_names_that_mean_nothing_are_refused():
    names = """
        nothing contrast+ contrast+noise contrast+no-image shapes+noise contrast+blank+blank
        mmlu-typographic answer-loss+blank
        contrast-typographic+blank jailbreakbench-second-turn-figstep +blank
    """
    for name in names.split():
        assert find_suite(name) is None, name
        with pytest.raises(UserError, match="unknown"):
            get_suite(name)


def test_any_text_suite_has_twins_and_long_requests_get_larger_pictures(data, tmp_path):
    published.strongreject(data)
    text = (data / "strongreject/strongreject_dataset.csv").read_text()
    (data / "strongreject/strongreject_dataset.csv").write_text(text.replace("[request 1]", "a long request " * 200))
    rows = get_suite("strongreject-typographic").prompts(Setting(tmp_path))
    assert {row.group for row in rows} == {row.group for row in get_suite("strongreject").prompts(Setting(tmp_path))}
    sizes = sorted(Image.open(row.image).size[0] for row in rows)
    assert sizes[:2] == [224, 224]
    assert sizes[2] > 224
