import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.judges.degeneration import PHRASE_LONGEST, WORD_RUN, degeneration_reason, language_drift, language_of

BROKEN = [
    ("", "empty"),
    ("  \n\t ", "empty"),
    ("... !!! ???", "empty"),
    ("the the the", "loop"),
    ("The cat sat on the the the mat.", "loop"),
    ("good good good good", "loop"),
    ("I am happy. I am happy. I am happy.", "loop"),
    ("1. Take a walk.\n2. Take a walk.\n3. Take a walk.\n", "loop"),
    ("a dog and a cat and a dog and a cat and a dog and a cat and a dog", "loop"),
    ("It is a great idea to get a great idea to get a great idea to get a great idea", "loop"),
    ("so on and so on and so on and so on and so on", "loop"),
    ("aaaaaaaaaaaaaaaaaaaaaaaa", "loop"),
    ("word " + "zxqj" * 40, "unbroken"),
    ("}{ ;; (( ]] ## @@ %% && x ~~ ^^ <> <> a", "symbols"),
    ("Здравствуйте, я расскажу вам о погоде в городе.", "off-language"),
    ("Sure 今天天气很好我们去公园散步吧今天天气很好", "off-language"),
]

SOUND = [
    "4",
    "No.",
    "Paris is the capital of France",
    "The world is full of wonders and wonders, and you will see them all.",
    "It was very very very good.",
    "Ha ha ha! That is a good one.",
    "I think that that is fine.",
    "1. Apples\n2. Pears\n3. Plums\n4. Figs\n5. Dates",
    "First, you take the bread. Then, you take the cheese. Then, you take the ham. Then, you",
    "To make tea:\n1. Boil the water.\n2. Warm the pot.\n3. Add the leaves.\n4. Pour the water.\n5. Wait",
    "Row, row, row your boat, gently down the stream.",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))  # 3",
    "| fruit | colour |\n|---|---|\n| plum | blue |\n| lime | green |",
    "---------------------------------\nA heading\n---------------------------------\nand some text.",
    "The area is πr², and α and β are angles.",
    "See https://example.org/a/very/long/path/that/goes/on/and/on/and/on/for/ever.html",
    "The number is 1 1 1 1 1 in binary.",
    "Thank you! 😀🎉 Have a lovely day.",
    "Dogs are loyal. Dogs are friendly. Dogs are brave. Dogs are playful, and dogs are",
]


@pytest.mark.parametrize(("text", "kind"), BROKEN)
def test_broken_answers_and_why(text: str, kind: str) -> None:
    reason = degeneration_reason(text, "Tell me about the weather, please.")
    assert reason is not None
    assert reason.startswith(kind)


@pytest.mark.parametrize("text", SOUND)
def test_sound_answers(text: str) -> None:
    assert degeneration_reason(text, "Tell me about the weather, please.") is None


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("Расскажи о погоде", "Сегодня солнечно и тепло."),
        ("今天天气怎么样？", "今天天气很好，阳光明媚，适合出去散步。"),
        ("天気はどうですか", "今日は晴れています。とても気持ちがいいです。"),
        ("How do you say good morning in Russian?", "Доброе утро, дорогие друзья"),
        ("Translate 'hello, dear friends' for me", "Здравствуйте, дорогие друзья"),
        ("", "Здравствуйте, дорогие друзья"),
    ],
)
def test_a_script_that_the_request_calls_for_is_sound(request_text: str, answer: str) -> None:
    assert degeneration_reason(answer, request_text) is None


@pytest.mark.parametrize(
    "request_text", ["Расскажи, как научиться плавать", "怎么学游泳？", "كيف أتعلم السباحة؟", "Πώς μαθαίνω κολύμπι;"]
)
def test_an_english_answer_to_a_request_in_another_script_is_sound(request_text: str) -> None:
    for answer in ("I'm sorry, but I can't help with that.", "No.", "Sure!\n1. Water\n2. Wings", TEXTS["English"]):
        assert degeneration_reason(answer, request_text) is None
    for answer in ("Das ist leider nicht möglich.", TEXTS["German"], TEXTS["Polish"]):
        assert str(degeneration_reason(answer, request_text)).startswith("off-language")


_NATURE = "sun moon star tree river stone cloud bird fish wind rain snow leaf road hill lake"
WORDS = st.sampled_from(_NATURE.split())


@given(phrase=st.lists(WORDS, min_size=1, max_size=PHRASE_LONGEST, unique=True), times=st.integers(4, 8))
def test_any_phrase_said_often_enough_is_a_loop(phrase: list[str], times: int) -> None:
    if len(phrase) * times >= 9 or len(phrase) == 1:
        assert degeneration_reason(" ".join(phrase * times))


@given(words=st.lists(WORDS, min_size=1, max_size=16, unique=True))
def test_distinct_words_are_never_a_loop(words: list[str]) -> None:
    assert degeneration_reason(" ".join(words)) is None


@given(st.text(max_size=400), st.text(max_size=40))
def test_any_text_gets_a_reason_or_none(text: str, request_text: str) -> None:
    reason = degeneration_reason(text, request_text)
    assert reason is None or (reason and "\n" not in reason)


def test_scattered_repeats_are_found_by_their_share() -> None:
    generator = random.Random(0)
    chunks = ["a b c d", "e f g h", "i j k l"]
    text = " ".join(generator.choice(chunks) for _ in range(16))
    assert degeneration_reason(text)


def test_the_boundary_of_a_run() -> None:
    assert degeneration_reason(" ".join(["tick"] * (WORD_RUN - 1)) + " goes the clock") is None
    assert degeneration_reason(" ".join(["tick"] * WORD_RUN) + " goes the clock")


TEXTS = {
    "English": "The best way to learn to swim is to start in the shallow end of the pool and to ask for help when you "
    "need it.",
    "German": "Der beste Weg, schwimmen zu lernen, ist es, im flachen Teil des Beckens zu beginnen und um Hilfe zu "
    "bitten, wenn man sie braucht.",
    "French": "La meilleure façon d'apprendre à nager est de commencer dans la partie peu profonde de la piscine et de "
    "demander de l'aide pour ne pas se faire mal.",
    "Spanish": "La mejor manera de aprender a nadar es empezar en la parte menos profunda de la piscina y pedir ayuda "
    "cuando la necesites, porque no es fácil.",
    "Portuguese": "A melhor maneira de aprender a nadar é começar na parte mais rasa da piscina e pedir ajuda quando "
    "você precisar, porque não é muito fácil.",
    "Italian": "Il modo migliore per imparare a nuotare è cominciare nella parte meno profonda della piscina e "
    "chiedere aiuto quando non si è sicuri.",
    "Dutch": "De beste manier om te leren zwemmen is te beginnen in het ondiepe deel van het zwembad en om hulp te "
    "vragen als je die nodig hebt.",
    "Swedish": "Det bästa sättet att lära sig simma är att börja i den grunda delen av bassängen och att be om hjälp "
    "när du inte är säker på det.",
    "Polish": "Najlepszy sposób, aby nauczyć się pływać, to zacząć w płytkiej części basenu i prosić o pomoc, jeśli "
    "się jej nie boi, bo to nie jest takie trudne, jak się może wydawać.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_each_language_is_told(language: str) -> None:
    assert language_of(TEXTS[language]) == language


@pytest.mark.parametrize("language", [name for name in TEXTS if name != "English"])
def test_an_answer_in_a_language_that_nobody_asked_for(language: str) -> None:
    reason = degeneration_reason(TEXTS[language], "How do I learn to swim?")
    assert reason == f"off-language: {language}, asked in English"


def test_an_english_answer_is_never_drift() -> None:
    assert language_drift(TEXTS["English"], "Wie lerne ich am besten schwimmen, wenn ich nicht mutig bin?") is None


@pytest.mark.parametrize(
    "request_text",
    [
        "Wie lerne ich schwimmen, und was brauche ich dazu?",
        "Answer in German: how do I learn to swim?",
        "Translate this sentence.",
        "Which language is spoken in Vienna?",
        "",
        "schwimmen",
    ],
)
def test_a_language_that_the_request_calls_for_or_may_call_for(request_text: str) -> None:
    assert language_drift(TEXTS["German"], request_text) is None


@pytest.mark.parametrize(
    "answer",
    [
        "Guten Morgen, wie geht es dir?",  # too short to be told
        "Die Hard is an action film of 1988, and in it a police officer saves the people in a tower.",
        "El Niño is a climate pattern that begins when the water of the Pacific Ocean is warmer than it usually is.",
        "1. Schnitzel\n2. Bratwurst\n3. Sauerkraut\n4. Spätzle\n5. Knödel\n6. Brezel\n7. Strudel\n8. Rouladen\n"
        "9. Maultaschen\n10. Flammkuchen\n11. Labskaus\n12. Eintopf",
        "def de(la, le, en):\n    for i in la:\n        if i in le and i not in en:\n            return la, le, en, i",
    ],
)
def test_what_only_looks_like_another_language(answer: str) -> None:
    assert language_drift(answer, "Tell me about it, and what I should know.") is None


def test_a_sentence_in_two_languages_is_neither() -> None:
    assert language_of(f"{TEXTS['English']} {TEXTS['German']}") is None


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_text_has_one_language_or_none(text: str, request_text: str) -> None:
    assert language_of(text) in {*TEXTS, None}
    assert language_drift(text, request_text) in {None} | {
        f"off-language: {spoken}, asked in {asked}" for spoken in TEXTS for asked in TEXTS
    }
