"""Formats put one request into other words around it; scans garble it the way a model reads a page."""

import random

from hypothesis import given
from hypothesis import strategies as st

from unsay.data.formats import LISTS, WRAPPED, as_read, plain, sample_format, scan, topic_line

REQUEST = "Describe how sourdough bread rises overnight in a cold kitchen"


@given(st.text(max_size=200), st.integers(0, 1000))
def test_a_page_reads_the_same_with_the_same_seed(text, seed):
    assert as_read(text, random.Random(seed)) == as_read(text, random.Random(seed))


@given(st.integers(0, 1000))
def test_a_page_keeps_most_letters_of_every_word_in_order(seed):
    page = as_read(REQUEST, random.Random(seed)).replace(" ", "").replace("\n", "")
    place = 0
    for word in REQUEST.split():
        place = page.index(word[0], place) + 1  # the first letter is never mistaken, whatever is done to the rest


def test_words_are_doubled_split_mistaken_and_cut():
    pages = [as_read("kitchen", random.Random(seed)).split() for seed in range(300)]
    assert any(page.count("kitchen") == 2 for page in pages)  # doubled
    assert any("kitchen" not in page and "kitchen" in "".join(page) for page in pages)  # in pieces
    assert any("kitch" in page for page in pages)  # its end is lost
    mistaken = [word for page in pages for word in page if len(word) == 7 and word != "kitchen" and word.isalpha()]
    assert mistaken
    assert all(sum(a != b for a, b in zip(word, "kitchen", strict=True)) == 1 for word in mistaken)


def test_short_words_are_never_split():
    words = {word for seed in range(300) for word in as_read("oat", random.Random(seed)).split() if word.isalpha()}
    assert words == {"oat"}


def test_a_scan_ends_with_one_line_that_points_at_the_page():
    for seed in range(50):
        last = scan(random.Random(seed))(REQUEST).rsplit("\n", 1)[-1]
        assert last[0].isupper()
        assert last.endswith(".")


def test_formats_are_drawn_in_their_shares():
    rng = random.Random(0)
    drawn = [sample_format(rng, wrapped=0.2, lists=0.3, scans=0.4) for _ in range(4000)]
    shares = {
        "wrapped": sum(form in WRAPPED for form in drawn) / 4000,
        "lists": sum(form in LISTS for form in drawn) / 4000,
        "plain": sum(form is plain for form in drawn) / 4000,
    }
    # Four standard errors of a share of 4,000 are at most 0.03.
    assert abs(shares["wrapped"] - 0.2) < 0.03
    assert abs(shares["lists"] - 0.3) < 0.03
    assert abs(shares["plain"] - 0.1) < 0.03


def test_a_scanned_list_carries_its_heading():
    pages = [scan(random.Random(seed))(REQUEST) for seed in range(20)]
    lists = [page for page in pages if " 1 . \n 2 . \n 3 ." in page]
    assert 0 < len(lists) < 20
    assert topic_line(REQUEST).split()[0][0] in lists[0]
