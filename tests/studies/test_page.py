"""What a study says: intervals beside every number, ties as ties, babble called babble."""

import re
from xml.etree import ElementTree

import pytest
from rich.console import Console

from helpers import synthetic_study
from tools.study_page import main, markdown
from unsay.errors import UserError
from unsay.files import write_json
from unsay.reports.numbers import percent
from unsay.studies import words
from unsay.studies.collect import published_rows
from unsay.studies.figure import COLOURS, figure, tradeoffs
from unsay.studies.page import render
from unsay.studies.schema import COHERENT, REFUSAL, PublishedRow, StudyResult, read_result, write_result
from unsay.studies.settings import ORIGINAL, Published
from unsay.studies.tables import terminal_table


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return synthetic_study.study(rules=("steps", "tokens"))


@pytest.fixture(scope="module")
def page(result) -> str:
    return render(result)


def table_rows(page, section):
    part = page.split(f'<section id="{section}"')[1].split("</section>")[0]
    return re.findall(r"<tr[ >].*?</tr>", part, flags=re.DOTALL)


SVG = "{http://www.w3.org/2000/svg}"


def element(page, name):
    """The group of a figure that has this id."""
    return page.split(f'<g id="{name}">')[1].split("</g>\n")[0]


def line(page, name):
    """The two ends of a line of a figure."""
    start, end = re.search(r'd="M ([^L]+)L ([^"]+)"', element(page, name)).groups()
    return tuple(tuple(map(float, at.split())) for at in (start, end))


def position(page, plot, point):
    """Where a point stands."""
    use = re.search(
        r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)"', element(page, f"point-{plot.measure}-{point.number}")
    )
    return float(use[1]), float(use[2])


def text_of(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_every_rate_of_the_ranking_has_its_interval(page, result):
    rows = [text_of(row) for row in table_rows(page, "ranking") if "<td" in row]
    assert len(rows) == sum(len(ranking.places) for ranking in result.rankings) == 2 * 6
    for row in rows:
        shares = re.findall(r"\d+\.\d%", row)
        assert len(shares) == 6  # coherent, ASR text, ASR image, babble, over-refusal, shapes
        assert len(re.findall(r"\d+\.\d%  ?\d+\.\d–\d+\.\d", row)) == 6, row


def test_each_plot_has_a_bar_either_way_for_each_point(page, result):
    plots = tradeoffs(result)
    assert [plot.y_title for plot in plots] == [
        "Over-refusal (lower is better)",
        "Coloured shapes (higher is better)",
        "Loss on normal answers, nats per token (lower is better)",
    ]
    for plot in plots:
        assert len(plot.points) + len(plot.beyond) == sum(bool(arm.measures) for arm in result.arms)
        for point in plot.points:
            x, y = position(page, plot, point)
            (left, at_y), (right, again_y) = line(page, f"x-bar-{plot.measure}-{point.number}")
            (at_x, bottom), (again_x, top) = line(page, f"y-bar-{plot.measure}-{point.number}")
            assert at_y == again_y == pytest.approx(y, abs=0.01)
            assert at_x == again_x == pytest.approx(x, abs=0.01)
            assert left <= x <= right
            assert top <= y <= bottom
            assert right - left > 1  # no rate is certain
    assert page.count('<g id="x-bar-') == page.count('<g id="y-bar-') == sum(len(plot.points) for plot in plots)


def test_positions_on_a_plot_by_hand(page, result):
    refusal = tradeoffs(result)[0]
    point = next(point for point in refusal.points if point.name == "Textual unlearning")
    arm = result.find("textual-unlearning@steps")
    # The grid's own lines say where a rate lies.
    drawing = page[page.index('<svg xmlns="http://www.w3.org/2000/svg"') : page.index('<g id="x-bar-over_refusal')]
    grid = re.findall(r'<path d="M 62 ([\d.]+) L 542 \1 " clip-path', drawing)
    texts = re.findall(r"text-anchor: end; [^>]*>(\d+)%</text>", drawing)
    (bottom, zero), *_, (top, last) = [(int(text) / 100, float(at)) for text, at in zip(texts, grid, strict=True)]
    share = (arm.measures[REFUSAL].value - bottom) / (top - bottom)
    assert position(page, refusal, point)[1] == pytest.approx(zero + share * (last - zero), abs=0.01)


def test_babble_is_hollow_off_the_front_and_called_out(page, result):
    for plot in tradeoffs(result):
        hollow = {point.name for point in plot.points if point.hollow}
        babblers = {"Gradient ascent, equal steps", "Gradient ascent, equal tokens"}
        # Its loss knows no bounds: drawn inside, it would press all others onto the axis.
        assert hollow == (set() if plot.measure == "answer-loss" else babblers)
        assert all(any(line.startswith(name) for line in plot.beyond) for name in babblers - hollow)
        for ascent in (point for point in plot.points if point.hollow):
            assert (ascent.x.value, ascent.y.value) not in plot.front
        for point in plot.points:
            style = re.search(r'style="(.*?)"', element(page, f"point-{plot.measure}-{point.number}").split("<use")[1])[
                1
            ]
            assert ("fill: var(--figure-paper)" in style) == point.hollow
    assert "Gradient ascent, equal steps: " in page
    assert "of its answers to attacks are degenerate" in page
    assert {ranking.places[-1].arm.split("@")[0] for ranking in result.rankings} == {"collapsed"}


@pytest.mark.parametrize(("less", "babbles"), [(0.0, False), (0.04, False), (0.06, True)])
def test_an_arm_that_babbles_hardly_more_than_the_original_is_not_called_a_babbler(result, less, babbles):
    """Gradient ascent babbles in nearly all answers; here the original model does so nearly as often."""
    ascent = result.find("collapsed@steps")
    assert words.babbles(result, ascent)
    share = ascent.degenerate.model_copy(update={"value": ascent.degenerate.value - less})
    arms = tuple(row.model_copy(update={"degenerate": share}) if row.arm == ORIGINAL else row for row in result.arms)
    before = result.model_copy(update={"arms": arms})
    assert words.babbles(before, ascent) == babbles
    assert (len(words.babblers(before)) == len(words.babblers(result))) == babbles
    assert "(original model: 0.0%)" in words.babblers(result)[0]


def test_a_failed_arm_is_named_with_its_reason(page, result):
    assert "RMU, equal steps, seed 0: failed: collapse at step 4" in page
    assert "RMU" not in "".join(table_rows(page, "ranking"))
    assert "RMU" in markdown(result, "paper")


def test_ties_and_winners_are_those_of_the_tests(page, result):
    for ranking in result.rankings:
        for place in ranking.places:
            pair = words.against(result, ranking, place.arm, COHERENT)
            if pair is None:
                assert result.find(place.arm).arm == "textual-unlearning"
                continue
            said = words.verdict(pair, place.arm)
            clear = pair.p_holm < 0.05 and not pair.interval.low <= 0 <= pair.interval.high
            assert (said == "tie") == (not clear)
    verdicts = re.findall(r'<span class="pill (?:met|missed|)">(better|worse|tie)</span>', page)
    assert {"better", "worse", "tie"} == set(verdicts)
    assert len(verdicts) == 2 * 5 * 5  # rules × arms besides the reference × measures


def test_differences_are_arm_minus_reference(result):
    ranking = result.rankings[0]
    pair = words.against(result, ranking, "original", COHERENT)
    mine, theirs = (result.find(name).measures[COHERENT].value for name in ("original", "textual-unlearning@steps"))
    assert words.difference_words(result, pair, "original").startswith(f"−{abs(mine - theirs) * 100:.1f} [−")
    assert words.verdict(pair, "original") == "worse"


def test_findings_say_what_beat_the_reference(result):
    said = words.findings(result)
    assert len(said) == 2
    assert said[0].startswith("At equal steps, Textual unlearning has a coherent safety of ")
    assert "Gradient ascent" in said[0].split("; ")[-1]
    assert said[0].endswith("less safe.")


def test_the_page_loads_nothing_and_escapes_what_it_is_given(result):
    page = render(result.model_copy(update={"title": "<script>alert(1)</script>"}))
    assert "<script>alert" not in page
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert "http-equiv=\"Content-Security-Policy\"" in page  # fmt: skip


def test_the_terminal_table_fits_eighty_columns(result):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(result))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "Textual unlearning" in text
    assert "…" not in text
    assert re.search(r"\d+% \d+–\d+", text)


def test_the_markdown_page_has_every_table(result):
    text = markdown(result, "paper")
    assert text.startswith("# Is textual unlearning all you need?\n")
    assert re.search(r"\| Textual unlearning \| \d+\.\d% \(\d+\.\d–\d+\.\d\)", text)
    assert "× 2.10" in text
    assert "p < 0.001, **worse**" in text
    assert ", tie |" in text
    widths = {}
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths[block] = {line.count("|") for line in block.splitlines()}
    assert len(widths) == 6  # two rankings, two tables of differences, one of suites, one of cost
    suites = text.split("## By suite")[1].split("\n## ")[0]
    assert "| arm | Advbench | Advbench-typographic | Contrast |" in suites
    (original,) = [arm for arm in result.arms if arm.arm == ORIGINAL]
    rate = f"{original.suites[1].rate:.1%}"
    assert re.search(rf"^\| Original model \| \d+\.\d% \([^|]+\| {rate} \(", suites, flags=re.MULTILINE)
    assert all(len(found) == 1 for found in widths.values())


def test_the_figure_is_one_file_that_shows_every_arm_by_its_number(result):
    svg = figure(result)
    tree = ElementTree.fromstring(svg)
    targets = re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?(.)", svg)
    assert targets
    assert set(targets) == {"#"}  # it brings all that it needs
    width, height = (float(tree.get(name)) for name in ("width", "height"))
    texts = [" ".join("".join(node.itertext()).split()) for node in tree.iter(f"{SVG}text")]
    plots = tradeoffs(result)
    assert [text for text in texts if text in {plot.y_title for plot in plots}] == [plot.y_title for plot in plots]
    shown = {point.number: point.name for plot in plots for point in plot.points}
    assert texts[-len(shown) :] == [f"{number} {shown[number]}" for number in sorted(shown)]
    ids = [node.get("id") for node in tree.iter() if node.get("id")]
    assert len(set(ids)) == len(ids)
    corners = []
    for plot in plots:
        for point in plot.points:
            assert texts.count(str(point.number)) == sum(
                point.number in {p.number for p in other.points} for other in plots
            )
            number = element(svg, f"number-{plot.measure}-{point.number}")
            corners.append(tuple(float(re.search(rf' {axis}="([\d.]+)"', number)[1]) for axis in "xy"))
            assert f"<title>{point.spoken}</title>" in element(svg, f"point-{plot.measure}-{point.number}")
    assert len(set(corners)) == len(corners)
    assert all(0 < x < width and 0 < y < height for x, y in corners)


def test_the_figure_is_the_same_file_every_time_and_in_both_schemes(result):
    svg = figure(result)
    assert svg == figure(result)
    assert "<dc:date>" not in svg
    drawing = svg.split("</style>")[1]
    assert not re.findall(r"#[0-9a-f]{6}\b", drawing)  # every colour has one of its own in the dark scheme
    names = set(re.findall(r"var\(--figure-(\w+)\)", svg))
    assert names == set(COLOURS) - {"original"}  # it lies beyond every panel
    assert all(svg.count(f"--figure-{name}: #") == 2 for name in names)


def test_ids_on_the_page_are_unique(page):
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)


def test_without_a_point_there_is_no_figure_and_the_page_names_none(result):
    bare = result.model_copy(update={"arms": tuple(a.model_copy(update={"measures": {}}) for a in result.arms)})
    assert figure(bare) is None
    empty = bare.model_copy(update={"rankings": (), "comparisons": ()})
    assert ".svg" not in markdown(empty, "paper")
    assert "](paper.svg)" in markdown(result, "paper")


def test_results_are_written_by_one_command(result, tmp_path, capsys):
    write_result(tmp_path / "study" / "study.json", result)
    out = tmp_path / "docs" / "paper"
    assert main([str(tmp_path / "study"), "--out", str(out)]) == 0
    assert read_result(out.with_suffix(".json")) == result
    assert out.with_suffix(".md").read_text() == markdown(result, "paper")
    assert out.with_suffix(".svg").read_text() == figure(result)
    assert f"{len(result.arms)} arms, seeds 0, 1, 2" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere"), "--out", str(out)]) == 2


def test_a_study_json_that_is_none_is_one_line(tmp_path, result):
    whole = result.model_dump(mode="json")
    write_json(tmp_path / "old.json", {**whole, "schema_version": 0})
    with pytest.raises(UserError, match=r"old\.json: schema_version"):
        read_result(tmp_path / "old.json")
    whole["rankings"][0]["places"][0]["arm"] = "nobody"
    write_json(tmp_path / "odd.json", whole)
    with pytest.raises(UserError, match="unknown arm 'nobody'"):
        read_result(tmp_path / "odd.json")


def test_published_numbers_stand_beside_the_measured_ones_with_their_source(result):
    arm = result.find("textual-unlearning@steps")
    rows = (
        PublishedRow(
            measure="image_attacks", title="Attack success, image", published="below 8 %", about="[their model]",
            source="arXiv 2406.02575, abstract", arm=arm.name, measured=arm.image_attacks,
        ),
        PublishedRow(
            measure="over_refusal", title="Over-refusal", published="3 %", about="[theirs]", source="[paper]",
            arm="original",
        ),
    )  # fmt: skip
    beside = result.model_copy(update={"published": rows})
    shown = render(beside)
    assert 'id="published"' in shown
    assert 'id="published"' not in render(result)
    for text in (shown, markdown(beside, "paper")):
        assert "below 8 %" in text
        assert "arXiv 2406.02575, abstract" in text
        assert percent(arm.image_attacks.value) in text


def test_a_studys_published_numbers_find_their_arm_and_measure(result):
    known = [
        Published(arm="textual-unlearning", measure="text_attacks", value="2 %", about="[a]", source="[s]"),
        Published(arm="original", measure="shapes", value="50 %", about="[a]", source="[s]"),
        Published(arm="nobody", measure="shapes", value="50 %", about="[a]", source="[s]"),
    ]
    first, second = published_rows(known, result.arms, {"shapes": "Shapes"})
    arm = result.find("textual-unlearning@steps")
    assert (first.arm, first.measured, first.title) == (arm.name, arm.text_attacks, "Attack success, text")
    assert (second.arm, second.measured) == ("original", result.find("original").measures["shapes"])
