"""Where completions end: at the end token, at a stop string, at the longest."""

from __future__ import annotations

from typing import Any

import pytest
from engine_cases import ENGINES, FREE, GREEDY, PREFIX, PROMPTS, EnginePair, Made, copies, written

from refine_af.engines.base import Engine, Stop
from refine_af.engines.ending import Ending


def test_the_end_token_is_in_the_ids_and_not_in_the_text(engine: Engine, reference: tuple[Any, Any]) -> None:
    _, tokenizer = reference
    completions = written(engine, copies(32), FREE.model_copy(update={"max_tokens": 60}), seed=0)
    ended = [c for c in completions if c.ended]
    assert len(ended) > 16
    for completion in completions:
        last = tokenizer.eos_token_id in completion.token_ids
        assert completion.ended == last
        assert tokenizer.eos_token_id not in completion.token_ids[:-1]
        assert "</s>" not in completion.text
        assert tokenizer.decode(completion.token_ids[: -1 if last else None]) == completion.text


@pytest.mark.parametrize("longest", [1, 5])
def test_no_completion_is_longer_than_max_tokens(longest: int, engine: Engine) -> None:
    completions = written(engine, copies(16), FREE.model_copy(update={"max_tokens": longest}), seed=0)
    assert max(len(c.token_ids) for c in completions) == longest
    assert all(len(c.token_ids) == longest for c in completions if not c.ended)


def test_a_stop_string_cuts_the_text_before_it_and_ends_it(engine: Engine) -> None:
    free = written(engine, PROMPTS, GREEDY, seed=0)
    stops = tuple(word for c in free for word in c.text.split()[3:4])[:2]
    expected = [Stop(stops).cut(c.text) for c in free]
    assert any(found for _, found in expected)
    made = written(engine, PROMPTS, GREEDY, seed=0, stop=Stop(stops))
    assert [c.text for c in made] == [text for text, _ in expected]
    assert [c.ended for c in made] == [found or c.ended for (_, found), c in zip(expected, free, strict=True)]


def test_the_ids_of_a_stopped_completion_are_those_that_were_sampled(
    engine: Engine, reference: tuple[Any, Any]
) -> None:
    """The policy learns from these ids: an end token that only pads a batch must not be among them."""
    _, tokenizer = reference
    free = written(engine, PROMPTS, GREEDY, seed=0)
    stops = tuple(word for c in free for word in c.text.split()[3:4])[:2]
    for unstopped, stopped in zip(free, written(engine, PROMPTS, GREEDY, seed=0, stop=Stop(stops)), strict=True):
        assert stopped.token_ids == unstopped.token_ids[: len(stopped.token_ids)]
        shorter = tokenizer.decode(stopped.token_ids[:-1])
        assert not any(s in shorter for s in stops), "nothing was sampled after the stop string"


def test_a_stop_string_of_several_tokens_is_found(engine: Engine) -> None:
    free = written(engine, PROMPTS, GREEDY, seed=0)
    long = next(c for c in free if len(c.text.split()) > 6)
    stop = Stop((" ".join(long.text.split(" ")[3:6]),))
    stopped = written(engine, PROMPTS, GREEDY, seed=0, stop=stop)[free.index(long)]
    assert stopped.text == stop.cut(long.text)[0]
    assert stopped.ended


def test_both_engines_stop_at_the_same_token(both: EnginePair) -> None:
    stops = tuple(word for c in written(both[0], PROMPTS, GREEDY, seed=0) for word in c.text.split()[3:4])[:2]
    one, other = (written(e, PROMPTS, GREEDY, seed=0, stop=Stop(stops)) for e in both)
    assert one == other


@pytest.mark.parametrize("name", ENGINES)
def test_a_string_that_counts_after_text_ends_a_row_there_and_no_other(name: str, made: Made) -> None:
    """As a newline ends a first line: not before the answer has begun."""
    engine = made(name).initial_engine
    free = written(engine, PROMPTS, GREEDY, seed=0)
    stop = Stop(after_text=" ")
    expected = [stop.cut(c.text) for c in free]
    assert sum(found for _, found in expected) > len(expected) / 2
    for made_one in (written(engine, PROMPTS, GREEDY, seed=0, stop=stop), *engine.answers([_whole()], 24, stop)):
        assert [c.text for c in made_one] == [text for text, _ in expected]
        for one, unstopped in zip(made_one, free, strict=True):
            assert one.token_ids == unstopped.token_ids[: len(one.token_ids)]
        assert sum(len(c.token_ids) for c in made_one) < sum(len(c.token_ids) for c in free) / 2


def _whole() -> list[str]:
    return [PREFIX + suffix for suffix in PROMPTS.suffixes]


@pytest.mark.parametrize(
    ("stop", "text", "expected"),
    [
        (Stop(("c", "b")), "a b c", ("a ", True)),
        (Stop(("x",)), "a b c", ("a b c", False)),
        (Stop(), "a b c", ("a b c", False)),
        (Stop(after_text="\n"), "\n \n a \nb", ("\n \n a ", True)),
        (Stop(after_text="\n"), " \n\n", (" \n\n", False)),
        (Stop(after_text="\n\n"), "\n\na\nb\n\nc", ("\n\na\nb", True)),
        (Stop(("b",), "\n"), "a b\n", ("a ", True)),
        (Stop(("b",), "\n"), "b", ("", True)),
    ],
)
def test_what_comes_first_ends_a_text(stop: Stop, text: str, expected: tuple[str, bool]) -> None:
    assert stop.cut(text) == expected


def test_a_row_is_decoded_only_where_it_may_end(reference: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, tokenizer = reference
    ids = tokenizer.encode(" cold blue water in the garden")
    ending = Ending(tokenizer, Stop(("gard",)))
    assert [n for n in range(1, len(ids) + 1) if ending.is_reached(ids[:n])] == [
        n for n in range(1, len(ids) + 1) if "gard" in tokenizer.decode(ids[:n])
    ]
    decode, decoded = tokenizer.decode, []
    monkeypatch.setattr(tokenizer, "decode", lambda row, **more: decoded.append(len(row)) or decode(row, **more))
    assert not Ending(tokenizer, Stop(("\n",))).is_reached(ids)
    assert decoded == [1]
