"""What people read while they wait: lines and progress, on stderr. Imports no torch."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Everything people read goes to stderr, so that stdout holds results only.
console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line for people, with no markup read into it."""
    console.print(text, markup=False)


@contextlib.contextmanager
def redirected(file: TextIO) -> Iterator[None]:
    """While the block runs, what is said goes to `file`."""
    before = console._file  # console.file would name today's stderr instead of none
    console.file = file
    try:
        yield
    finally:
        console._file = before


@contextlib.contextmanager
def progress(what: str, total: int, lines: bool = True) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`. A live bar on a terminal; elsewhere, with `lines`, a line every 10
    seconds for what takes that long."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if lines and time.monotonic() - last > 10:
            last = time.monotonic()
            say(f"{what}: {done:,} of {total:,}")

    yield advance
