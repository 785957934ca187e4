"""HTML pages: one file each, with nothing to fetch and nothing to run; and beside them, for papers,
their figures as PNG and SVG and their tables as CSV. Imports no torch.

Whatever a template is given is escaped, and the page itself forbids scripts and every outside
address.
"""

import dataclasses
import functools
import importlib.metadata
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from alexnet.atomic import replacing, write_csv
from alexnet.data.trees import mark_output
from alexnet.reporting.drawing import DARK, LIGHT, Drawing

NO_BREAK = "\N{NO-BREAK SPACE}"


def percent(share: float, digits: int = 2) -> str:
    """0.886 -> "88.60 %"; what is no number, a dash."""
    return f"{100 * share:.{digits}f}{NO_BREAK}%" if math.isfinite(share) else "–"


def signed(share: float) -> str:
    """0.0123 -> "+1.23", in percentage points."""
    return f"{100 * share:+.2f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """93.2 -> "1.6 minutes"."""
    for limit, unit, name in ((120, 1, "seconds"), (7200, 60, "minutes")):
        if seconds < limit:
            return f"{seconds / unit:.1f}{NO_BREAK}{name}"
    return f"{seconds / 3600:.1f}{NO_BREAK}hours"


def written(value: object) -> str:
    """A setting, as it is told: 0.001, 0.48/0.46/0.41, none."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "/".join(map(written, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


@functools.cache  # templates are compiled once, not for each page
def environment() -> Environment:
    """Jinja2, with everything escaped, and an error for what is missing."""
    found = Environment(
        loader=PackageLoader("alexnet.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "percent": percent,
        "signed": signed,
        "duration": duration,
        "written": written,
        "count": lambda number: f"{number:,}",
        "known": math.isfinite,
        "sections": sections,
    }
    found.filters.update(filters)
    return found


@dataclass(frozen=True)
class Place:
    """Where a page lies, and what belongs to it."""

    page: Path
    figures: Path  # the folder of its figures
    tables: Path  # and that of its tables

    @classmethod
    def alone(cls, page: str | Path) -> Self:
        """All that belongs to the page in a folder beside it, which is named as browsers name it
        when they save a page."""
        path = Path(page).expanduser()
        folder = path.with_name(f"{path.stem}_files")
        return cls(path, folder, folder)

    @classmethod
    def of(cls, page: Path, figures: Path, out: str | Path | None) -> Self:
        """That of the `page` of a directory that has a place for its `figures`, unless the page is
        written to `out`."""
        if not out or Path(out).expanduser().resolve() == page.resolve():
            return cls(page, figures, page.parent)
        return cls.alone(out)

    def link(self, target: Path) -> str:
        """The address of a file as the page gives it; empty where there is no way from there to
        it."""
        try:
            way = os.path.relpath(target.absolute(), self.page.absolute().parent)
        except ValueError:  # another drive of Windows
            return ""
        return quote(os.fsencode(Path(way).as_posix()))


def sections(page: str) -> list[tuple[str, Markup]]:
    """The names and headings of a page's sections, as the macros of parts.html write them."""
    found = re.findall(r'<h2 data-of="([\w-]+)">(.*?)</h2>', page)
    return [(name, Markup(heading)) for name, heading in found]  # noqa: S704 from the page


def drawings(value: object) -> Iterator[Drawing]:
    """Every figure in what a page says."""
    if isinstance(value, Drawing):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from drawings(one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from drawings([getattr(value, field.name) for field in dataclasses.fields(value)])


def write_page(
    place: Place,
    template: str,
    contents: dict[str, Any],
    tables: Mapping[str, Iterable[Iterable[Any]]],
    pictures: Mapping[str, bytes] | None = None,
) -> Path:
    """Writes the page that `template`, a file of this package, makes of its contents, and what
    belongs to it; returns its path.

    Args:
        place: where.
        template: the name of the file.
        contents: what the page says. Every `Drawing` in it is written as a file, too.
        tables: the names of the page's tables, and their rows.
        pictures: the names and contents of other files among the figures.

    Raises:
        DiskError: it cannot be written.
    """
    if place.figures == place.tables:  # a folder of its own, which might stand in somebody's data
        mark_output(place.figures, f"figures and tables of {place.page.name}")
    for name, rows in tables.items():
        write_csv(place.tables / name, rows)
    files = dict(pictures or {})
    for drawing in drawings(contents):
        files |= {f"{drawing.name}.svg": drawing.svg, f"{drawing.name}.png": drawing.png}
    for name, content in files.items():
        with replacing(place.figures / name) as aside:
            aside.write_bytes(content)
    surroundings = {
        "version": importlib.metadata.version("alexnet"),
        "figures_at": place.link(place.figures),
        "tables": {name: place.link(place.tables / name) for name in tables},
        "light": LIGHT,
        "dark": DARK,
    }
    page = environment().get_template(template).render(contents | surroundings)
    with replacing(place.page) as aside:
        # a file name may hold what is no character
        aside.write_bytes(page.encode("utf-8", "replace"))
    return place.page
