"""Names of files and classes on their way out: whatever they hold, a console, a table or a log can
take them, and nobody is misled. Standard library only."""

import unicodedata

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
