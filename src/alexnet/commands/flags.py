"""The arguments of a command: what its dataclass says of them, and the words of a command line as
their values. Standard library only.

A field is a flag; the comment above it is its help text.
"""

import argparse
import ast
import contextlib
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from alexnet.errors import InputError
from alexnet.recipes import Recipe, nearest_name
from alexnet.values import Between, checked

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
        words = [get_args(one) for one in alternatives(self.hint) if get_origin(one) is Literal]
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


def alternatives(hint: Any) -> list[Any]:
    """The types of which a value has one, without their annotations."""
    hint = plain(hint)
    union = get_origin(hint) in (Union, UnionType)
    return [plain(one) for one in get_args(hint)] if union else [hint]


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
        beside = getattr(hint, "__metadata__", ())
        about = next((one for one in beside if isinstance(one, Arg)), Arg())
        if rest := tuple(one for one in beside if one is not about):
            hint = Annotated[(plain(hint), *rest)]
        elif beside:
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
    for one in alternatives(hint):
        if get_origin(one) is Literal:
            for word in get_args(one):
                if str(word) == text:
                    return word
        elif one in (int, float):
            with contextlib.suppress(ValueError):
                return one(text)
    return text


def add_argument(parser: argparse.ArgumentParser, flag: Flag, typed: str = "") -> argparse.Action:
    """A flag as one of argparse's; `typed` is the command line that it will read, on which depends
    whether it takes one word or several numbers."""
    numbers = max(
        len(get_args(one)) * (get_origin(one) is tuple) for one in alternatives(flag.hint)
    )
    more: dict[str, Any] = {}
    if flag.is_switch:
        more["action"] = argparse.BooleanOptionalAction
    elif flag.about.positional:  # what is missing, `checked_arguments` says
        more["metavar"] = flag.switch
        more |= {"nargs": "*", "default": []} if flag.many else {"nargs": "?"}
    elif flag.about.again:
        more["action"] = "append"
    elif flag.many:
        more["nargs"] = "+"
    elif numbers and not re.search(rf"{flag.switch}[ =]({'|'.join(flag.choices)})( |$)", typed):
        more |= {"nargs": numbers, "type": partial(value_of, hint=float)}
    else:
        more["type"] = partial(value_of, hint=flag.hint)
    if not flag.about.positional:
        more["dest"] = flag.field
    name = flag.field if flag.about.positional else flag.switch
    return parser.add_argument(name, help=flag.text.replace("%", "%%"), **more)


def parser_of(known: Iterable[Flag], typed: str = "") -> argparse.ArgumentParser:
    """What reads these arguments and no others; what is not given has no value."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
    )
    parser._negative_number_matcher = NUMBER  # its own knows neither -1e-3 nor -inf
    for one in known:
        add_argument(parser, one, typed)
    return parser


def read(known: Sequence[Flag], words: Sequence[str], command: str) -> dict[str, Any]:
    """Values by field, of the words behind a command.

    Raises:
        InputError: an unknown flag, one without its value, a word too many.
    """
    until = words.index("--") if "--" in words else len(words)
    typed = [
        re.sub("^--[^=]*", lambda name: name[0].replace("_", "-"), one) for one in words[:until]
    ]
    switches = [one for one in known if not one.about.positional]
    places = [one for one in known if one.about.positional]
    try:
        found, others = parser_of(switches, " ".join(typed)).parse_known_args(typed)
    except argparse.ArgumentError as error:
        raise wrong_value(switches, str(error.argument_name), command) from None
    for one in others:
        if one.startswith("-") and one != "-" and not NUMBER.match(one):
            raise no_flag(switches, one.partition("=")[0], command)
    # apart, since argparse forgets what stands between flags, or behind `--`, until Python 3.13
    behind = [*others, *words[until + 1 :]]
    found, others = parser_of(places).parse_known_args(["--", *behind], found)
    if surplus := [one for one in others if one != "--"]:
        usage = " ".join(["alexnet", command, *(one.call for one in places)])
        raise InputError(f"there is a word too many: {surplus[0]!r}.", f"Expected: {usage}")
    return vars(found)


def wrong_value(switches: Sequence[Flag], name: str, command: str) -> InputError:
    """The error of a flag that has a value and takes none, or the other way round. `name` is
    argparse's."""
    [flag] = [one for one in switches if one.switch == name.partition("/")[0]]
    if flag.is_switch:
        return InputError(f"{flag.switch} takes no value.", f"Its opposite: {flag.call}")
    return InputError(
        f"{flag.switch} needs a value: {flag.call}",
        f"`alexnet {command} --help` explains {flag.switch}.",
    )


def no_flag(switches: Sequence[Flag], name: str, command: str) -> InputError:
    """The error of a flag that a command has not."""
    known = [one.switch[2:] for one in switches]
    known += [f"no-{one.switch[2:]}" for one in switches if one.is_switch]
    close = nearest_name(name.lstrip("-"), known)
    hint = f"Did you mean '--{close}'? " if close else ""
    return InputError(
        f"`alexnet {command}` has no flag {name}.", f"{hint}`alexnet {command} --help` lists them."
    )


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
    except InputError as error:
        raise InputError(
            error.message, error.hint or f"`alexnet {command} --help` explains it."
        ) from error


# -- help ------------------------------------------------------------------------------------------


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, without its full stop."""
    first = " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\.(?: |$)", first)[0]


def help_page(
    command: str,
    cls: type,
    known: Sequence[Flag],
    width: int,
    *,
    short: frozenset[str] | None = None,
    note: str = "",
) -> str:
    """What a command says of itself.

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
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    paragraphs = [*(paragraphs[:1] if short else paragraphs), *[note] * bool(note)]
    parser = argparse.ArgumentParser(
        usage=" ".join(["alexnet", command, *words, *["[flags]"] * optional]),
        description="\n\n".join(textwrap.fill(" ".join(one.split()), width) for one in paragraphs),
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=width),
        add_help=False,
    )
    sections: dict[str | None, argparse._ArgumentGroup] = {}
    for one in sorted(known, key=lambda one: not one.about.positional):
        if one in places or short is None or one.field in short:
            title = None if one in places else one.section or "this command"
            if title not in sections:
                sections[title] = parser.add_argument_group(title)
            call, text = entry(one, width, brief=bool(short))
            text = text.replace("%", "%%")
            if one in places:
                sections[title].add_argument(one.field, metavar=call, help=text)
            else:  # its value is part of its name, since argparse would write it otherwise
                sections[title].add_argument(call, action="store_true", help=text)
    page = parser.format_help().rstrip()
    return re.sub(r"\n\n(?=\S.*:\n  )", "\n", page) if short else page


def entry(flag: Flag, width: int, brief: bool = False) -> tuple[str, str]:
    """How an argument is typed, and what is said of it."""
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
    return call, f"{text} [{told}]" if told else text
