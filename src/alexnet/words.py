"""Text on its way out. Names of files and classes: whatever they hold, a console, a table or a log
can take them, and nobody is misled. Messages: whoever called a function reads of its arguments, not
of flags. Standard library only."""

import contextlib
import re
import unicodedata
from collections.abc import Iterator

# control characters, marks that turn the direction of writing, and the halves of surrogate pairs by
# which Python stands for bytes of a name that are not UTF-8
ODD = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"  # parts of words in Persian and Indic scripts, and of emoji
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a spreadsheet begins one


def shown(text: object) -> str:
    """A name as it can be printed: what is odd in it becomes an escape such as \\xe9 or \\u202e."""
    return "".join(
        one
        if one in JOINERS or unicodedata.category(one) not in ODD
        else f"\\x{ord(one) - 0xDC00:02x}"
        if 0xDC80 <= ord(one) <= 0xDCFF
        else one.encode("unicode_escape").decode("ascii")
        for one in str(text)
    )


def cell(text: object) -> str:
    """The same for a table that a spreadsheet may open: what would be a formula begins with an
    apostrophe, as spreadsheets themselves write it."""
    told = shown(text)
    return f"'{told}" if told.startswith(FORMULA) else told


# -- flags, for those who type none ----------------------------------------------------------------

# what messages give as the value of a flag, where it is neither a number nor in capitals; another
# word goes on with the sentence ("--crop below --image-size")
VALUES = set(
    "adamw all all-but-last auto backbone balanced bvlc-2012 conv convert copies cpu fp32 he local "
    "logistic max none onnx sgd skip small test tpe train trained validation web".split()
)
# flags whose value may be any word but these, such as one that a message is given to name
NAMED = set("device freeze head optimizer precision recipe split study weights".split())
GOES_ON = set("a and asks for has is of or takes to trains with".split())
VALUE = r"(?: -?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w%]))+|(?: [A-Z]+(?:\.[a-z0-9]+)?\b)+| '[^']*'"
FLAG = re.compile(
    r"`[^`]*`|\balexnet [a-z][^.;,\n]*"  # whole commands stay what they are
    r"|(?<![\w-])--(?P<no>no-)?(?P<name>[a-z][a-z0-9-]*)"
    rf"(?P<value>{VALUE})?(?P<word> [a-z][\w-]*)?(?P<more> (?=--))?"
)

_typed = 0  # blocks under way in which people type flags: the command line


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """While the block runs, messages go to somebody who types flags."""
    global _typed
    _typed += 1
    try:
        yield
    finally:
        _typed -= 1


def spoken(message: str) -> str:
    """A message as its reader would say it: `--image-size 64` is an argument `image_size=64` to who
    called a function, and `--no-cache` is `cache=False`."""
    return message if _typed else FLAG.sub(_argument, message)


def _argument(flag: re.Match[str]) -> str:
    if flag["name"] is None:
        return flag[0]
    name, values = flag["name"].replace("-", "_"), (flag["value"] or "").strip()
    word, more = flag["word"] or "", flag["more"] or ""
    if flag["no"]:
        values = "False"
    elif not values and is_value(name, word.strip()):
        word, values = "", f'"{word.strip()}"'
    elif " " in values and not values.startswith("'"):
        values = f"({values.replace(' ', ', ')})"
    return (
        name + f"={values}" * bool(values) + word + "," * bool(values and more and not word) + more
    )


def is_value(name: str, word: str) -> bool:
    """Whether a word that follows a flag in a message is its value."""
    return word in VALUES or bool(word and name in NAMED and word not in GOES_ON)
