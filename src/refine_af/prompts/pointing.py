"""The words by which an instruction points at a text that an input would hold: "the passage above", "this joke".

An instruction that points, with nothing to point at, is hollow. The rules are in doubt for the instruction: what could
be answered as it stands isn't hit, so that some that do point are missed. English only; one pass over the words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LONGEST = 10_000  # characters that are read: who has not pointed by then has given the text itself


def points_at(instruction: str) -> str | None:
    """The words that point at something given and not in the instruction, as they stand there; None where none do.

    >>> points_at("Boil the notice down to a single sentence.")
    'the notice'
    >>> points_at("Write a story about a man. The story should be funny.") is None
    True
    """
    instruction = instruction[:_LONGEST]
    if _holds_a_text(instruction):
        return None
    return _Reading(instruction).first_pointer()


def quotes_text(instruction: str) -> bool:
    """Whether it holds a quotation of two words or more, or code: most often what it is about."""
    return bool(_CODE.search(instruction) or _QUOTED.search(instruction))


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What a text is called. The first kind is hardly ever named with "the" unless it is at hand; the second also has
# everyday senses (the table, the code), so that there a verb must tell that it is worked on.
_TEXTS = _set(
    "abstract advert advertisement announcement anecdote argument article biography blurb caption clause comment "
    "conversation dialog dialogue document email essay excerpt extract fable headline hypothesis joke lyric lyrics "
    "message notice paragraph passage phrase poem post premise pronoun proverb quotation quote remark résumé resume "
    "review riddle scenario sentence snippet stanza statement story tale text transcript tweet utterance voicemail"
)
_THINGS = _set(
    "adjective algorithm analogy array bio blank choice code command data description entry equation expression fact "
    "formula fraction function idiom input instruction letter line list log memo name note noun number offer "
    "option pair proposal program prose query question recipe record report request row rule script sequence speech "
    "string table term title value verb word"
)


def _forms(nouns: frozenset[str]) -> dict[str, str]:
    """Singular and plural to the singular."""
    found = {"hypotheses": "hypothesis"}
    for noun in nouns:
        plural = re.sub(r"y$", "ie", noun) if re.search(r"[^aeou]y$", noun) else noun
        plural += "es" if noun.endswith(("x", "ch")) else "s"
        found |= {noun: noun, plural: noun}
    return found


_TEXT, _THING = _forms(_TEXTS), _forms(_THINGS)
_NOUN = _TEXT | _THING


_NUMERAL = _set("two three four five six seven eight nine ten several few")
_MARKED = _set("following given above below provided attached previous preceding aforementioned supplied enclosed")
_COUNTED_OR_MARKED = _MARKED | _NUMERAL
_OF_TIME = _set(
    "day days week weeks month months year years morning evening night afternoon hour hours minute minutes moment time "
    "times date dates season seasons summer winter spring autumn fall century decade weekend monday tuesday wednesday "
    "thursday friday saturday sunday"
)
_NOT_GIVEN = _OF_TIME | _set("order situation situations point name names way rate task")
# What may stand between "the" and the noun; an open list would take in "the longest word" and "the Zimmermann note".
_MODIFIER = _set(
    "news newspaper magazine blog text hotel product movie film book restaurant customer user user's customer's "
    "author's writer's speaker's doctor's tenant's student's job insurance repair diary short long whole "
    "entire encyclopedia "
    "original bracketed underlined english french german spanish italian portuguese chinese japanese russian latin "
    "dutch "
    "informal formal press trip twitter social media python javascript java sql c incomplete scrambled jumbled input "
    "source raw unsorted opening math algebraic mathematical quadratic linear"
)
# Verbs that work on what is at hand.
_WORK = _set(
    "analyse analyze answer arrange assign categorise categorize classify complete compress condense continue copy "
    "convert correct debug decode describe edit evaluate examine expand explain factor fix format identify improve "
    "interpret judge label mark optimise optimize paraphrase parse port proofread punctuate put rate read recast "
    "reduce "
    "refactor "
    "rephrase reverse reword rewrite shorten simplify solve sort split summarise summarize translate transform"
)
_CREATION = _set(
    "write compose create generate draft invent design devise produce craft prepare make develop build construct "
    "implement formulate come tell imagine code"
)
_PROGRAM = re.compile(
    r"\b(?:write|create|implement|design|develop|build|construct|generate|make|code|need|provide|produce)\b[^.?!]{0,80}?"
    r"\b(?:function|program|script|code|class|method|query|regex|regular expression|algorithm|app|application|api|"
    r"parser|module|library|tool|bot|macro|loop|sql|python|java|javascript|html|css|c\+\+)\b"
    r"|\b(?:what|which|how)\b[^.?!]{0,40}\bcode to\b",
    re.IGNORECASE,
)
# To a voice assistant: its lists and messages are no input; nor is an essay that is to have four stars.
_COMMAND = re.compile(
    r"\W*(?:please |can you )*(?:delete|open|send|play|book|set|check|add this|remove|take)\b"
    r"|.*\b(?:stars?|points|out of)\b",
    re.IGNORECASE,
)
# What may follow "the sentence" if nothing in particular is meant by it: "the sentence structure" is no sentence.
_FOLLOWS = _set(
    ". ? ! ; , ) : and or but so if in into to as is are was were has have does do did can "
    "say says mean means contain contains describe describes express expresses belong belongs use uses refer refers "
    "suggest suggests imply implies talk talks make makes sound sounds while keeping changing correctly "
    "grammatically grammatical "
    "more less positive negative true false correct using without down up out aloud carefully again"
)
_FOLLOWS_SENTENCE = _set("for with")
_SENTENCES = _set("sentence text paragraph passage statement phrase")
_SENT_TO = _set("letter email message note request speech")
_REPORTS = _set("report request entry description")
_NARROWS = _set("of that which who whose from about on by a an the you i we they most each at")
_BEHIND = _set("below above provided given following attached")
_ENDS = _set(". ? ! ; , ) : and or in into to as using with without by for")
_SHOWN = _set("described given shown listed provided mentioned stated written quoted specified named presented used")
_BELOW_WHAT = _set(
    "the a an this that these my your his her its our their zero freezing sea ground it average all each"
)
_MENTIONED = _set("described given listed mentioned provided shown specified")
_DEFINITE = _set("the each every these all")
_INDEFINITE = _NUMERAL | _set("a an one some any another your my our no new")
# "This" points by itself: any word but these may stand before the noun.
_NO_MODIFIER = _FOLLOWS | _FOLLOWS_SENTENCE | _set("the a an of on at by from that which will would could time way one")
_DUTY = _set("should must shall needs will ought may")

_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+|\S")
_STOP = frozenset(".?!")


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    start: int
    end: int


_STATES = _set("the a an he she they i we my his her our their it there once someone this it's i'm i've")
_ON_TASK = _set("output outputs answer answers input inputs label labels task result should you your given please want")


class _Reading:
    """The instruction's words, read once from the left."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [_Token(m.group().lower().replace("’", "'"), m.start(), m.end()) for m in _TOKEN.finditer(text)]
        self.is_capitals = text.isupper()
        self.asks_for_code = _PROGRAM.search(text) is not None
        self.is_command = _COMMAND.match(text) is not None
        self.is_problem = sum(token.word.isdigit() for token in self.tokens) > 2  # one in numbers tells a story
        self.has_role = text.lower().startswith("you are ")
        self.introduced: set[str] = set()
        self.created = False  # in this sentence something was asked to be written
        self.created_before = False  # in an earlier one

    def word(self, place: int) -> str:
        return self.tokens[place].word if 0 <= place < len(self.tokens) else "."

    def words(self, start: int, end: int) -> str:
        return self.text[self.tokens[start].start : self.tokens[end].end]

    def first_pointer(self) -> str | None:
        for place in range(len(self.tokens)):
            end = self._pointer(place)
            if end is not None:
                return None if self._tells() else self.words(place, end)
            self._remember(place)
        return None

    def _tells(self) -> bool:
        """Whether a sentence states something of its own, so that it may be the text that is pointed at."""
        sentence: list[str] = []
        for token in [*self.tokens, _Token(".", 0, 0)]:
            if token.word not in _STOP:
                sentence.append(token.word)
                continue
            if len(sentence) > 3 and sentence[0] in _STATES and not any(w in _NOUN or w in _ON_TASK for w in sentence):
                return True
            sentence = []
        return False

    def _remember(self, place: int) -> None:
        word = self.word(place)
        if word in _STOP:
            self.created_before, self.created = self.created_before or self.created, False
        elif word in _CREATION:
            self.created = True
        elif word in _NOUN:
            before = [self.word(place - back) for back in (1, 2, 3)]
            definite = {"the", "this", "these"} & set(before)
            if not definite:
                self.introduced.add(_NOUN[word])

    def _pointer(self, place: int) -> int | None:
        """The place of the last of the words that point from here."""
        word = self.word(place)
        if word in ("the", "this", "these", "both", "each", "following"):
            return self._determined(place)
        if word == "given" and self._opens(place):
            return self._given(place)
        if word in ("below", "above", "here"):
            shown = self.word(place - 1) in _SHOWN or (word == "below" and self.word(place - 1) in _NOUN)
            if shown and not (self.word(place + 1) in _BELOW_WHAT or self.word(place + 1).isdigit()):
                return place
        elif word in _MENTIONED and self.word(place + 1) in _STOP | {",", "and"} and not self.asks_for_code:
            return place if {self.word(place - 2), self.word(place - 3)} & _DEFINITE else None
        elif word == "as" and self.word(place + 1) == "follows" and self.word(place + 2) in _STOP | {":"}:
            return place + 1
        return None

    def _opens(self, place: int) -> bool:
        """Whether "given" begins a sentence, or is what "you are"."""
        before = self.word(place - 1)
        return before in _STOP or (
            before in ("are", "be", "you're") and "you" in (self.word(place - 2), self.word(place - 3))
        )

    def _given(self, place: int) -> int | None:
        if self.word(place + 1) not in _INDEFINITE | {"the"} or self.asks_for_code:
            return None
        for end in range(place + 2, place + 5):
            if self.word(end) in _TEXT:
                return None if self.word(end + 1) == "about" else end
        return None

    def _determined(self, place: int) -> int | None:
        determiner, at = self.word(place), place
        if determiner != "following":
            at += 1
        marked = counted = False
        while at < place + 5 and (self.word(at) in _COUNTED_OR_MARKED or self.word(at).isdigit()):
            marked, counted = marked or self.word(at) in _MARKED, counted or self.word(at) not in _MARKED
            at += 1
        if marked:
            return self._marked(place, at)
        end = self._noun(at, any_word=determiner in ("this", "these"))
        if end is None:
            return None
        noun = _NOUN[self.word(end)]
        if self.word(end + 1) in _BEHIND and self.word(end + 2) in _ENDS:
            return end + 1
        if noun in self.introduced or self.word(end + 1) in _DUTY:
            return None
        if self.text[self.tokens[end].start].isupper() and not self.is_capitals:
            return None  # a title: "the Message"
        if self.is_command and noun not in _SENTENCES:
            return None
        if determiner in ("this", "these"):
            rated = self.word(end + 1) in _INDEFINITE or self.word(end + 1) in ("zero", "out", "gets", "deserves")
            return None if rated or self.word(end + 1).isdigit() else end
        if determiner in ("both", "each") and (self.created or self.created_before):
            return None
        return end if self._bare(place, end, noun, counted=counted) else None

    def _marked(self, place: int, at: int) -> int | None:
        """Behind "the following"."""
        if self.word(at) in _NOT_GIVEN or not self.word(at)[0].isalpha():
            return at - 1 if self.word(at - 1) == "following" and self.word(at) in _STOP | {":"} else None
        named = self._noun(at, any_word=True)
        if self.word(place) == "following" and (named is None or self.word(place - 1) == "and"):
            return None
        if self.word(at - 1) in ("previous", "preceding") and named is None:
            return None
        if self.asks_for_code and self.word(at - 1) in ("given", "provided"):
            return None
        return at if named is None else named

    def _noun(self, at: int, *, any_word: bool) -> int | None:
        """The place of the noun that a few modifiers lead to: the last one of "text message"."""
        for end in range(at, at + 3):
            word = self.word(end)
            if word in _NOUN and (self.word(end + 1) not in _NOUN or self.word(end + 2) == "for"):
                return end
            if not (word in _MODIFIER or word in _NOUN or (any_word and word.isalpha() and word not in _NO_MODIFIER)):
                return None
        return None

    def _bare(self, place: int, end: int, noun: str, *, counted: bool) -> bool:
        """Whether "the sentence" is one at hand."""
        if self.created_before or self.asks_for_code or self.is_problem or (self.created and self.has_role):
            return False
        before, after = self.word(place - 1), self.word(end + 1)
        if self.created and before not in ("for", "of", "from", "to", "about", "on", "using", "with", "in"):
            return False
        if after not in _FOLLOWS and not (after in _FOLLOWS_SENTENCE and noun in _SENTENCES):
            plain = counted and after.isalpha() and after not in _NARROWS
            begun = after == "one" and before == "in" and self.word(place - 2) in _STOP
            titled = after == "a" and before == "give"
            if not (plain or begun or titled or self._about_or_from(end)):
                return False
        if after == "to" and noun in _SENT_TO:
            return False
        if noun == "list" and before == "from":
            return not self.created
        return noun in _TEXTS or counted or before in _WORK or (noun in _REPORTS and end > place + 1)

    def _about_or_from(self, end: int) -> bool:
        """ "What is the article about?", "Translate the text from French to English"."""
        after, then, last = (self.word(end + further) for further in (1, 2, 3))
        return (after == "about" and then in _STOP) or (after == "from" and last in ("to", "into"))


_QUOTED = re.compile(
    r'"[^"\s]+\s[^"]*"|“[^“”\s]+\s[^“”]*”|‘[^‘’\s]+\s[^‘’]*’'
    r"|(?<!\w)'[^'\s]+(?:(?<=\w)'\w[^'\s]*)*\s(?:[^']|(?<=\w)'(?=\w))*'(?!\w)"
)
_CODE = re.compile(r"[`{\[<|_=]|https?:|\d\s*,\s*\d+\s*,|\n\s*\S|\(a\)|\boptions?:", re.IGNORECASE)
_COLON = re.compile(r":(?:\s+(?=\S)|(?=[a-zA-Z]))")
_LABELS = re.compile(r"{0}(?:, {0})*,? or {0}[.?!]?".format(r"[^\s.,?!:]+(?: [^\s.,?!:]+){0,3}?"))
_ANNOUNCES_LABELS = _set("of reply answer answers labels label categories")


def _holds_a_text(instruction: str) -> bool:
    """Whether the text that it may point at stands in the instruction: quoted, behind a colon, as code or lines."""
    text = instruction.strip()
    if quotes_text(text):
        return True
    return any(_announces(text, colon) for colon in _COLON.finditer(text))


def _announces(text: str, colon: re.Match[str]) -> bool:
    """Whether a text follows the colon, and not the labels from which to choose."""
    said = text[colon.end() : colon.end() + 200].split(". ")[0]
    if "following" in text[max(0, colon.start() - 40) : colon.end()].lower():
        return True
    lead = text[max(0, colon.start() - 40) : colon.start()].lower().split()
    if lead and lead[-1] in _ANNOUNCES_LABELS:
        return False
    return not (said[0].islower() and _LABELS.fullmatch(said))
