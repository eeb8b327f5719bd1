import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.judges.degeneration import degeneration_reason, language_drift, language_of

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
