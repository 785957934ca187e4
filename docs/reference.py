"""Writes docs/cli.md and docs/api.md from the commands and the public names themselves.

    uv run python docs/reference.py            # write both
    uv run python docs/reference.py --check    # 1 and the difference, where one is out of date

What a command says of itself is the docstring and the comments of its dataclass; what a function
or a class says of itself is its signature, as it stands in the source, and its docstring.
"""

import ast
import dataclasses
import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import tyro

import alexnet
from alexnet.cli import ABOUT, COMMANDS
from alexnet.errors import AlexNetError
from alexnet.recipes import Between, Recipe

HERE = Path(__file__).resolve().parent
WIDTH = 120
WRITTEN = "<!-- Written by docs/reference.py: change what it reads, not this page. -->"


# -- text ------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """Text whose stars and angles are no markup; what stands in backticks is left alone."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(one if one[:1] == "`" else re.sub(r"([*<])", r"\\\1", one) for one in parts)


def wrapped(text: str, first: str = "", then: str = "") -> str:
    """One paragraph, broken at spaces."""
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )


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


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, without its full stop."""
    first = " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\.(?: |$)", first)[0]


# -- classes, as their source says -----------------------------------------------------------------


def class_body(cls: type) -> tuple[list[str], list[ast.stmt]]:
    """The lines of a class, and the statements in it."""
    source = textwrap.dedent(inspect.getsource(cls))
    node = cast(ast.ClassDef, ast.parse(source).body[0])
    return source.splitlines(), node.body


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


# -- the command line ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flag:
    """One argument of a command."""

    call: str  # as it is typed: --lr FLOAT|{auto}
    positional: bool
    default: str  # empty: none that needs words
    required: bool
    facts: tuple[str, ...]  # its range, and whether it may be given again
    help: str
    section: str

    def __str__(self) -> str:
        default = "required" if self.required else self.default
        facts = "; ".join(one for one in (default, *self.facts) if one)
        return item(f"`{self.call}`" + (f" ({escaped(facts)})" if facts else ""), self.help)


def value_text(hint: Any) -> str:
    """How a value of a type is typed on the command line."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
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


def default_text(field: "dataclasses.Field[Any]", told: str) -> str:
    """What holds where nothing is given; `told` is what the help text says of it."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if told or value is dataclasses.MISSING or value in ("", []):
        return told
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def flag_of(field: "dataclasses.Field[Any]", hint: Any, comment: tuple[str, str]) -> Flag:
    """The argument that a field of a command is."""
    plain, about = (
        (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
    )
    told = {"name": field.name, "metavar": "", "help": comment[1]}
    for one in about:  # tyro.conf.arg(...), and what it leaves open is None
        told |= {key: getattr(one, key) for key in told if getattr(one, key, None) is not None}
    if not told["help"]:
        raise SystemExit(f"{field.name} has no comment above it.")
    positional = tyro.conf.Positional in about
    again = tyro.conf.UseAppendAction in about
    metavar = told["metavar"] or value_text(get_args(plain)[0] if again else plain)
    switch = f"--{told['name'].replace('_', '-')}"
    call = metavar if positional else f"{switch} {metavar}"
    if plain is bool:
        call = f"{switch}, --no-{switch[2:]}"
    if positional and get_origin(plain) is list:
        call = f"{metavar} ..."
    in_help = re.search(r"\s*\[default: (.*?)\]", told["help"])
    metadata = [getattr(part, "__metadata__", ()) for part in (hint, *get_args(plain))]
    ranges = [str(one) for part in metadata for one in part if isinstance(one, Between)]
    return Flag(
        call,
        positional,
        default_text(field, in_help[1] if in_help else ""),
        field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        (*ranges, *["may be given several times"] * again),
        told["help"].replace(in_help[0], "") if in_help else told["help"],
        comment[0],
    )


def flags(cls: type) -> list[Flag]:
    """The arguments of a command, or the fields of the recipe, in order."""
    hints, said = get_type_hints(cls, include_extras=True), comments(cls)
    return [
        flag_of(field, hints[field.name], said[field.name])
        for field in dataclasses.fields(cls)
        if not takes_recipe(hints[field.name])
    ]


def takes_recipe(hint: Any) -> bool:
    """Whether a field of a command stands for all fields of the recipe."""
    return hint is Recipe or (get_origin(hint) is Annotated and get_args(hint)[0] is Recipe)


def commands() -> dict[str, type]:
    """Each command line's words and their dataclass."""
    return {words: kind for words, kind in COMMANDS.items() if isinstance(kind, type)}


def with_recipe() -> list[str]:
    """The words of the commands that take every field of the recipe."""
    hints = {words: get_type_hints(kind, include_extras=True) for words, kind in commands().items()}
    return [words for words, of in hints.items() if any(map(takes_recipe, of.values()))]


def command_section(words: str, kind: type) -> Iterator[str]:
    """What the page says of one command."""
    known = flags(kind)
    typed = [one.call for one in known if one.required and not one.positional]
    typed += [one.call if one.required else f"[{one.call}]" for one in known if one.positional]
    yield f"## alexnet {words}"
    optional = any(not (one.required or one.positional) for one in known)
    typed += ["[flags]"] * (optional or words in with_recipe())
    yield f"```text\n{' '.join(['alexnet', words, *typed])}\n```"
    yield from rendered(kind.__doc__)
    listed = [*map(str, sorted(known, key=lambda one: not one.positional))]
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
        yield str(one)


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
        for words, kind in commands().items()
    ]
    blocks.append("\n".join(summary))
    for words, kind in commands().items():
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
    code = 0
    for path, page in ((HERE / "cli.md", cli_page()), (HERE / "api.md", api_page())):
        if "--check" not in arguments:
            path.write_text(page, encoding="utf-8")
            continue
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before != page:
            code = 1
            lines = difflib.unified_diff(
                before.splitlines(), page.splitlines(), str(path), "as it is now", lineterm=""
            )
            print("\n".join(lines))
    if code:
        print("Write the pages again: uv run python docs/reference.py", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
