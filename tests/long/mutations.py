"""What damages look like: to JSON values and their text, to names and trees of files, and to the
fields of zip, tar, npy and safetensors files, written here so that every field can be wrong.

Each takes a random.Random; what it draws is what comes out.
"""

import bz2
import gzip
import json
import lzma
import math
import struct
import unicodedata
import zlib

from long.fuzz_images import NUMBERS, damaged

# -- JSON

VALUES = [
    None, True, False, 0, 1, -1, 7, 2**31, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, -1e-320,
    math.nan, math.inf, -math.inf, "", "0", "nan", "auto", "a/b", "..", "\0", "\udcff", "\u202e",
    "\r\n", "=1+1", "x" * 5_000, [], {}, [[]], [0], ["a", "a"], [None] * 3, {"": None}, [1e400],
]  # fmt: skip
# ways in which text is no JSON, or more than that
FRAMES = [
    ("[" * 100_000, "]" * 100_000), ('{"a":' * 5_000, "}" * 5_000), ("[" * 900, "]" * 900),
    ("\ufeff", ""), ("", "{}"), ("", "\0"), ("//\n", ""), (" " * 4_000, ""), ("[", ""), ("", ","),
]  # fmt: skip


def any_value(draw):
    """A value where another is expected."""
    value = draw.choice(VALUES)
    if draw.random() < 0.03:
        for _ in range(draw.choice([3, 30, 300])):
            value = draw.choice([[value], {"a": value}])
    return value


def changed(value, draw):
    """The JSON value, changed in one place."""
    how = draw.randrange(8)
    if isinstance(value, dict) and value and how:
        key, found = draw.choice(list(value)), dict(value)
        if how == 1:
            del found[key]
        elif how == 2:
            found[draw.choice(["", "x", "version", *value])] = any_value(draw)
        elif how == 3:
            found[key] = found[draw.choice(list(value))]
        else:
            found[key] = changed(value[key], draw)
        return found
    if isinstance(value, list) and value and how:
        place, items = draw.randrange(len(value)), list(value)
        if how == 1:
            del items[place]
        elif how == 2:
            items.insert(place, any_value(draw))
        elif how == 3:
            items *= draw.choice([2, 2, 3])  # again and again: 70 once came to gigabytes
        else:
            items[place] = changed(value[place], draw)
        return items
    if isinstance(value, int | float) and not isinstance(value, bool) and how > 2:
        return draw.choice([value + 1, -value, value * 1000, value // 2, str(value), [value]])
    if isinstance(value, str) and value and how > 4:
        return damaged([value.encode("utf-8", "surrogatepass")], draw).decode("latin-1")
    return any_value(draw)


def json_text(value, draw, damages=(0, 1, 1, 1, 2, 4)):
    """The value as a JSON file, changed in some places."""
    for _ in range(draw.choice(damages)):
        value = changed(value, draw)
    text = json.dumps(value, indent=draw.choice([None, 2]))
    how = draw.randrange(30)
    if how == 0:
        before, after = draw.choice(FRAMES)
        text = f"{before}{text}{after}"
    elif how == 1:
        text = text.replace(draw.choice("0123456789"), draw.choice(["9" * 5_000, "1e999", "01"]), 1)
    elif how == 2:
        return damaged([text.encode()], draw)
    elif how == 3:
        return text.encode(draw.choice(["utf-16", "utf-8-sig", "utf-32"]), "replace")
    return text.encode()


# -- names and trees

PNG = b"\x89PNG\r\n\x1a\nnone"
PARTS = [
    b"", b".", b"..", b"...", b"a", b"A", b"train", b"Train Data", b"val", b"valid", b"test",
    b"testing", b"images", b"unknown", b"data", b"fold1", b"fold2", b"seg_train", b"seg_test",
    b"__MACOSX", b".git", b"@eaDir", b"thumbs.db", b"lost+found", b"__pycache__", b"C:", b"con",
    b"a\\b", b"\\", b" a ", b"a\n", b"a\0b", b"\xe9t\xe9", b"\xff\xfe", b"=a", b"-a", b"*", b"#",
    "été".encode(), unicodedata.normalize("NFD", "été").encode(), "黑色小猫".encode("gbk"),
    "いぬ".encode("cp932"), "кошка".encode("cp866"), "\u202egpj".encode(), b"x" * 255, b"y" * 5_000,
    b"cat.png", b"1.png", b"a.JPEG", b"a.heic", b"a.csv", b"train.csv", b"a.tar.gz", b"a.pkl",
    b"a.npy", b"data_batch_1.bin", b"data_batch_2", b"test_batch.bin", b"batches.meta.txt",
    b"wnids.txt", b"words.txt", b"val_annotations.txt", b"recipe.json", b"environment.json",
    b"sweep.json", b"store.json", b"x.bin", b".alexnet-output", b"README.md",
]  # fmt: skip
WNIDS = ("n01", "n02", "n03")
LABELLED = {f"{name}/{n}.png".encode(): PNG for name in ("cat", "dog", "eel") for n in range(2)}


def below(prefix, files):
    """The same files, below another folder."""
    return {prefix + path: content for path, content in files.items()}


TINY = {
    **{f"train/{w}/images/{w}_{n}.JPEG".encode(): PNG for w in WNIDS for n in range(2)},
    **{f"val/images/val_{n}.JPEG".encode(): PNG for n in range(3)},
    b"test/images/test_0.JPEG": PNG,
    b"val/val_annotations.txt": b"".join(
        f"val_{n}.JPEG\t{w}\t0\t0\t7\t7\n".encode() for n, w in enumerate(WNIDS)
    ),
    b"wnids.txt": "\n".join(WNIDS).encode(),
    b"words.txt": b"n00\tentity\nn01\tgoldfish, Carassius\nn02\tcrane\nn03\tcrane\n",
}
RECORDS = b"".join(bytes([label % 10]) + bytes(3072) for label in range(12))
CIFAR = {
    b"data_batch_1.bin": RECORDS,
    b"data_batch_2.bin": RECORDS[: 3073 * 10],
    b"test_batch.bin": RECORDS[: 3073 * 10],
    b"batches.meta.txt": b"airplane automobile bird cat deer dog frog horse ship truck\n",
}
SPLIT = below(b"train/", LABELLED) | below(b"val/", LABELLED) | below(b"test/", LABELLED)
TREES = [
    LABELLED, SPLIT, below(b"photos/", SPLIT), below(b"archive/archive/", LABELLED), TINY,
    below(b"tiny-imagenet-200/", TINY), CIFAR, below(b"cifar-10-batches-bin/", CIFAR),
    below(b"seg_train/seg_train/", LABELLED) | below(b"seg_test/seg_test/", LABELLED)
    | {b"seg_pred/seg_pred/1.jpg": PNG},
    below(b"fold1/", LABELLED) | below(b"fold2/", LABELLED),
    below(b"train/", LABELLED) | {b"test/unknown/1.png": PNG, b"labels.csv": b"id,label\n"},
    LABELLED | {b"runs/a/recipe.json": b"{}", b"runs/a/environment.json": b"{}", b"README": b"x"},
    LABELLED | below(b"cat/", LABELLED), {b"1.png": PNG, b"2.png": PNG}, {b"a/x.parquet": b"PAR1"},
    {b"pass/1.png": PNG, b"test/1.png": PNG}, {b"data_batch_1": b"\x80", b"batches.meta": b"\x80"},
]  # fmt: skip


def moved(path, draw):
    """The path, changed in one part."""
    parts = path.split(b"/")
    place, part = draw.randrange(len(parts)), draw.choice(PARTS)
    how = draw.randrange(6)
    if how == 0:
        parts.insert(place, part)
    elif how == 1 and len(parts) > 1:
        del parts[place]
    elif how == 2:
        parts[place] = parts[place].swapcase()
    elif how == 3:
        parts[place] = damaged([parts[place]], draw)
    elif how == 4:
        parts[place:place] = [part] * draw.choice([2, 20, 70])
    else:
        parts[place] = part
    return b"/".join(parts)


def tree(draw, known=TREES):
    """A tree of files, {path: content}, of which some are elsewhere, missing, or more."""
    files = dict(draw.choice(known))
    for _ in range(draw.choice([0, 1, 2, 3, 6])):
        path = draw.choice(list(files) or [b"a"])
        how = draw.randrange(7)
        if how < 2:  # one file
            files[moved(path, draw)] = files.pop(path, PNG)
        elif how < 5:  # a folder
            top = path[: draw.choice([place for place, one in enumerate(path) if one == 47] or [0])]
            new = moved(top, draw)
            keep = draw.random() < 0.3
            for one in [one for one in files if top and one.startswith(top + b"/")]:
                files[new + one[len(top) :]] = files[one] if keep else files.pop(one)
        elif how == 5:
            files.pop(path, None)
        else:
            files[moved(path, draw)] = draw.choice([PNG, b"", b"text\n", b"PK\3\4"])
    if draw.random() < 0.001:  # many, and classes with names of their own
        files |= {b"c%d/%d.png" % (n, n): PNG for n in range(draw.choice([500, 5_000]))}
    return files


def text(content, draw):
    """The lines of a text file, of which some are damaged, missing, or twice."""
    rows = content.split(b"\n")
    for _ in range(draw.choice([1, 1, 2, 5])):
        place = draw.randrange(len(rows))
        how = draw.randrange(6)
        if how == 0:
            rows[place] = damaged([rows[place]], draw)
        elif how == 1:
            cells = rows[place].split(b"\t")
            cells[draw.randrange(len(cells))] = draw.choice([*PARTS, b"n01", b"n04", b"val_0.JPEG"])
            rows[place] = b"\t".join(cells)
        elif how == 2:
            rows[place:place] = [rows[place]] * draw.choice([1, 1, 300])
        elif how == 3 and len(rows) > 1:
            del rows[place]
        elif how == 4:
            rows[place] = draw.choice([b"\t", b"\t\t\t", b"\0", b"\xff", b"\x0c", b"a" * 70_000])
        else:
            rows[place] += draw.choice([b"\t", b" ", b"\r", b"\x85", b"\xe2\x80\xa8"])
    return b"\n".join(rows)


# -- containers


class Fields:
    """Numbers of headers: a share of them is another number."""

    def __init__(self, draw):
        self.draw, self.share = draw, draw.choice([0, 0, 0, 0, 0.003, 0.03])

    def one(self, value, width):
        """As so many bytes, the lowest first."""
        if self.draw.random() < self.share:
            value = self.draw.choice([*NUMBERS, value + 1, value - 1, 2 * value, 2**63, 2**64 - 1])
        return (value % 256**width).to_bytes(width, "little")

    def row(self, *pairs):
        """Several: (value, width)."""
        return b"".join(self.one(value, width) for value, width in pairs)


def links(draw, paths):
    """For some paths what they lead to, as a link."""
    if draw.random() < 0.8:
        return {}
    targets = [*paths, b"../cat", b"/", b".", b"..", b"cat", b"nowhere", b"a" * 5_000, b""]
    return {path: draw.choice(targets) for path in paths if draw.random() < 0.3}


def deflated(content):
    """As zip has it."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def lzma_member(content):
    """As zip has it: version and size of the properties, the properties, the data."""
    kind = {"id": lzma.FILTER_LZMA1, "dict_size": 4096}
    data = lzma.compress(content, lzma.FORMAT_RAW, filters=[kind])
    return b"\x09\x04\x05\x00" + struct.pack("<BI", 93, 4096) + data


METHODS = {0: bytes, 8: deflated, 12: bz2.compress, 14: lzma_member}
EXTRAS = [
    b"", b"", b"\x01\0\x10\0" + b"\1" * 16, b"\x01\0\x08\0" + b"\xff" * 8, b"\x01\0\x1c\0",
    b"up\x0b\0\1abcdcat/9", b"\x99\x99\xff\xff", b"\0", b"UT\x05\0\1abcd",
]  # fmt: skip


def zip_file(files, draw):
    """A zip archive of {name: content}; whatever its headers say may be wrong."""
    fields, leads = Fields(draw), links(draw, list(files))
    extras = EXTRAS if draw.random() < 0.1 else [b""]
    usual, flag = draw.choice([0, 0, 8, 8, 12, 14]), draw.choice([0] * 9 + [0x800, 1, 8])
    body, contents, count = b"", b"", 0
    for name, content in files.items():
        content, mode = leads.get(name, content), 0o120777 if name in leads else 0o100644
        method = usual if draw.random() < 0.95 else draw.choice([0, 1, 8, 9, 12, 14, 93, 99])
        packed, extra = METHODS.get(method, bytes)(content), draw.choice(extras)
        about = [
            (20, 2), (flag, 2), (method, 2), (0, 2), (33, 2), (zlib.crc32(content), 4),
            (len(packed), 4), (len(content), 4), (len(name), 2), (len(extra), 2),
        ]  # fmt: skip
        rest = [(0, 2), (0, 2), (0, 2), (mode << 16, 4), (len(body), 4)]
        other = name if draw.random() < 0.98 else moved(name, draw)
        contents += b"PK\1\2" + fields.row((3 << 8, 2), *about, *rest) + other + extra
        body += b"PK\3\4" + fields.row(*about) + name + extra + packed
        count += 1
    comment = draw.choice([b""] * 9 + [b"words"] * 9 + [b"PK\5\6" + bytes(18)])
    end = fields.row((0, 4), (count, 2), (count, 2), (len(contents), 4), (len(body), 4))
    large = b""
    if draw.random() < 0.1:
        sizes = fields.row((count, 8), (count, 8), (len(contents), 8), (len(body), 8))
        place = fields.row((0, 4), (len(body) + len(contents), 8), (1, 4))
        large = b"PK\6\6" + fields.row((44, 8), (45, 2), (45, 2), (0, 8)) + sizes
        large += b"PK\6\7" + place
    return body + contents + large + b"PK\5\6" + end + fields.one(len(comment), 2) + comment


def tar_number(value, width, fields):
    """A number as tar writes it, or as it should not."""
    draw = fields.draw
    if draw.random() < 3 * fields.share:
        return draw.choice(
            [
                b"-%0*o" % (width - 2, 512), b"\xff" * width, b"\x80" + b"\xff" * (width - 1),
                b"\xff" * (width - 2) + b"\xfe\0", b"\xff" * (width - 1) + b"\0", b" " * width,
                b"9" * width, bytes(width), b"\x80" + bytes(width - 2) + b"\xff", b"7" * width,
                b"\xff" * (width - 2) + b"\xfa\0", b"0x10".ljust(width, b"\0"),
            ]
        )  # fmt: skip
    return b"%0*o\0" % (width - 1, value)


def tar_header(name, size, kind, target, fields):
    """One block."""
    numbers = [tar_number(one, width, fields) for one, width in ((0o644, 8), (0, 8), (0, 8))]
    sized, when = tar_number(size, 12, fields), tar_number(0, 12, fields)
    magic = fields.draw.choice([b"ustar\x0000", b"ustar\x0000", b"ustar  \0", bytes(8)])
    start = name[:100].ljust(100, b"\0") + b"".join(numbers) + sized + when
    rest = kind + target[:100].ljust(100, b"\0") + magic + bytes(64)
    rest += tar_number(0, 8, fields) + tar_number(0, 8, fields)
    whole = (start + b" " * 8 + rest).ljust(500, b"\0") + fields.one(0, 12)
    return start + b"%06o\0 " % (sum(whole) + (fields.draw.random() < fields.share)) + whole[156:]


def padded(content):
    """Filled up to whole blocks."""
    return content + bytes(-len(content) % 512)


def pax(draw):
    """Records of an extended header."""
    keys = [
        b"path", b"size", b"linkpath", b"mtime", b"hdrcharset", b"GNU.sparse.map", b"comment",
        b"GNU.sparse.size", b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.name", b"",
        b"GNU.sparse.realsize", b"GNU.sparse.numblocks", b"GNU.sparse.offset", b"a" * 300,
    ]  # fmt: skip
    values = [
        b"0", b"1", b"-512", b"-1024", b"1,2,3", b"9" * 400, b"BINARY", b"utf-16", b"\xff", b"nan",
        b"", b"cat/7.png", b"=", b"0,512", b"/" * 300, b"../x", b"1e9", b"inf", b"12\n13",
    ]  # fmt: skip
    found = b""
    for _ in range(draw.choice([1, 2, 4])):
        record = b" " + draw.choice(keys) + b"=" + draw.choice(values) + b"\n"
        size = len(record) + 2 + (len(record) > 97)
        found += b"%d" % draw.choice([size, size, size, size, 0, 1, 5, 999, 10**9]) + record
    return found


LARGE = [b"7" * 300_000, b"2 " * 150_000 + b"=", b"5 a=\n" * 30_000]  # headers that take time


def tar_file(files, draw):
    """A tar archive of {name: content}, perhaps compressed; whatever it says may be wrong."""
    fields, leads, found = Fields(draw), links(draw, list(files)), []
    odd = draw.choice([0, 0, 0, 0.1])  # how many are of another kind
    for name, content in files.items():
        kind, target = b"0", b""
        if draw.random() < odd:
            kind = draw.choice([b"\0", b"7", b"5", b"3", b"S", b"Z"])
            content = draw.choice([content, b""])
        if name in leads:
            kind, target, content = draw.choice([b"1", b"2"]), leads[name], b""
        extras = [(b"L", name)] if len(name) > 100 else []
        if draw.random() < 0.01:
            about = draw.choice([pax(draw), pax(draw), name])
            if draw.random() < 0.05:
                about = draw.choice(LARGE)
            extras += [(draw.choice([b"x", b"x", b"g", b"L", b"K", b"X"]), about)]
            extras *= draw.choice([1, 1, 1, 400]) if len(about) < 1_000 else 1
        for what, about in [*extras, (kind, content)]:
            here = (name, target) if what == kind else (b"././@LongLink", b"")
            found += [tar_header(here[0], len(about), what, here[1], fields), padded(about)]
    found += [bytes(draw.choice([1024] * 9 + [10240, 512, 0]))]
    whole = b"".join(found)
    how = draw.randrange(12)
    if how == 0:
        return gzip.compress(whole, 1)
    if how == 1:
        return bz2.compress(whole, 1)
    return lzma.compress(whole, preset=0) if how == 2 else whole


def perhaps_damaged(content, draw, share=0.3):
    """A share of them damaged without regard to what it is."""
    return damaged([content], draw) if draw.random() < share else content


# -- arrays

DTYPES = [
    "<f4", "<i8", "<f8", "|u1", "|b1", "<U9", "|S9", "|O", "<c8", ">f4", "<M8[s]", "|V8", "<f2",
    "<U999999999", "|V0", "", "f", "i4,i4", "<f4,(", "no type", [["a", "<f4"]], [("a", "<f4")], {},
]  # fmt: skip
SHAPES = [
    (), (0,), (1,), (3,), (6,), (6, 3), (3, 6), (-1, 3), (10**6, 10**6), (2**40,), (2**63,), (0, 3),
    (6, 3, 1), (1,) * 40, (6.0, 3), ("6",), None, 6, [6, 3], (True,), (1,) * 70, (10**9, 0),
]  # fmt: skip


def npy(array, draw):
    """An array as .npy; its header may say something else."""
    shape, kind, version = array.shape, array.dtype.str, (1, 0)
    if draw.random() < 0.05:
        shape = draw.choice(SHAPES)
    if draw.random() < 0.05:
        kind = draw.choice(DTYPES)
    head = repr({"descr": kind, "fortran_order": draw.random() < 0.1, "shape": shape})
    if draw.random() < 0.02:
        head = draw.choice(["", "{}", "(" * 9_000, head[:-1], head + "x", "[1]", head * 2, "1" * 9])
    coded = (head + "\n").encode("latin-1")
    if draw.random() < 0.02:
        version = draw.choice([(2, 0), (3, 0), (9, 9), (0, 0)])
    size = Fields(draw).one(len(coded), 2 if version < (2, 0) else 4)
    return b"\x93NUMPY" + bytes(version) + size + coded + array.tobytes()


def npz(arrays, draw):
    """Arrays as .npz, in a zip archive whose headers may be wrong."""
    files = {f"{name}.npy".encode(): npy(array, draw) for name, array in arrays.items()}
    if draw.random() < 0.1:
        files.pop(draw.choice(list(files)))
    if draw.random() < 0.05:
        files[draw.choice([b"x.npy", b"x", b"../x.npy", b".npy"])] = draw.choice([*files.values()])
    return perhaps_damaged(zip_file(files, draw), draw, 0.2)


def safetensors_file(head, data, draw):
    """A safetensors file of a header, as JSON-ready, and data; either may be wrong."""
    coded = json_text(head, draw)
    size = len(coded)
    if draw.random() < 0.05:
        size = draw.choice([0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1, 100_000_001])
    if draw.random() < 0.05:
        data = draw.choice([data[:-1], data + b"x", b"", data[4:]])
    return size.to_bytes(8, "little") + coded + data
