"""The arguments of a command: what its dataclass says of them, and the words of a command line as
their values. Standard library only.

A field is a flag; the comment above it is its help text.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from alexnet.errors import InputError, RecipeError
from alexnet.recipes import EXPLAINED, Between, Recipe, checked, nearest_name

NUMBER = re.compile(r"-\.?\d|-(inf|nan)$")  # a value that begins as a flag does


@dataclass(frozen=True)
class Arg:
    """What an annotation says of an argument besides its type."""

    metavar: str = ""  # what stands for its value
    help: str = ""  # instead of a comment
    name: str = ""  # of the flag, instead of the field's
    positional: bool = False
    again: bool = False  # may be given several times


@dataclass(frozen=True)
class Flag:
    """One argument of a command."""

    field: str
    hint: Any  # the type of its value
    about: Arg
    default: Any  # MISSING: it must be given
    help: str
    section: str  # the heading that it stands under

    @property
    def switch(self) -> str:
        """As it is typed; of a positional one what stands for it."""
        name = self.about.name or self.field
        return self.about.metavar if self.about.positional else f"--{name.replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        """Whether it has no value, but an opposite: --flip, --no-flip."""
        return self.hint is bool

    @property
    def many(self) -> bool:
        """Whether it takes any number of words."""
        return get_origin(self.hint) is list

    @property
    def call(self) -> str:
        """It and its value: --lr FLOAT|{auto}."""
        if self.about.positional:
            return f"{self.switch} ..." if self.many else self.switch
        if self.is_switch:
            return f"{self.switch}, --no-{self.switch[2:]}"
        hint = get_args(self.hint)[0] if self.about.again else self.hint
        return f"{self.switch} {self.about.metavar or value_text(hint)}"

    @property
    def choices(self) -> list[str]:
        """The words that it may be, where they are few."""
        parts = get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else [self.hint]
        words = [get_args(one) for one in parts if get_origin(one) is Literal]
        return [str(word) for some in words for word in some]

    @property
    def default_text(self) -> str:
        """What holds where it is not given; empty where that needs no words."""
        told, value = re.search(r"\[default: (.*?)\]", self.help), self.default
        if told or value is dataclasses.MISSING or value in ("", []):
            return told[1] if told else ""
        if isinstance(value, bool):
            return "on" if value else "off"
        return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    @property
    def text(self) -> str:
        """Its help text, without the default in it."""
        return re.sub(r"\s*\[default: .*?\]", "", self.help)

    @property
    def ranges(self) -> list[str]:
        """What a number must be, in words."""
        metadata = [getattr(part, "__metadata__", ()) for part in (self.hint, *get_args(self.hint))]
        return [str(one) for part in metadata for one in part if isinstance(one, Between)]


def value_text(hint: Any) -> str:
    """How a value of a type is typed on the command line."""
    hint = plain(hint)
    inside = get_args(hint)
    if get_origin(hint) is Literal:
        return f"{{{','.join(map(str, inside))}}}"
    if get_origin(hint) is list:
        return f"{value_text(inside[0])} ..."
    if get_origin(hint) is tuple:
        return " ".join(map(value_text, inside))
    if get_origin(hint) in (Union, UnionType):
        others = [value_text(one) for one in inside if get_origin(one) is not Literal]
        words = [word for one in inside if get_origin(one) is Literal for word in get_args(one)]
        return "|".join([*others, *[f"{{{','.join(map(str, words))}}}"] * bool(words)])
    return "None" if hint in (None, NoneType) else str(hint.__name__).upper()


def plain(hint: Any) -> Any:
    """A type without its annotations."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


# -- what a dataclass says -------------------------------------------------------------------------


def class_body(cls: type) -> tuple[list[str], list[ast.stmt]]:
    """The lines of a class, and the statements in it."""
    source = textwrap.dedent(inspect.getsource(cls))
    node = cast(ast.ClassDef, ast.parse(source).body[0])
    return source.splitlines(), node.body


@cache
def comments(cls: type) -> dict[str, tuple[str, str]]:
    """For each annotated name of a class: the section it stands in ("# -- title --"), and the
    comment above it, or else behind it."""
    lines, body = class_body(cls)
    found, section, last = {}, "", 0
    for node in body:
        above: list[str] = []
        for line in map(str.strip, lines[last : node.lineno - 1]):
            title = re.fullmatch(r"# -- (.+?) -+", line)
            section = title[1] if title else section
            above = (
                [*above, line.removeprefix("#").strip()] if line[:1] == "#" and not title else []
            )
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            behind = lines[last - 1].partition("  # ")[2]
            found[node.target.id] = (section, " ".join(above) or behind)
    return found


def flags(cls: type, told: bool = True) -> list[Flag]:
    """The arguments of a command, or the fields of the recipe, in order. Without `told` they have
    no help texts, and the source is not read."""
    hints = get_type_hints(cls, include_extras=True)
    said = comments(cls) if told else {}
    found = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if plain(hint) is Recipe:
            continue
        about = next((one for one in get_args(hint)[1:] if isinstance(one, Arg)), Arg())
        if any(isinstance(one, Arg) for one in get_args(hint)[1:]):
            hint = plain(hint)
        section, comment = said.get(field.name, ("", ""))
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(Flag(field.name, hint, about, default, about.help or comment, section))
    return found


def takes_recipe(cls: type) -> bool:
    """Whether every field of the recipe is a flag of a command."""
    return Recipe in get_type_hints(cls).values()


# -- words -> values -------------------------------------------------------------------------------


def value_of(text: str, hint: Any) -> Any:
    """A word as a type wants it; as it is where it does not fit, for `recipes.checked` to
    refuse."""
    hint = plain(hint)
    if get_origin(hint) is Literal:
        return next((one for one in get_args(hint) if str(one) == text), text)
    if get_origin(hint) in (Union, UnionType):
        found = (value_of(text, one) for one in get_args(hint))
        return next((one for one in found if not isinstance(one, str)), text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text
    return text


class Words:
    """The words behind a command, read one after the other."""

    def __init__(self, known: Sequence[Flag], words: Sequence[str], command: str) -> None:
        self.command, self.left = command, list(words)
        self.positional = [one for one in known if one.about.positional]
        self.switches: dict[str, tuple[Flag, bool | None]] = {}
        for one in known:
            if one.is_switch:
                self.switches |= {one.switch: (one, True), f"--no-{one.switch[2:]}": (one, False)}
            elif not one.about.positional:
                self.switches[one.switch] = (one, None)
        self.given: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """Values by field.

        Raises:
            InputError: an unknown flag, one without its value, a word too many.
        """
        others: list[str] = []
        while self.left:
            word = self.left.pop(0)
            if word == "--":
                others += self.left
                break
            if self._is_value(word):
                others.append(word)
            else:
                self._flag(word)
        self._place(others)
        return self.given

    @staticmethod
    def _is_value(word: str) -> bool:
        return word == "-" or not word.startswith("-") or bool(NUMBER.match(word))

    def _flag(self, word: str) -> None:
        name, equals, value = word.partition("=")
        name = f"--{name[2:].replace('_', '-')}" if name.startswith("--") else name
        if name not in self.switches:
            raise InputError(
                f"`alexnet {self.command}` has no flag {name}.", self._suggestion(name)
            )
        flag, on = self.switches[name]
        if on is not None:
            if equals:
                raise InputError(f"{name} takes no value.", f"Its opposite: {self._opposite(flag)}")
            self.given[flag.field] = on
            return
        if equals:
            self.left.insert(0, value)
        values = self._values(flag, name, bool(equals))
        if flag.about.again:
            self.given.setdefault(flag.field, []).extend(values)
        elif flag.many or len(values) > 1:
            self.given[flag.field] = values
        else:
            [self.given[flag.field]] = values

    def _suggestion(self, name: str) -> str:
        help_ = f"`alexnet {self.command} --help` lists them."
        close = nearest_name(name.lstrip("-"), [one[2:] for one in self.switches])
        return f"Did you mean '--{close}'? {help_}" if close else help_

    @staticmethod
    def _opposite(flag: Flag) -> str:
        return f"{flag.switch} or --no-{flag.switch[2:]}"

    def _values(self, flag: Flag, name: str, first: bool) -> list[Any]:
        """The words that a flag takes; the first is its value even if it looks like a flag, where
        it was given with an equals sign."""
        inner = get_args(flag.hint)[0] if flag.many else flag.hint
        most = len(self.left) if flag.many and not flag.about.again else self._arity(flag)
        taken: list[str] = []
        while self.left and len(taken) < most and (first or self._is_value(self.left[0])):
            taken.append(self.left.pop(0))
            first = False
        if not taken or (not flag.many and len(taken) < most):
            raise InputError(f"{name} needs a value: {flag.call}", self._about(flag))
        if most == 1 or flag.many:
            return [value_of(one, inner) for one in taken]
        return [value_of(one, float) for one in taken]

    def _arity(self, flag: Flag) -> int:
        """How many words the value of a flag is."""
        parts = get_args(flag.hint) if get_origin(flag.hint) in (Union, UnionType) else [flag.hint]
        if self.left and self.left[0] in flag.choices:
            return 1
        return max(len(get_args(one)) if get_origin(one) is tuple else 1 for one in parts)

    def _about(self, flag: Flag) -> str:
        return f"`alexnet {self.command} --help` explains {flag.switch}."

    def _place(self, words: list[str]) -> None:
        """Positional arguments, in their order."""
        for one in self.positional:
            if one.many:
                self.given[one.field], words = words, []
            elif words:
                self.given[one.field] = words.pop(0)
        if words:
            usage = " ".join(["alexnet", self.command, *(one.call for one in self.positional)])
            raise InputError(f"there is a word too many: {words[0]!r}.", f"Expected: {usage}")


def checked_arguments(known: Sequence[Flag], given: dict[str, Any], command: str) -> dict[str, Any]:
    """Values of the right types and within their ranges.

    Raises:
        InputError: one is missing. RecipeError: one is of another type, or out of range.
    """
    missing = [
        one for one in known if one.default is dataclasses.MISSING and one.field not in given
    ]
    if missing:
        usage = [one.call for one in known if one.about.positional or one in missing]
        raise InputError(
            f"{missing[0].switch} is missing.",
            f"Expected: {' '.join(['alexnet', command, *usage])} "
            f"(`alexnet {command} --help` explains it)",
        )
    hints = {one.field: one.hint for one in known if not one.many}
    try:
        return {
            name: checked(name, value, hints[name]) if name in hints else value
            for name, value in given.items()
        }
    except RecipeError as error:  # of a field that is none of the recipe's
        hint = f"`alexnet {command} --help` explains it."
        raise InputError(error.message, hint if error.hint == EXPLAINED else error.hint) from error


# -- help ------------------------------------------------------------------------------------------


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, without its full stop."""
    first = " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\.(?: |$)", first)[0]


HANGING = 22  # columns before a help text


def help_page(
    command: str,
    cls: type,
    known: Sequence[Flag],
    width: int,
    *,
    short: frozenset[str] | None = None,
    note: str = "",
) -> Iterator[str]:
    """The lines of what a command says of itself.

    Args:
        command: its words.
        cls: its dataclass, whose docstring says what it does.
        known: all its arguments.
        width: columns.
        short: the fields that most need; the others are left out, and of the texts all but the
            first sentence.
        note: what the defaults are.
    """
    required = [one for one in known if one.default is dataclasses.MISSING]
    places = [one for one in known if one.about.positional]
    words = [one.call if one in required else f"[{one.call}]" for one in places]
    words += [one.call for one in required if one not in places]
    optional = len(known) > len(required) + len([one for one in places if one not in required])
    yield " ".join(["usage: alexnet", command, *words, *["[flags]"] * optional])
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    for paragraph in paragraphs[:1] if short else paragraphs:
        yield ""
        yield from textwrap.wrap(" ".join(paragraph.split()), width)
    yield ""
    for one in places:
        yield from entry(one, width, brief=bool(short))
    if note:
        yield from textwrap.wrap(note, width)
    section = None
    for one in known:
        if one in places or (short is not None and one.field not in short):
            continue
        if one.section != section:
            section = one.section
            yield section or "this command"
        yield from entry(one, width, brief=bool(short))


def entry(flag: Flag, width: int, brief: bool = False) -> list[str]:
    """What is said of one argument, beside it or below it."""
    text = flag.text
    facts = [flag.default_text, *flag.ranges, *["may be given several times"] * flag.about.again]
    call = f"--[no-]{flag.switch[2:]}" if flag.is_switch else flag.call
    if brief:
        facts = facts[:1]
        sentence = re.split(r"(?<=[^.])\. ", text)[0]
        clause = re.split(r"[:;] ", sentence)[0]
        text = (sentence if clause.count("(") > clause.count(")") else clause).removesuffix(".")
        if len(call) > width // 2:  # its choices stand in --help-all
            call = f"{flag.switch} ..."
    told = "; ".join(one for one in facts if one)
    return hung(f"  {call}", f"{text} [{told}]" if told else text, width)


def hung(head: str, text: str, width: int, indent: int = HANGING) -> list[str]:
    """A text beside its head, where that is short, else below it."""
    lines = textwrap.wrap(text, max(width - indent - 2, 30), break_long_words=False)
    lines = [" " * (indent + 2) + one for one in lines]
    if len(head) <= indent and lines:
        lines[0] = f"{head:<{indent}}  {lines[0].lstrip()}"
        return lines
    return [head, *lines]
