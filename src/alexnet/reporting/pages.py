"""HTML pages: one file each, with nothing to fetch and nothing to run. Imports no torch.

Whatever a template is given is escaped, and the page itself forbids scripts and every outside
address.
"""

import functools
import importlib.metadata
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from alexnet.atomic import replacing

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
    }
    found.filters.update(filters)
    return found


def write_page(path: Path, template: str, contents: dict[str, Any]) -> Path:
    """Writes the page that `template`, a file of this package, makes of its contents.

    Raises:
        DiskError: it cannot be written.
    """
    version = importlib.metadata.version("alexnet")
    page = environment().get_template(template).render(contents, version=version)
    with replacing(path) as aside:
        # a file name may hold what is no character
        aside.write_bytes(page.encode("utf-8", "replace"))
    return path
