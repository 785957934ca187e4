"""Files that are no images, in words: what they seem to be, and which way there is for each."""

from collections import Counter
from collections.abc import Sequence

from alexnet.data.images import EXTENSIONS, INSTALL_HEIC, readable_extensions

TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet")  # those that are read

KINDS = {
    "tables": (
        ".csv .tsv .tab .parquet .xlsx .xls .jsonl .ndjson .json .feather .arrow",
        "Labels in a table are read where the table itself is DATA: a .csv, .tsv, .jsonl or "
        ".parquet with a row for each image (--path-column, --label-column, --images), or for "
        "each picture's pixels.",
    ),
    "archives": (
        ".zip .tar .gz .tgz .bz2 .xz .7z .rar .zst",
        "Archives inside are not opened: give a .zip or .tar(.gz) itself as DATA, or unpack it.",
    ),
    "pickles": (
        ".pkl .pickle .pt .pth .joblib",
        "Pickles are not read, since they can run code when opened, but for CIFAR's of arrays "
        "alone: write the images as files, those of each class into a folder of its own.",
    ),
    "arrays": (
        ".npy .npz .bin .h5 .hdf5 .mat .tfrecord .tfrecords .mdb .lmdb .idx .ubyte .idx3-ubyte",
        "Of arrays CIFAR's files, MNIST's idx, and .npz with x_train and y_train are read: "
        "write the others as image files, those of each class into a folder of its own.",
    ),
    "HEIC": ("", f"HEIC images are read with: {INSTALL_HEIC}."),
    "photos in other formats": (
        ".dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .jxl .jp2 .psd .svg",
        "Convert them to JPEG or PNG.",
    ),
    "films": (
        ".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv",
        "Take single frames out of films, and save them as JPEG or PNG.",
    ),
}
KIND_OF = {
    ending: kind
    for kind, (endings, _) in KINDS.items()
    for ending in endings.split()
    if ending not in EXTENSIONS
}
PICTURES = ("photos in other formats", "films")  # what a user may think is used


def ending(path: str) -> str:
    """The ending of a file's name, lower case, with its dot."""
    name = path.rpartition("/")[2]  # as Path.suffix, for many names faster
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def kind_of(path: str) -> str:
    """A key of KINDS, or nothing. Files of pickles and of arrays often have no ending."""
    name = path.rpartition("/")[2]
    if not ending(name) and name.startswith(("data_batch", "test_batch", "batches.meta")):
        return "pickles"
    if ending(name) in EXTENSIONS - readable_extensions():
        return "HEIC"
    return "arrays" if name.endswith("-ubyte") else KIND_OF.get(ending(name), "")


def described(files: Sequence[str]) -> str:
    """What the files are, such as "3 .heic, 1 .csv"; the commonest first."""
    counts = Counter(ending(path) or "without an ending" for path in files)
    return ", ".join(f"{count:,} {one}" for one, count in counts.most_common(4))


def advice(files: Sequence[str]) -> str:
    """What to do about files, for each kind that is there; or nothing."""
    found = {kind_of(path) for path in files}
    return " ".join(words for kind, (_, words) in KINDS.items() if kind in found)
