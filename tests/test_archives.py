"""Whatever the names and the form of an archive: its images are read, or it says why not."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import class_folders, encoded, noise, snapshot

from alexnet.data import archives
from alexnet.data.datasets import open_data, read_source
from alexnet.data.names import DEEPEST, member_paths
from alexnet.data.trees import open_tree
from alexnet.errors import DataError, DiskError

PICTURES = {f"{name}/{n}.png": encoded(noise(n)) for name in ("cat", "dog") for n in range(2)}
IDS = sorted(PICTURES)


def make_zip(path, members, **how):
    """A zip of (name or ZipInfo, content) as they are given."""
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name) if isinstance(name, str) else name, content)
    return path


def make_tar(path, members, mode="w"):
    """A tar of (name or TarInfo, content) as they are given."""
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def ids(path):
    return [one.id for one in read_source(path).examples]


def contents(path):
    source = read_source(path)
    return {one.id: found for one, found in zip(source.examples, source.contents(), strict=True)}


def renamed(path, old, new):
    """The same archive with other bytes in place of a name."""
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


# -- names


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    "prefix",
    ["/", "./", "//", "../", "/../../", "a/../", "C:/", "c:/photos/", "./photos/./", "//server/x/"],
)
def test_the_beginning_of_names_does_not_matter(prefix, make, tmp_path):
    path = make(tmp_path / "a.archive", [(prefix + name, PICTURES[name]) for name in IDS])
    assert contents(path) == PICTURES


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("prefix", [b"", b"C:~x~", b"~~server~share~", b".~", b"..~"])
def test_backslashes_of_windows_are_slashes(prefix, make, tmp_path):
    names = [prefix.decode() + name.replace("/", "~") for name in IDS]
    path = make(tmp_path / "a.archive", [(name, b"x") for name in names])
    path.write_bytes(  # of a tar, the checksums have to follow
        path.read_bytes().replace(b"~", b"\\")
        if make is make_zip
        else make(path, [(name.replace("~", "\\"), b"x") for name in names]).read_bytes()
    )
    assert ids(path) == IDS


def test_one_backslash_in_a_name_of_many_is_a_letter(tmp_path):
    path = make_zip(tmp_path / "a.zip", [*PICTURES.items(), ("cat/a~b.png", b"x")])
    assert "cat/a\\b.png" in ids(renamed(path, b"a~b", b"a\\b"))


@given(st.lists(st.text() | st.binary(max_size=30), max_size=8))
def test_no_name_leads_out_of_the_archive(names):
    paths, _ = member_paths(names, "cp437")
    assert len(paths) == len(names)
    for path in paths:
        parts = path.split("/")
        assert path == "" or not {"", ".", ".."} & set(parts)


@pytest.mark.parametrize(
    "encoding, told, classes",
    [
        ("gbk", "GBK", ["黑色小猫", "黄色小狗", "鱼"]),
        ("gbk", "GBK", ["貓科動物", "狗狗圖片"]),
        ("cp932", "Shift-JIS", ["ネコ", "いぬ"]),
        ("cp932", "Shift-JIS", ["犬", "猫", "表示"]),
        ("cp437", "cp437", ["élève", "forêt", "bébé", "château"]),
        ("cp437", "cp437", ["Äpfel", "Vögel", "Füße"]),
        ("cp866", "cp866", ["кошка", "собака"]),
        ("utf-8", "", ["été", "犬", "кошка"]),
    ],
)
def test_names_without_an_encoding_are_guessed_and_told(encoding, told, classes, tmp_path, capsys):
    raw = [name.encode(encoding) for name in classes]
    stand_ins = [bytes([65 + place]) * len(one) for place, one in enumerate(raw)]
    path = make_zip(tmp_path / "a.zip", [(f"{one.decode()}/1.png", b"x") for one in stand_ins])
    for old, new in zip(stand_ins, raw, strict=True):
        renamed(path, old, new)
    source = read_source(path)
    assert source.classes == sorted(classes)
    assert (f"were read as {told}" in capsys.readouterr().err) is bool(told)
    assert bool(source.notes) is bool(told)


def test_a_name_in_an_extra_field_counts(tmp_path):
    def info(name, real):
        found = zipfile.ZipInfo(name.decode("ascii"))
        field = b"\1" + struct.pack("<I", zlib.crc32(name.replace(b"#", b"\x82"))) + real.encode()
        found.extra = struct.pack("<HH", 0x7075, len(field)) + field
        return found

    members = [(info(b"#%d/1.png" % n, f"{name}/1.png"), b"x") for n, name in enumerate("犬猫")]
    path = make_zip(tmp_path / "a.zip", members)
    path.write_bytes(path.read_bytes().replace(b"#", b"\x82"))
    assert read_source(path).classes == ["犬", "猫"]


def test_names_of_a_tar_that_are_not_utf_8(tmp_path):
    names = ["黑色小猫/1.png", "黄色小狗/1.png"]
    with tarfile.open(
        tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="gbk"
    ) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert ids(tmp_path / "a.tar") == sorted(names)


def test_names_marked_as_utf_8_that_are_not(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("é/1.png", b"x"), ("b/1.png", b"x")])
    with pytest.raises(DataError, match="marked as UTF-8, and are not"):
        read_source(renamed(path, "é".encode(), b"\xff\xfe"))


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_members_are_told(make, tmp_path):
    odd = [("cat", b"x"), ("cat/0.png", b"last"), ("", b"x"), ("..", b"x"), ("x/" * 99 + "y", b"")]
    path = make(tmp_path / "a.archive", [*PICTURES.items(), *odd])
    found = contents(path)
    assert found == PICTURES | {"cat/0.png": b"last"}
    told = read_source(path).left_out
    assert any("more than 64 folders deep" in one for one in told) and DEEPEST == 64
    for words in ("1 members whose name comes again", "without a name", "same name as a folder"):
        assert any(words in one for one in told)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_links_are_followed_inside_only(make, tmp_path):
    targets = {
        "cat/inside": "../dog/0.png",
        "cat/outside": "/etc/passwd",
        "cat/round": "round.png",
        "cat/twice": "inside.png",
    }
    links = []
    for name, target in targets.items():
        if make is make_zip:
            link = zipfile.ZipInfo(f"{name}.png")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            links.append((link, target))
        else:
            link = tarfile.TarInfo(f"{name}.png")
            link.type, link.linkname = tarfile.SYMTYPE, target
            links.append((link, b""))
    found = contents(make(tmp_path / "a.archive", [*PICTURES.items(), *links]))
    assert found["cat/inside.png"] == found["cat/twice.png"] == PICTURES["dog/0.png"]
    for name in ("cat/outside.png", "cat/round.png"):
        assert "leads to no file of the archive" in str(found[name])


def test_hard_links_of_a_tar(tmp_path):
    link = tarfile.TarInfo("dog/again.png")
    link.type, link.linkname = tarfile.LNKTYPE, "cat/0.png"
    found = contents(make_tar(tmp_path / "a.tar", [*PICTURES.items(), (link, b"")]))
    assert found["dog/again.png"] == PICTURES["cat/0.png"]


# -- zips that cannot be read


def changed_headers(path, place, change):
    """Changes a byte of every header; `place` in the member's own, 2 further in the directory."""
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            content[start + at] = change(content[start + at])
            start += 4
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "place, change, words",
    [
        (6, lambda flags: flags | 1, "4 of the 4 files in .* are protected by a password"),
        (8, lambda method: 9, "4 of the 4 files in .* are compressed with Deflate64"),
        (8, lambda method: 98, "compressed with PPMd"),
        (8, lambda method: 77, "compressed with method 77"),
    ],
)
def test_what_is_wrong_with_the_archive_is_said_of_the_archive(place, change, words, tmp_path):
    path = changed_headers(make_zip(tmp_path / "a.zip", PICTURES.items()), place, change)
    with pytest.raises(DataError, match=words) as caught:
        read_source(path)
    assert "\n" not in caught.value.message and "Unpack it" in caught.value.hint


def test_the_table_of_contents_has_the_say(tmp_path):
    path = make_zip(tmp_path / "a.zip", PICTURES.items())
    path.write_bytes(path.read_bytes().replace(b"cat/0.png", b"CAT/0.png", 1))
    assert contents(path) == PICTURES


@pytest.mark.slow
def test_a_hundred_thousand_members(tmp_path):
    path = make_zip(tmp_path / "a.zip", ((f"class{n % 100}/{n}.png", b"x") for n in range(100_000)))
    assert len(read_source(path).examples) == 100_000


# -- tars


@pytest.mark.parametrize(
    "name, mode", [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz"), ("a.bz2", "w:bz2")]
)
def test_tars_of_class_folders_are_the_same_data_as_the_folder(name, mode, tmp_path):
    folder = class_folders(tmp_path / "d", {"train/cat": 2, "train/dog": 2, "test/cat": 1})
    files = sorted(folder.rglob("*.png"), reverse=True)
    members = [(f"d/{one.relative_to(folder)}", one.read_bytes()) for one in files]
    path = make_tar(tmp_path / name, members, mode)
    before = snapshot(path.parent)
    stores = [open_data(where, image_size=8) for where in (folder, path)]
    assert stores[0].fingerprint == stores[1].fingerprint
    assert stores[0].ids == stores[1].ids
    assert {one: before[one] for one in before} == {
        one: found for one, found in snapshot(path.parent).items() if one in before
    }
    assert not [one for one in (tmp_path / "cache").iterdir() if one.is_file()]  # nothing stays
    with open_tree(path, tmp_path).open(members[0][0]) as file:
        assert file.read() == members[0][1]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_ends_too_soon_is_refused_wherever_it_ends(mode, tmp_path):
    path = make_tar(tmp_path / "a.tar", PICTURES.items(), mode)
    whole = path.read_bytes()
    used = 4 * 1024 if mode == "w" else len(whole)  # a header and a block for each
    for length in range(1, used, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot be read as a tar|is a file, but not"):
            read_source(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = make_tar(tmp_path / "a.tar", PICTURES.items())
    content = bytearray(path.read_bytes())
    content[2048 + 20] ^= 1  # the third header
    path.write_bytes(content)
    with pytest.raises(DataError, match="no mark of its end"):
        read_source(path)


def long_name(size, times=1):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, size
    return (member.tobuf(tarfile.GNU_FORMAT) + b"a" + bytes(511)) * times


@pytest.mark.parametrize("content", [long_name(2**33), long_name(1, 5000)])
def test_headers_made_to_fill_memory_are_refused(content, tmp_path):
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    with pytest.raises(DataError, match="cannot be read as a tar archive"):
        read_source(tmp_path / "a.tar")


def test_an_archive_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_EXPANSION", 2**20)
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(bytes(2**23))
    with pytest.raises(DataError, match="expands to more than"):
        read_source(tmp_path / "a.tar.gz")


def test_no_space_to_expand_a_tar(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "a.tar.gz", PICTURES.items(), "w:gz")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(DiskError, match="cannot write"):
        read_source(path)


def test_large_and_sparse_members_are_errors_of_that_file(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "a.tar", PICTURES.items())
    monkeypatch.setattr(archives, "LARGEST_FILE", 10)
    assert all("is no image file" in str(one) for one in contents(path).values())


@pytest.mark.parametrize("name", ["a.7z", "a.rar", "a.gz", "a.zip.001"])
def test_other_archives_say_that_they_are_to_be_unpacked(name, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(DataError, match="not a zip or tar archive") as caught:
        read_source(tmp_path / name)
    assert "Unpack it" in caught.value.hint
