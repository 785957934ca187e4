"""What is in a built wheel and sdist: uv build --out-dir DIST, then python .ci/packages.py DIST

The wheel holds every file below src/alexnet and nothing else, the sdist all that it takes to test
what it builds; neither holds anything large, and both have valid metadata.
"""

import sys
import tarfile
import zipfile
from pathlib import Path

from packaging.metadata import ExceptionGroup, InvalidMetadata, Metadata

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 2**20  # bytes of a file: there are no images in a release, and no weights but
BACKBONE, LARGEST_BACKBONE = "alexnet/network/backbone.safetensors", 4_000_000
BESIDE = {
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "pyproject.toml",
    "Dockerfile",
    ".dockerignore",
}


def files_below(folder: Path) -> set[str]:
    """The paths of files below a folder of the checkout, without what Python leaves there."""
    found = {path.relative_to(ROOT) for path in folder.rglob("*") if path.is_file()}
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def wrong_in_wheel(wheel: Path) -> list[str]:
    """What of a wheel is not as it should be."""
    with zipfile.ZipFile(wheel) as file:
        sizes = {one.filename: one.file_size for one in file.infolist()}
        info = next(name for name in sizes if name.endswith(".dist-info/METADATA"))
        wrong = wrong_in_metadata(wheel, file.read(info))
    inside = {f"src/{name}" for name in sizes if ".dist-info/" not in name}
    wrong += [f"{wheel.name} lacks {name}" for name in files_below(ROOT / "src") - inside]
    wrong += [f"{wheel.name} has {name}" for name in inside - files_below(ROOT / "src")]
    return wrong + too_large(wheel, sizes)


def wrong_in_sdist(sdist: Path) -> list[str]:
    """What of an sdist is not as it should be."""
    with tarfile.open(sdist) as file:
        members = [one for one in file.getmembers() if one.isfile()]
        info = next(one for one in members if one.name.endswith("/PKG-INFO"))
        content = file.extractfile(info)
        wrong = wrong_in_metadata(sdist, content.read() if content else b"")
    sizes = {one.name.partition("/")[2]: one.size for one in members}
    expected = BESIDE.union(
        *(files_below(ROOT / one) for one in ("src", "tests", "docs", "examples", "results"))
    )
    wrong += [f"{sdist.name} lacks {name}" for name in expected - set(sizes)]
    return wrong + too_large(sdist, sizes)


def wrong_in_metadata(archive: Path, content: bytes) -> list[str]:
    """What of the metadata a package index would refuse, or a reader would miss."""
    try:
        about = Metadata.from_email(content)
    except (ExceptionGroup, InvalidMetadata) as error:
        return [f"{archive.name}: {one}" for one in getattr(error, "exceptions", [error])]
    wrong = [] if f"-{about.version}" in archive.name else [f"{archive.name} is {about.version}"]
    if not (about.description or "").startswith("# ") or not about.license_expression:
        wrong.append(f"{archive.name} has no README or no licence in its metadata")
    if about.description_content_type != "text/markdown":
        wrong.append(f"{archive.name} does not say that its README is markdown")
    return wrong


def too_large(archive: Path, sizes: dict[str, int]) -> list[str]:
    """Files that do not belong into a release."""
    return [
        f"{archive.name}: {name} has {size:,} bytes"
        for name, size in sizes.items()
        if size > (LARGEST_BACKBONE if name.endswith(BACKBONE) else LARGEST)
    ]


def main(dist: Path) -> int:
    """1 if there is anything to say."""
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    wrong = wrong_in_wheel(wheel) + wrong_in_sdist(sdist)
    print("\n".join(sorted(wrong)) or f"{wheel.name} and {sdist.name} are complete")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
