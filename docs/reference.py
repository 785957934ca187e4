"""Writes docs/cli.md and docs/api.md from the commands and the public names themselves.

    uv run python docs/reference.py            # write both
    uv run python docs/reference.py --check    # 1 and the difference, where one is out of date

What a command says of itself is the docstring and the comments of its dataclass; what a function
or a class says of itself is its signature, as it stands in the source, and its docstring.
"""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pages import WIDTH, wrapped, written

import alexnet
from alexnet.cli import ABOUT, COMMANDS
from alexnet.commands.flags import Flag, class_body, comments, first_sentence, flags, takes_recipe
from alexnet.errors import AlexNetError
from alexnet.recipes import Recipe

HERE = Path(__file__).resolve().parent
WRITTEN = "<!-- Written by docs/reference.py: change what it reads, not this page. -->"


# -- text ------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """Text whose stars and angles are no markup; what stands in backticks is left alone."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(one if one[:1] == "`" else re.sub(r"([*<])", r"\\\1", one) for one in parts)


def item(head: str, text: str) -> str:
    """One entry of a list: what it is about, and what is said of it."""
    return wrapped(f"{head}: {escaped(text)}" if text else head, "- ", "  ")


def rendered(docstring: str | None) -> list[str]:
    """A docstring as paragraphs; what stands under Args, Returns, Yields and Raises as lists."""
    blocks: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring or "")):
        head, _, body = block.partition("\n")
        section = re.fullmatch(r"(Args|Returns|Yields|Raises):\s*(.*)", head)
        if not section:
            blocks.append(code_or_words(block))
            continue
        blocks.append(f"**{section[1]}**")
        inside = f"{section[2]}\n{textwrap.dedent(body)}".strip()
        if section[1] not in ("Args", "Raises"):
            blocks.append(wrapped(escaped(inside)))
            continue
        # several errors may stand in one paragraph, each behind a full stop
        between = r"\n(?!\s)" if section[1] == "Args" else r"(?<=\.)\s+(?=[A-Z]\w+: )"
        named = [one.partition(": ") for one in re.split(between, inside)]
        blocks.append("\n".join(item(f"`{name}`", text) for name, _, text in named))
    return [one for one in blocks if one]


def code_or_words(block: str) -> str:
    """A paragraph of a docstring: lines that are indented or are Python stay as they are."""
    lines = block.splitlines()
    if all(line.startswith(" ") for line in lines):
        return f"```text\n{textwrap.dedent(block)}\n```" if lines else ""
    try:
        ast.parse(block if len(lines) > 1 else "a sentence")
    except SyntaxError:
        return wrapped(escaped(block))
    return f"```python\n{block}\n```"


# -- the command line ------------------------------------------------------------------------------


def told(flag: Flag) -> str:
    """One entry of the list of arguments."""
    default = "required" if flag.default is dataclasses.MISSING else flag.default_text
    again = ["may be given several times"] * flag.about.again
    facts = "; ".join(one for one in (default, *flag.ranges, *again) if one)
    if not flag.text:
        raise SystemExit(f"{flag.field} has no comment above it.")
    return item(f"`{flag.call}`" + (f" ({escaped(facts)})" if facts else ""), flag.text)


def with_recipe() -> list[str]:
    """The words of the commands that take every field of the recipe."""
    return [words for words, kind in COMMANDS.items() if takes_recipe(kind)]


def command_section(words: str, kind: type) -> Iterator[str]:
    """What the page says of one command."""
    known = flags(kind)
    required = [one for one in known if one.default is dataclasses.MISSING]
    places = [one for one in known if one.about.positional]
    typed = [one.call for one in required if one not in places]
    typed += [one.call if one in required else f"[{one.call}]" for one in places]
    yield f"## alexnet {words}"
    optional = any(one not in required and one not in places for one in known)
    typed += ["[flags]"] * (optional or words in with_recipe())
    yield f"```text\n{' '.join(['alexnet', words, *typed])}\n```"
    yield from rendered(kind.__doc__)
    listed = [told(one) for one in sorted(known, key=lambda one: not one.about.positional)]
    if words in with_recipe():
        listed.append("- and every [field of the recipe](#fields-of-the-recipe).")
    if listed:
        yield "\n".join(listed)


def recipe_section() -> Iterator[str]:
    """What the page says of the fields of the recipe."""
    takers = " and ".join(f"`alexnet {words}`" for words in with_recipe())
    yield "## Fields of the recipe"
    yield wrapped(
        f"Flags of {takers}, and in Python the fields of `alexnet.Recipe`, with underscores: "
        "`--batch-size 64` is `Recipe(batch_size=64)`. The values here are those of `Recipe()`; a "
        "command starts from the recipe that it is given, or that suits the data, whose values "
        "`alexnet recipes NAME` shows."
    )
    section = ""
    for one in flags(Recipe):
        if one.section != section:
            section = one.section
            yield f"### {section[0].upper()}{section[1:]}"
        yield told(one)


def exit_codes() -> Iterator[str]:
    """Each exit code, and when it comes."""
    found: dict[int, list[str]] = {0: ["it went well"]}
    known: list[type[AlexNetError]] = [AlexNetError, *subclasses(AlexNetError)]
    for cls in known:
        found.setdefault(cls.exit_code, []).append(f"`{cls.__name__}`")
    for code, names in sorted(found.items()):
        yield item(f"`{code}`", ", ".join(names))


def cli_page() -> str:
    """docs/cli.md"""
    blocks = [
        "# The command line",
        WRITTEN,
        ABOUT,
        "`alexnet COMMAND --help` says what this page says.",
    ]
    summary = [
        item(
            f"[`alexnet {words}`](#alexnet-{words.replace(' ', '-')})", first_sentence(kind.__doc__)
        )
        for words, kind in COMMANDS.items()
    ]
    blocks.append("\n".join(summary))
    for words, kind in COMMANDS.items():
        blocks += command_section(words, kind)
    blocks += joined_items(recipe_section())
    blocks += ["## Exit codes", "\n".join(exit_codes())]
    blocks.append(
        "Flags that cannot be parsed end with 2, too. What each error means stands in "
        "[api.md](api.md#alexnetalexneterror)."
    )
    return "\n\n".join(blocks) + "\n"


def joined_items(blocks: Iterable[str]) -> list[str]:
    """Blocks, with entries that follow each other as one list."""
    found: list[str] = []
    for block in blocks:
        if found and block.startswith("- ") and found[-1].startswith("- "):
            found[-1] += f"\n{block}"
        else:
            found.append(block)
    return found


# -- Python ----------------------------------------------------------------------------------------


def subclasses(cls: type[AlexNetError]) -> Iterator[type[AlexNetError]]:
    """All classes of `alexnet.errors` below one, each before its own; those that other modules
    have for themselves are known only once these are imported."""
    for one in cls.__subclasses__():
        if one.__module__ == cls.__module__:
            yield one
            yield from subclasses(one)


def definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """A function as its source has it."""
    return cast(ast.FunctionDef, ast.parse(textwrap.dedent(inspect.getsource(function))).body[0])


def signature(name: str, node: ast.FunctionDef) -> str:
    """A call of a function, with types and defaults, as code."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(plain) - len(given.defaults)), *given.defaults]
    pairs = list(zip(plain, defaults, strict=True))
    words = [parameter(*pair) for pair in pairs if pair[0].arg not in ("self", "cls")]
    if given.vararg:
        words.append(f"*{ast.unparse(given.vararg)}")
    elif given.kwonlyargs:
        words.append("*")
    words += map(parameter, given.kwonlyargs, given.kw_defaults)
    if given.kwarg:
        words.append(f"**{ast.unparse(given.kwarg)}")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{name}({', '.join(words)}){returns}"
    if len(line) > WIDTH - 20:
        line = f"{name}(\n    " + ",\n    ".join(words) + f",\n){returns}"
    return f"```python\n{line}\n```"


def parameter(arg: ast.arg, default: ast.expr | None) -> str:
    """One parameter with its type and default."""
    return ast.unparse(arg) + (f" = {ast.unparse(default)}" if default else "")


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class that are ours, in the order of the source."""
    seen = set()
    for base in cls.__mro__:
        if base.__module__.startswith("alexnet"):
            for name, one in vars(base).items():
                callable_one = isinstance(
                    one, property | classmethod | staticmethod
                ) or inspect.isfunction(one)
                if callable_one and not name.startswith("_") and name not in seen:
                    seen.add(name)
                    yield name, one


def error_item(cls: type[AlexNetError]) -> str:
    """What the page says of one kind of error."""
    above = cls.__bases__[0].__name__
    return item(f"`{cls.__name__}` (under `{above}`, exit code {cls.exit_code})", cls.__doc__ or "")


def class_section(name: str, cls: type) -> Iterator[str]:
    """What the page says of a class."""
    if "__init__" in vars(cls) and not dataclasses.is_dataclass(cls):
        yield signature(name, definition(vars(cls)["__init__"])).replace(" -> None", "")
    yield from rendered(cls.__doc__)
    said = comments(cls)
    if cls is Recipe:
        yield "Its fields and their ranges: [Fields of the recipe](cli.md#fields-of-the-recipe)."
    elif said:
        _, body = class_body(cls)
        typed = {ast.unparse(one.target): ast.unparse(one.annotation) for one in body
                 if isinstance(one, ast.AnnAssign)}  # fmt: skip
        yield "\n".join(item(f"`{key}: {typed[key]}`", text) for key, (_, text) in said.items())
    if issubclass(cls, AlexNetError):
        yield "\n".join(map(error_item, subclasses(cls)))
    for key, one in members(cls):
        function = getattr(one, "fget", None) or getattr(one, "__func__", one)
        node = definition(function)
        yield f"### {name}.{key}"
        if isinstance(one, property):
            kind = ast.unparse(node.returns) if node.returns else "Any"
            yield f"```python\n{name}.{key}: {kind}\n```"
        else:
            yield signature(f"{name}.{key}", node)
        yield from rendered(function.__doc__)


def api_section(name: str, value: Any) -> Iterator[str]:
    """What the page says of a public name."""
    yield f"## alexnet.{name}"
    if inspect.isclass(value):
        yield from class_section(name, value)
    elif inspect.isfunction(value):
        yield signature(f"alexnet.{name}", definition(value))
        yield from rendered(value.__doc__)
    elif isinstance(value, Mapping):
        kinds = ", ".join(sorted({type(one).__name__ for one in value.values()}))
        yield f"A dictionary of `{kinds}` by name."
        yield "\n".join(item(f"`{key}`", getattr(one, "summary", "")) for key, one in value.items())
    else:
        yield f"`{value!r}`"


def spoken_of(names: Iterable[str]) -> dict[str, Any]:
    """Our own classes that public names take and give, by name, and other types of ours as
    their source has them."""
    found: dict[str, Any] = {}
    for value in (getattr(alexnet, name) for name in names):
        if isinstance(value, Mapping):
            found |= {type(one).__name__: type(one) for one in value.values()}
        functions = [one for _, one in members(value)] if inspect.isclass(value) else [value]
        for one in functions:
            function = getattr(one, "fget", None) or getattr(one, "__func__", one)
            if inspect.isfunction(function):
                node = definition(function)
                node.body = []
                words = {word.id for word in ast.walk(node) if isinstance(word, ast.Name)}
                found |= {word: meaning(function.__module__, word) for word in words}
    public = [getattr(alexnet, name) for name in names]
    return {
        name: one for name, one in sorted(found.items()) if one is not None and one not in public
    }


def meaning(module: str, word: str) -> Any:
    """What a word in a signature of a module is: a class of ours, the source of another type of
    ours, or None."""
    found = vars(sys.modules[module]).get(word)
    if inspect.isclass(found):
        return found if found.__module__.startswith("alexnet.") else None
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == word:
            return ast.unparse(node)
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("alexnet.")
            and word in [alias.asname or alias.name for alias in node.names]
        ):
            return meaning(str(node.module), word)
    return None


def broken(source: str) -> str:
    """A long union of types, over several lines."""
    if len(source) <= WIDTH - 20:
        return source
    name, _, types = source.partition(" = ")
    return f"{name} = (\n    " + types.replace(" | ", "\n    | ") + "\n)"


def api_page() -> str:
    """docs/api.md"""
    names = list(alexnet.__all__)
    blocks = ["# Python", WRITTEN, *rendered(alexnet.__doc__)]
    for name in names:
        blocks += api_section(name, getattr(alexnet, name))
    others = spoken_of(names)
    blocks.append("## What these take and give")
    sources = [one for one in others.values() if isinstance(one, str)]
    blocks += ["```python\n" + "\n".join(map(broken, sources)) + "\n```"] if sources else []
    for name, cls in others.items():
        if inspect.isclass(cls):
            blocks += [f"### {name}", f"From `{cls.__module__}`.", *class_section(name, cls)]
    return "\n\n".join(blocks) + "\n"


def main(arguments: list[str]) -> int:
    """Writes both pages, or with --check compares them; 1 where one differs."""
    pages = {HERE / "cli.md": cli_page(), HERE / "api.md": api_page()}
    return written(pages, arguments, "reference.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
