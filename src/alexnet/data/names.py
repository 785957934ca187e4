"""Names of files and folders: which are nobody's data, and those in archives as safe paths; and of
classes, which are found by both their names.

Every name in an archive passes through `member_paths`, once; what comes out has forward slashes,
no beginning of its own (no root, no drive), and no dots that lead elsewhere.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from alexnet.errors import DataError, did_you_mean

DEEPEST, LONGEST = 64, 4096  # folders above a file, and letters of its path

# what systems and programs leave in folders, in lower case; names that begin with a dot as well
LEFTOVERS = frozenset(
    "__macosx|thumbs.db|ehthumbs.db|desktop.ini|@eadir|#recycle|@recycle|$recycle.bin|recycler|"
    "system volume information|lost+found|__pycache__".split("|")
)

# encodings of names that say nothing about theirs, and the letters that names are made of there
HAN = "\u4e00-\u9fff"
GUESSES = (
    ("gb2312", "GBK", re.compile(f"[{HAN}\u3000-\u3015\uff01-\uff5e]+")),
    ("cp932", "Shift-JIS", re.compile(f"[{HAN}\u3000-\u3015\u3041-\u30fc\uff01-\uff5e]+")),
    ("gbk", "GBK", re.compile(f"[{HAN}\u3000-\u3015\uff01-\uff5e]+")),
    ("cp866", "cp866", re.compile("[\u0410-\u044f\u0401\u0451]{2,}")),
)


def hidden(name: str) -> bool:
    """Whether a name begins with a dot, or is a leftover of a system or a program."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def told_outputs(outputs: Mapping[str, str]) -> str:
    """In words, which folders are what of ours; empty where there are none."""
    told = shortly(f"{path} ({kind})" for path, kind in outputs.items())
    return told and f"what alexnet wrote: {told}"


def member_paths(names: Sequence[str | bytes], fallback: str) -> tuple[list[str], list[str]]:
    """Names in an archive as paths inside it; an empty one where nothing usable is left.

    Args:
        names: bytes where the archive does not say in which encoding.
        fallback: the encoding of bytes that fit no better one.

    Returns:
        The paths in the order of the names, and what there is to say about them.
    """
    texts, notes = _decoded(names, fallback)
    # a name may hold a backslash, but programs of Windows use it between folders
    if 2 * sum("\\" in text for text in texts) > len(texts):
        texts = [text.replace("\\", "/") for text in texts]
    return [text if _PLAIN.match(text) else _safe(text) for text in texts], notes


# no part that is empty or begins with a dot, and no colon
_PLAIN = re.compile(r"(?:[^/.:][^/:]*/)*[^/.:][^/:]*\Z", re.DOTALL)
_DRIVE = re.compile(r"/*(\?/)?[A-Za-z]:(?=/)")


def _safe(text: str) -> str:
    parts: list[str] = []
    for part in _DRIVE.sub("", text, count=1).split("/"):
        if part == "..":
            del parts[-1:]  # never above the archive
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _decoded(names: Sequence[str | bytes], fallback: str) -> tuple[list[str], list[str]]:
    """The names as text. All of an archive come from one program: the encoding is the first that
    fits them together."""
    unsure = [name for name in names if isinstance(name, bytes) and not name.isascii()]
    encoding, told = ("utf-8", "") if not unsure else _encoding(unsure, fallback)
    texts = [
        name.decode(encoding, "replace") if isinstance(name, bytes) else name for name in names
    ]
    if not told:
        return texts, []
    example = unsure[0].decode(encoding, "replace")
    return texts, [
        f"{len(unsure):,} names do not say in which encoding they are and were read as {told}, "
        f"such as {example!r}; if that is wrong, unpack the archive and give the folder"
    ]


def _encoding(names: list[bytes], fallback: str) -> tuple[str, str]:
    """The encoding, and its name for people where it is a guess."""
    whole = b"\n".join(names)
    try:
        whole.decode("utf-8")
        return "utf-8", ""
    except UnicodeDecodeError:
        pass
    for encoding, told, letters in GUESSES:
        try:
            text = whole.decode(encoding)
        except UnicodeDecodeError:
            continue
        foreign = re.findall(r"[^\x00-\x7f]+", text)
        # accented letters of the west stand between plain ones, which would be no such word
        between = re.findall(r"[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z]", text)
        if all(map(letters.fullmatch, foreign)) and 4 * len(between) < len(foreign):
            return encoding, told
    return fallback, fallback


def shortly(names: Iterable[str], most: int = 6) -> str:
    """Some names, sorted."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (", ..." if len(ordered) > most else "")


def spelling(name: str, other: str) -> tuple[str, str]:
    """Two names written so that one sees how they differ: in code points where they look alike."""
    plain = name.isascii() and other.isascii()
    return (repr(name), repr(other)) if plain else (ascii(name), ascii(other))


def find_classes(given: Sequence[str], classes: Sequence[str], names: Sequence[str]) -> list[int]:
    """The labels of classes that are given one by one, or several in a word with commas between;
    errors as in `find_class`."""
    known = {*names, *classes}
    words = [[one] if one in known else one.split(",") for one in given]
    return [find_class(name.strip(), classes, names) for several in words for name in several]


def find_class(word: str, classes: Sequence[str], names: Sequence[str]) -> int:
    """The label of a class, by its identifier in `classes` or its readable name in `names`; an
    identifier comes first.

    Raises:
        DataError: there is no such class, or several have that name.
    """
    if word in classes:
        return classes.index(word)
    found = [label for label, name in enumerate(names) if name == word]
    if len(found) > 1:
        raise DataError(
            f"{len(found)} classes are called {word!r}.",
            f"Give an identifier: {', '.join(classes[label] for label in found)}.",
        )
    if not found:
        known = dict.fromkeys([*names, *classes])
        raise DataError(f"there is no class {word!r}.", did_you_mean(word, known))
    return found[0]
