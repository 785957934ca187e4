"""What the scripts beside it share: pages that are written, or compared with what is there."""

import difflib
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

WIDTH = 120


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


def written(pages: Mapping[Path, str], arguments: list[str], again: str) -> int:
    """Writes each page to its path, or with --check among the arguments compares them.

    Returns: 1 where one differs, which is shown, with the command that writes them again.
    """
    code = 0
    for path, page in pages.items():
        if "--check" not in arguments:
            path.write_text(page, encoding="utf-8", newline="\n")
            continue
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before != page:
            code = 1
            lines = difflib.unified_diff(
                before.splitlines(), page.splitlines(), str(path), "as it is now", lineterm=""
            )
            print("\n".join(lines))
    if code:
        print(f"Write the pages again: uv run python docs/{again}", file=sys.stderr)
    return code
