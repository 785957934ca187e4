"""The folder of `alexnet export --format web`: the page, and the runtime that it needs, taken from
the npm package onnxruntime-web. Nothing is fetched. Imports no torch."""

import tarfile
import zlib
from importlib import resources
from pathlib import Path

from alexnet.atomic import output_folder, replacing
from alexnet.errors import InputError

PAGE = ("index.html", "style.css", "app.js")
MODEL, ABOUT = "model.onnx", "about.json"  # what the page asks for
# names in the package -> ours; not every static host knows what .mjs is
RUNTIME = {
    "dist/ort.wasm.min.mjs": "ort.js",
    "dist/ort-wasm-simd-threaded.mjs": "ort-wasm.js",
    "dist/ort-wasm-simd-threaded.wasm": "ort-wasm.wasm",
    "package.json": "package.json",  # its version, authors and licence
}
LARGEST = 2**27  # bytes of a file of the runtime
MARK = b"alexnet export --format web"
HOW = "Get it with `npm pack onnxruntime-web`, and give the .tgz, or node_modules/onnxruntime-web."


def check_choices(format: str, int8: bool, runtime: str, abstain: bool) -> None:
    """InputError where arguments of an export do not go together."""
    for flag, given in (("--int8", int8), ("--abstain", abstain)):
        if format == "pt2" and given:
            raise InputError(f"{flag} is for ONNX.", "Leave it out, or use --format onnx.")
    if runtime and format != "web":
        raise InputError("--runtime is for a page.", "Leave it out, or use --format web.")


def check_folder(folder: Path) -> None:
    """InputError if files of somebody else's would be replaced in a folder, or it is none."""
    page = output_folder(folder) / "index.html"
    ours = page.exists() and MARK in page.read_bytes()
    for name in () if ours else (*PAGE, MODEL, ABOUT):
        if (folder / name).exists():
            raise InputError(
                f"{folder / name} is of another page, and would be lost.",
                "Choose another folder with --out.",
            )


def write_page(folder: Path) -> None:
    """Writes the page. DiskError if that is not possible."""
    for name in PAGE:
        content = resources.files("alexnet.exporting").joinpath("page", name).read_bytes()
        _write(folder / name, content)


def write_runtime(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the files that `runtime_files` found."""
    for name, content in files.items():
        _write(folder / "runtime" / name, content)


def runtime_files(where: Path) -> dict[str, bytes]:
    """The files of the runtime by the names they have in the folder; `where` is the folder of the
    package, or the .tgz that npm makes of it.

    Raises:
        InputError: it is neither.
    """
    if where.is_dir():
        content = {name: _read(where / name) for name in RUNTIME if (where / name).is_file()}
    else:
        content = _from_archive(where)
    missing = [name for name in RUNTIME if name not in content]
    if missing:
        raise InputError(f"{where} is not onnxruntime-web: it has no {', '.join(missing)}.", HOW)
    # the comment names a file for debuggers that is not taken along
    return {
        ours: content[name].replace(b"//# sourceMappingURL=ort.wasm.min.mjs.map", b"")
        if ours == "ort.js"
        else content[name]
        for name, ours in RUNTIME.items()
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", HOW) from error


def _from_archive(path: Path) -> dict[str, bytes]:
    """Reads what is wanted by name; nothing is extracted."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("package/")
                file = archive.extractfile(member) if name in RUNTIME else None
                if file and member.size <= LARGEST:
                    found[name] = file.read()
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as .tgz ({error}).", HOW) from error
    return found


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as aside:
        aside.write_bytes(content)
