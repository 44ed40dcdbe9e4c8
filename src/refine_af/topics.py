"""Which words of a text are a shown task's own, so that a pair that took them over can be told from one that has not.

Passages are easy to recognise. A topic is not: "Rust is a form of steel", where a demonstration was about rust, shares
no phrase with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from refine_af.records import SeedTask

_WORD = re.compile(r"[^\W\d_]{4,}")
_RARE = 0.015  # share of the seed tasks that may have a word which is still a task's own
# Long enough to be counted, and about nothing.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
about above after again against almost along already also although always another anyone anything around away back
because been before being below best better between both came cannot come could didn does doing done down during
each early either else enough even ever every everyone everything first five following four from gave gets give
given gives giving goes going good great hand have having here high however into itself just keep kept know known
last late later least left less like likely little long look looks made make makes making many maybe mean means
might more most much must myself need needs never next nothing often once only onto other others over part perhaps
place please quite rather really right said same says second seem seems several shall should show shown since small
some someone something sometimes soon still such take taken takes taking than that their them themselves then there
these they thing things think this those though three through time together told took toward under until upon used
uses using very want wants week well went were what when where whether which while whole whom whose will with within
without word words work would write written year years your yours yourself
""",
    )
)


def content_words(text: str) -> set[str]:
    """The lower-case words of four letters or more that are about something, plurals as their singulars."""
    return {_singular(w) for w in _WORD.findall(text.lower()) if w not in _FUNCTION_WORDS}


class Topics:
    """What each seed task is about: its content words that few other seed tasks have."""

    def __init__(self, tasks: Sequence[SeedTask]) -> None:
        counts = Counter(word for task in tasks for word in _of_task(task))
        most = max(1, int(_RARE * len(tasks)))
        self._rare = {word for word, count in counts.items() if count <= most}

    def taken_over(self, output: str, asked: str, shown: Iterable[SeedTask]) -> list[str]:
        """Words of the output that are the shown tasks' own, and not of what was ``asked``; in alphabetical order."""
        said = content_words(output) - content_words(asked)
        return sorted(said & {word for task in shown for word in _of_task(task) if word in self._rare})


def _of_task(task: SeedTask) -> set[str]:
    return content_words(f"{task.instruction}\n{task.input}\n{task.output}")


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
