"""Promises of the filters: each rule's texts just inside and just outside its bound, and no built-in seed dropped."""

from __future__ import annotations

import pytest
from example_rows import task
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import InstructionsConfig
from refine_af.filters import (
    COPIED,
    HOLLOW,
    INSTRUCTION_FILTERS,
    PAIR_FILTERS,
    TOPIC,
    copied_demonstration,
    instruction_fault,
    pair_fault,
)
from refine_af.language import ENGLISH, Language
from refine_af.prompts.pairs import Pair
from refine_af.seeds import load_seeds
from refine_af.topics import Topics, content_words

CONFIG = InstructionsConfig()


def reason(text: str, config: InstructionsConfig = CONFIG) -> str | None:
    fault = instruction_fault(text, config)
    return None if fault is None else fault[0]


def of_words(count: int) -> str:
    return " ".join(("Explain", "it")[i % 2] for i in range(count))


@pytest.mark.parametrize(
    ("words", "expected"),
    [(0, "too short"), (1, "too short"), (3, "too short"), (4, None), (150, None), (151, "too long")],
)
def test_length_in_words_is_bounded_as_self_instruct_bounds_it(words: int, expected: str | None) -> None:
    assert reason(of_words(words)) == expected


@pytest.mark.parametrize(("words", "expected"), [(1, "too short"), (2, None), (5, None), (6, "too long")])
def test_the_bounds_are_the_configs(words: int, expected: str | None) -> None:
    assert reason(of_words(words), InstructionsConfig(min_words=2, max_words=5)) == expected


@pytest.mark.parametrize(
    "word",
    ["image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot",
     "go to"],
)  # fmt: skip
def test_what_a_text_model_cannot_serve_is_dropped_in_any_case_and_place(word: str) -> None:
    for shown in (word, word.upper(), word.title()):
        for text in (
            f"Describe the {shown} to me",
            f"Describe to me this {shown}.",
            f"{shown} is what you describe",
            f"Say this: ({shown}) again",
        ):
            fault = instruction_fault(text, CONFIG)
            assert fault == ("needs more than text", word)


@pytest.mark.parametrize(
    "word",
    ["imagery", "imagine", "paragraph", "graphic", "picturesque", "profile", "filed", "mapping", "drawer", "plotting",
     "plots", "gopher to", "ago to", "go tonight", "withdraw"],
)  # fmt: skip
def test_only_whole_words_are_matched(word: str) -> None:
    assert reason(f"Explain the term {word} to me") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write a program that adds numbers", "asks for a program"),
        ("write a Program that adds numbers", "asks for a program"),
        ("Write the program of a concert", None),
        ("Explain how to write a program", None),
        ("Write a poem about a program", None),
    ],
)
def test_programs_are_not_asked_for_at_the_beginning(text: str, expected: str | None) -> None:
    assert reason(text) == expected


@pytest.mark.parametrize("first", list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["“", "—", "\u00a0", "•", "😀"])
def test_a_beginning_of_punctuation_or_a_symbol_is_odd(first: str) -> None:
    assert INSTRUCTION_FILTERS["starts oddly"](f"{first}rite about the sea", CONFIG) == first


@pytest.mark.parametrize(
    "text",
    ["Write about the café.", "9 lives: whose?", "z is a letter?", "Écrivez un poème.", "¿Qué hora es?", "¡Escribe!",
     "«Слово» значит что?", "„Haus“ heißt was?", "Напиши стих.", "写一首关于雨的诗。", "「雨」は何。", "١٢ كم؟"],
)  # fmt: skip
def test_letters_and_digits_of_any_script_are_no_odd_beginning(text: str) -> None:
    assert INSTRUCTION_FILTERS["starts oddly"](text, CONFIG) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The largest cake in the world.", "the"),
        ("It is raining in London today.", "it"),
        ("She's the best player we know", "she's"),
        ("The sky is blue. The grass is green.", "the"),
        ("The sky is blue. Explain why.", None),
        ("You are a pirate. Describe your ship.", None),
        ("The sky is which colour?", None),
        ("I need a name for my cat", None),
        ("You are given a sentence about cats", None),
        ("This sentence, please, in French", None),
        ("Name the largest cake in the world.", None),
        ("Theorise about the origin of cakes", None),
        ("Unwanted guests: the list is long", None),
        ("How to bake bread at home.", "how to"),
        ("how you bake bread at home", "how to"),
        ("How I got my first job.", "how to"),
        ("How to bake bread at home?", None),
        ("How do bakers bake bread", None),
        ("Howto guides are which kind of text", None),
        ("Explain how to bake bread at home.", None),
    ],
)
def test_a_statement_asks_for_nothing(text: str, expected: str | None) -> None:
    assert INSTRUCTION_FILTERS["asks for nothing"](text, CONFIG) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Let's write a poem about the sea",
        "Your task is to summarise the text below",
        "What's the capital of France",
    ],
)
def test_a_request_that_opens_like_a_statement_still_asks(text: str) -> None:
    assert INSTRUCTION_FILTERS["asks for nothing"](text, CONFIG) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Decide which is cheaper, cheaper, cheaper.", "cheaper"),
        ("Name a big Big BIG thing.", "big"),
        ("Name a big big thing.", None),
        ("Name a big thing, a big one, a big one.", None),
        ("Say that that that is right.", "that"),
        ("Explain catcat cat cat to me", None),  # of a longer word's end it is no repetition
        ("Explain cat cat category to me", None),
        ("Tell the three: 1 1 1", "1"),
    ],
)
def test_a_word_three_times_in_a_row_repeats_itself(text: str, expected: str | None) -> None:
    assert INSTRUCTION_FILTERS["repeats itself"](text, CONFIG) == expected


def test_every_built_in_seed_passes_every_instruction_filter() -> None:
    config = InstructionsConfig(min_words=3)
    faults = {t.instruction: f for t in load_seeds(None).tasks if (f := instruction_fault(t.instruction, config))}
    assert faults == {}


@given(st.text())
def test_the_first_rule_that_applies_is_named_and_no_text_crashes_a_filter(text: str) -> None:
    found = {name: detail for name, rule in INSTRUCTION_FILTERS.items() if (detail := rule(text, CONFIG)) is not None}
    assert instruction_fault(text, CONFIG) == (next(iter(found.items())) if found else None)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (Pair("", "an answer"), None),
        (Pair("text", "an answer"), None),
        (Pair("text", ""), ("empty output", "")),
        (Pair("text", " \n"), ("empty output", "")),
        (Pair("", ""), ("empty output", "")),
        (Pair("same", "same"), ("output is the input", "")),
        (Pair("same ", "\nsame"), ("output is the input", "")),
        (Pair("same", "Same"), None),
        (Pair("as follows:", "yes"), ("ends in a colon", "input")),
        (Pair("as follows: ", "yes"), ("ends in a colon", "input")),
        (Pair("text", "as follows:"), ("ends in a colon", "output")),
        (Pair("text", "as follows:\n"), ("ends in a colon", "output")),
        (Pair("a: b", "c: d"), None),
        (Pair("text", "at 10:30"), None),
    ],
)
def test_pairs_are_dropped_by_self_instructs_rules(pair: Pair, expected: tuple[str, str] | None) -> None:
    assert pair_fault(pair, "Do it", "Do it", [], Topics([])) == expected


RUST = task("What is rust?", output="Rust is the flaky coating that forms when iron reacts with water.")
LIST = task("Name the ingredients.", "Whisk two eggs with a cup of milk.", "eggs, milk, flour")


@given(st.text(), st.text(), st.text())
def test_no_pair_crashes_a_filter(input: str, output: str, instruction: str) -> None:
    fault = pair_fault(Pair(input, output), instruction, instruction, [RUST, LIST], Topics([RUST, LIST]))
    assert fault is None or fault[0] in {*PAIR_FILTERS, HOLLOW, COPIED, TOPIC}


@pytest.mark.parametrize(
    ("instruction", "input", "given"),
    [
        ("Summarise the following text.", "", "the following text"),
        ("Summarise the following text.", "Once there was a king.", None),
        ("Write a poem about the sea.", "", None),
    ],
)
def test_a_pair_without_the_input_that_its_instruction_points_at_is_hollow(
    instruction: str, input: str, given: str | None
) -> None:
    fault = pair_fault(Pair(input, "A king was there."), instruction, instruction, [], Topics([]))
    assert (fault and fault[0]) == (None if given is None else HOLLOW)
    assert fault is None or fault[1].lower() in instruction.lower()


def test_a_pair_that_copies_a_demonstration_is_told_with_what_it_copies() -> None:
    assert pair_fault(Pair("", RUST.output), "Tell a joke.", "Tell a joke.", [RUST], Topics([RUST])) == (
        COPIED,
        RUST.output,
    )
    assert pair_fault(Pair("", RUST.output), "Tell a joke.", "Tell a joke.", [LIST], Topics([RUST, LIST])) is None


# -- topics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "asked", "words"),
    [
        ("A flaky coating is bad for cars.", "Tell me about cars.", ["coating", "flaky"]),
        ("A flaky pastry is good.", "Tell me about bread.", None),  # one word may be chance
        ("A flaky coating is bad for cars.", "Which coating is flaky?", None),  # it was asked about
        ("Coatings of irons", "Tell me about cars.", ["coating", "iron"]),  # a plural is its singular
        ("FLAKY COATING", "Tell me about cars.", ["coating", "flaky"]),
    ],
)
def test_a_topic_is_taken_over_by_two_of_a_demonstrations_own_words(
    output: str, asked: str, words: list[str] | None
) -> None:
    fault = pair_fault(Pair("", output), asked, asked, [RUST], Topics([RUST, LIST]))
    assert fault == (None if words is None else (TOPIC, ", ".join(words)))


def test_the_topic_of_a_task_that_was_not_shown_is_free() -> None:
    assert (
        pair_fault(Pair("", "A flaky coating."), "Name a thing.", "Name a thing.", [LIST], Topics([RUST, LIST])) is None
    )


def test_a_topic_in_the_input_is_taken_over_too() -> None:
    fault = pair_fault(
        Pair("This coating is flaky.", "yes, indeed"), "Is it good?", "Is it good?", [RUST], Topics([RUST, LIST])
    )
    assert fault == (TOPIC, "coating, flaky")


def test_a_word_of_many_seed_tasks_is_nobodys_own() -> None:
    others = [task(f"Tell {i}", output="A coating, and it is flaky.") for i in range(3)]
    assert Topics([RUST]).taken_over("flaky coating", "", [RUST]) == ["coating", "flaky"]
    assert Topics([RUST, *others]).taken_over("flaky coating", "", [RUST]) == []


@given(st.text(), st.text())
def test_what_was_asked_for_is_never_taken_over(output: str, asked: str) -> None:
    topics = Topics([RUST, LIST])
    taken = topics.taken_over(output, asked, [RUST, LIST])
    assert taken == sorted(taken)
    assert not set(taken) & content_words(asked)
    assert set(taken) <= content_words(output)
    assert topics.taken_over(output, f"{asked}\n{output}", [RUST, LIST]) == []
    assert topics.taken_over(output, asked, []) == []


def test_words_about_nothing_are_no_topic() -> None:
    assert content_words("Would there be something about these rivers of glass, 2000 of them, by cat?") == {
        "river",
        "glass",
    }


# -- copies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "instruction", "copied"),
    [
        (Pair("", "Rust is the flaky coating that forms when iron reacts with water."), "Tell a joke.", RUST.output),
        (Pair("", "RUST is a flaky coating that forms when iron reacts"), "Tell a joke.", RUST.output),
        (Pair("", "A joke: the flaky coating that forms on my old father's good shoes."), "Tell a joke.", None),
        (Pair("", "Iron reacts with air, and water reacts too."), "Tell a joke.", None),
        (Pair("", "What is rust?"), "Ask something.", RUST.instruction),
        (Pair("", "What is rust?"), 'Say "What is rust?" in French.', None),
        (Pair("", "Eggs, milk, flour, fruit"), "Write a list.", LIST.output),
        (Pair("", "Eggs, milk, flour, and then much more of all that you like"), "Write a list.", None),
        (Pair("Whisk two eggs with a cup of cream.", "one"), "Count.", LIST.input),
        (Pair("", "milk"), "Name a drink.", None),
        (Pair("", ""), "Say nothing.", None),
    ],
)
def test_what_repeats_a_demonstration_is_a_copy(pair: Pair, instruction: str, copied: str | None) -> None:
    assert copied_demonstration(pair, instruction, [RUST, LIST]) == copied


def test_no_pair_by_a_person_is_a_copy_of_another() -> None:
    tasks = load_seeds(None).tasks
    for one in tasks:
        others = [t for t in tasks if t is not one]
        assert copied_demonstration(Pair(one.input, one.output), one.instruction, others) is None, one


@given(st.text(), st.text())
def test_no_pair_is_a_copy_where_nothing_is_shown(input: str, output: str) -> None:
    assert copied_demonstration(Pair(input, output), "", []) is None
    assert copied_demonstration(Pair(input, output), "", [task("", output="")]) is None


def test_the_words_that_a_pair_was_asked_to_have_are_neither_copied_nor_a_topic() -> None:
    pair, shown = Pair("Whisk two eggs with a large spoon, slowly and for long.", "no"), [LIST]
    assert pair_fault(pair, "Is it safe?", "Is it safe? Whisk two eggs with", shown, Topics(shown)) is None
    fault = pair_fault(pair, "Is it safe?", "Is it safe?", shown, Topics(shown))
    assert fault is not None
    assert fault[0] == TOPIC


CHINESE, RUSSIAN, THAI, HINDI, GERMAN = (Language(code) for code in ("zh", "ru", "th", "hi", "de"))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("写一首关于雨的诗。", CHINESE),
        ("解释Python的历史。", CHINESE),
        ("“春风又绿江南岸”的作者是谁？", CHINESE),
        ("この文章を要約してください。", Language("ja")),
        ("เขียนบทกวีเกี่ยวกับฝน", THAI),
        ("बारिश पर एक कविता लिखो।", HINDI),
        ("اكتب قصيدة قصيرة عن المطر", Language("ar")),
        ("Напиши короткий стих о дожде.", RUSSIAN),
        ("¿Cuál es la capital de Francia?", Language("es")),
        ("Élargis ce court texte.", Language("fr")),
        ("In this Haus wohnt wer?", GERMAN),  # opens as an English statement does
        ("Die Map der Images ist was?", GERMAN),
    ],
)
def test_good_instructions_of_any_language_pass(text: str, language: Language) -> None:
    assert instruction_fault(text, CONFIG, language) is None


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("写诗。", CHINESE, "too short"),
        ("写一首关于雨的诗。" * 40, CHINESE, "too long"),
        ("เขียนบทกวี", THAI, "too short"),
        ("हिन्दी में लिखो", HINDI, "too short"),
        ("，写一首关于雨的诗。", CHINESE, "starts oddly"),
        ("说说哪个更便宜，便宜，便宜，便宜。", CHINESE, "repeats itself"),
        ("Напиши короткий стих о дожде.", ENGLISH, "in another script"),
        ("Python 的历史 怎么样 请 解释 一下", ENGLISH, "in another script"),
        ('Translate "Напиши стих" into English, please.', ENGLISH, None),
        ("Éliminate the odd word out.", ENGLISH, None),
    ],
)
def test_faults_of_any_language_are_found(text: str, language: Language, expected: str | None) -> None:
    fault = instruction_fault(text, CONFIG, language)
    assert (fault and fault[0]) == expected


def test_a_colon_of_full_width_is_one() -> None:
    assert PAIR_FILTERS["ends in a colon"](Pair("", "答案如下：")) == "output"


def test_a_copied_passage_is_told_from_a_label_where_words_have_no_spaces() -> None:
    poem = "春眠不觉晓，处处闻啼鸟。"
    shown = [task("判断这封邮件的类别。", "恭喜您中了大奖！", "垃圾邮件"), task("写一首诗。", "", poem)]
    assert copied_demonstration(Pair("您好", "垃圾邮件"), "这封邮件是什么？", shown, CHINESE) is None
    assert copied_demonstration(Pair("", "春眠不觉晓，处处有歌声"), "写诗", shown, CHINESE) == poem


def test_rules_of_english_words_are_not_asked_of_pairs_in_other_languages() -> None:
    pair, topics = Pair("", "Ein kurzer Text"), Topics([])
    assert pair_fault(pair, "Summarise the passage above.", "", [], topics) is not None
    assert pair_fault(pair, "Summarise the passage above.", "", [], topics, GERMAN) is None
