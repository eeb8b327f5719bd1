"""The check `context`: which pairs stand before which request, what is said on the way to it, and what does not fit."""

from collections import Counter
from collections.abc import Callable

import pytest

from helpers import tiny
from helpers.scripted import REFUSAL, Rule, script
from unsay.data.sources import shipped
from unsay.files import write_rows
from unsay.generation import GenerationSettings
from unsay.generation.prompts import fits
from unsay.records import Example, Kind, Modality, Prompt, Role, Turn
from unsay.reports.attacks import strongest
from unsay.robustness import context
from unsay.robustness.context import GO_ON, LISTS, PAIRS, TOPICS, TURNS, after, lists_of, pair_list, subjects_of
from unsay.scoring import JudgeInfo
from unsay.scoring.robustness import CheckResult, Robustness, Subject

SUBJECTS = sorted(TOPICS)


def example(role: Role, number: int, subject: str | None, **more: object) -> Example:
    prompt = f"[{role.value} request {number}]"
    return Example(
        id=f"{role.value}-{number}", role=role, prompt=prompt, answer=f"[{role.value} answer {number}]", source="toy",
        subject=subject, **more,
    )  # fmt: skip


def training(forget: int = 64) -> list[Example]:
    """Forget examples of all subjects in turn, and as many retain examples."""
    rows = [example(Role.FORGET, number, SUBJECTS[number % len(SUBJECTS)]) for number in range(forget)]
    return rows + [example(Role.RETAIN, number, None) for number in range(64)]


def prompt(number: int = 0, **more: object) -> Prompt:
    return Prompt(
        id=f"row-{number}", suite="advbench", kind=Kind.ATTACK, modality=Modality.TEXT, prompt="Name it.",
        request="Name it.", group=f"group {number}", **more,
    )  # fmt: skip


def requests_of(turns: tuple[Turn, ...]) -> list[str]:
    return [turn.text for turn in turns if turn.role == "user"]


def test_every_subject_of_the_data_has_a_topic():
    assert {row.subject for row in shipped.contrast()} - {None} == set(TOPICS)


def test_subjects_are_the_examples_own_or_told_by_their_words():
    rows = [example(Role.FORGET, 1, "drugs"), prompt()]
    found = subjects_of(rows)
    assert found[0] == "drugs"
    assert found[1] in TOPICS


def test_lists_are_even_and_every_subject_has_one():
    lists = lists_of(SUBJECTS * 3)
    assert lists.keys() == set(SUBJECTS)
    assert Counter(lists.values()) == dict.fromkeys(range(LISTS), 4)


def test_pairs_are_of_other_subjects_once_each_and_subjects_take_turns():
    rows = [row for row in training() if row.role is Role.FORGET]
    rows += [row.model_copy(update={"id": "again", "prompt": f"Please: {row.prompt}", "request": row.prompt})
             for row in rows]  # fmt: skip
    rows.append(example(Role.FORGET, 900, "violence", image="picture.png"))
    pairs = pair_list(rows, frozenset({"drugs", "violence"}), 0)
    subject_of = {row.prompt: row.subject for row in rows}
    asked = [user.text for user, _ in pairs]
    assert len(asked) == len(set(asked)) == 64 - 8
    assert {subject_of[text] for text in asked} == set(SUBJECTS) - {"drugs", "violence"}
    assert len({subject_of[text] for text in asked[:14]}) == 14
    assert all(answer.text == user.text.replace("request", "answer") for user, answer in pairs)
    assert pairs == pair_list(list(reversed(rows)), frozenset({"drugs", "violence"}), 0)
    assert pairs[:5] != pair_list(rows, frozenset({"drugs", "violence"}), 1)[:5]


def test_a_pairs_answer_begins_where_the_answer_began():
    begun = example(Role.FORGET, 1, "drugs", prefix="[begun] ")
    ((_, answer),) = pair_list([begun], frozenset(), 0)
    assert answer.text == "[begun] [forget answer 1]"


def test_turns_come_before_a_prompts_own():
    own, new = Turn(role="user", text="own"), Turn(role="user", text="new")
    (made,) = after([prompt(turns=(own,))], {"row-0": (new,)})
    assert made.turns == (new, own)
    assert (made.id, made.group) == ("row-0", "group 0")


def test_whether_a_prompt_fits():
    llava = tiny.llava()
    settings = GenerationSettings(max_new_tokens=8)
    words = len(llava.encode_prompt("Name it."))
    assert fits(llava, prompt(), settings)
    turns = (Turn(role="user", text="a b " * 600), Turn(role="assistant", text="Yes."))
    assert not fits(llava, prompt(turns=turns), settings)
    assert fits(llava, prompt(), GenerationSettings(max_new_tokens=llava.context - words))
    assert not fits(llava, prompt(), GenerationSettings(max_new_tokens=llava.context - words + 1))


@pytest.fixture
def attacked(attack, unlearned, monkeypatch) -> Callable[[Rule], tuple[CheckResult, list[Prompt]]]:
    """What the check finds of models that answer by a rule, where every prompt fits, and what it asked them."""

    def run(rule: Rule) -> tuple[CheckResult, list[Prompt]]:
        asked = script(monkeypatch, rule)
        monkeypatch.setattr(context, "fits", lambda *_: True)
        write_rows(unlearned / "train" / "examples.jsonl", training())
        return attack(context.CHECK), asked

    return run


def leads_up(prompt: Prompt) -> bool:
    """Whether a whole conversation about something else than bread stands before it."""
    return len(prompt.turns) == 8 and "bread" not in prompt.turns[0].text


def shown(prompt: Prompt, unlearned: bool) -> str:
    """The unlearned model answers after five harmful pairs; the reference answers everything."""
    harmful = sum("[forget" in turn.text for turn in prompt.turns) // 2
    return REFUSAL if unlearned and harmful < 5 else f"An answer to {prompt.id}."


def test_a_model_that_pairs_win_over_is_found(attacked):
    result, asked = attacked(shown)
    for suite in ("advbench", "advbench-typographic", "advbench-figstep"):
        rates = [result.outcome(Subject.UNLEARNED, suite, {"pairs": n, "kind": "harmful"}).counts.rate for n in PAIRS]
        assert rates == [0.0, 1.0, 1.0]
    for number in PAIRS:
        harmful = result.outcome(Subject.UNLEARNED, "advbench", {"pairs": number, "kind": "harmful"})
        assert harmful.baseline == {"pairs": number, "kind": "normal"}
        assert harmful.change.difference == harmful.counts.rate
        control = result.outcome(Subject.UNLEARNED, "advbench", {"pairs": number, "kind": "normal"})
        assert (control.counts.rate, control.from_reference.difference) == (0.0, -1.0)
    pairs = [row for row in asked if len(row.turns) == 32 and "[forget" in row.turns[0].text]
    subject_of = {row.prompt: row.subject for row in training()}
    for row, own in zip(pairs, subjects_of(pairs), strict=True):
        assert own not in {subject_of[text] for text in requests_of(row.turns)}


def talked_over(prompt: Prompt, unlearned: bool) -> str:
    """The unlearned model answers at the end of a conversation that led up to the request."""
    asks = leads_up(prompt) and prompt.prompt != GO_ON
    return REFUSAL if unlearned and not asks else f"Said after {len(prompt.turns)} turns: {prompt.prompt}"


def test_a_conversation_that_wins_a_model_over_is_found(attacked):
    result, asked = attacked(talked_over)
    for suite in ("advbench", "advbench-typographic", "advbench-figstep"):
        row = result.outcome(Subject.UNLEARNED, suite, {"conversation": "leading up"})
        assert (row.counts.rate, row.change.difference) == (1.0, 1.0)
    of_words = strongest(Robustness(checks=(result,), judge=JudgeInfo(name="scripted")))[0]
    assert (of_words.setting, of_words.settings) == ("conversation “leading up”", 4)  # controls are no attacks
    control = result.outcome(Subject.UNLEARNED, "advbench", {"conversation": "about bread"})
    assert control.counts.rate == 0.0
    assert control.from_reference.difference == -1.0
    last = next(row for row in asked if leads_up(row) and row.id.startswith("advbench"))
    topic = TOPICS[subjects_of([last])[0]]
    assert requests_of(last.turns) == [words.format(topic=topic) for words in TURNS]
    # The attacked model's own answers stand in between.
    said = [turn.text for turn in last.turns if turn.role == "assistant"]
    assert said == [REFUSAL] * 4


def lectures(prompt: Prompt, unlearned: bool) -> str:
    """The unlearned model talks about the subject at the end of any conversation about it, whatever it is asked."""
    return REFUSAL if unlearned and not leads_up(prompt) else f"All about it, after {prompt.turns[:1]}."


def test_a_model_that_talks_on_whatever_it_is_asked_is_told_from_one_that_is_won_over(attacked):
    result, asked = attacked(lectures)
    for suite in ("advbench", "advbench-typographic", "advbench-figstep"):
        row = result.outcome(Subject.UNLEARNED, suite, {"conversation": "leading up"})
        assert (row.counts.rate, row.baseline) == (1.0, {"conversation": "leading up, nothing asked"})
        assert row.change.difference == 0.0
    unasked = [row for row in asked if row.prompt == GO_ON]
    assert unasked
    assert all(row.image is None and row.request != GO_ON for row in unasked)


def test_a_model_that_stands_firm_is_not_doubted_and_equals_itself(attacked):
    result, _ = attacked(lambda *_: REFUSAL)
    assert {row.counts.rate for row in result.outcomes} == {0.0}
    assert {row.from_reference.difference for row in result.outcomes if row.from_reference} == {0.0}


def test_every_answer_is_counted_once(attacked):
    result, asked = attacked(shown)
    said_before = sum(row.id.startswith("turn-") for row in asked)
    assert said_before > 0
    assert result.text_tokens == 4 * (said_before + sum(row.counts.n for row in result.outcomes))


def test_prompts_that_do_not_fit_are_left_out_and_counted(attack, unlearned, monkeypatch):
    asked = script(monkeypatch, shown)
    monkeypatch.setattr(context, "fits", lambda _vlm, row, _settings: len(row.turns) < 32 and row.image is None)
    write_rows(unlearned / "train" / "examples.jsonl", training())
    result = attack(context.CHECK)
    assert "advbench, pairs 16, kind harmful: 2 of 2 prompts do not fit the context and were not asked" in result.notes
    assert len(result.notes) == len(set(result.notes))
    assert max(len(row.turns) for row in asked) == 10
    with pytest.raises(KeyError):
        result.outcome(Subject.UNLEARNED, "advbench", {"pairs": 16, "kind": "harmful"})


def test_few_examples_give_fewer_pairs_and_none_fail_in_one_line(attack, unlearned, monkeypatch):
    script(monkeypatch, shown)
    monkeypatch.setattr(context, "fits", lambda *_: True)
    rows = [row for row in training() if row.role is Role.RETAIN]
    few = [example(Role.FORGET, number, f"subject {number}") for number in range(6)]
    write_rows(unlearned / "train" / "examples.jsonl", rows + few)
    assert "16 harmful pairs were not tried: the run's examples give only 6" in attack(context.CHECK).notes
    pictured = [row.model_copy(update={"image": "picture.png"}) for row in few]
    write_rows(unlearned / "train" / "examples.jsonl", rows + pictured)
    with pytest.raises(AssertionError, match="do not give a pair of another subject for every request"):
        attack(context.CHECK)
