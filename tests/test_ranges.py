"""Pixels of more than 8 bits: one white for a whole data set, which a run and its exported file
take along."""

import json

import numpy as np
import pytest
from makers import chunk, encoded, noise, with_chunk
from PIL import Image

import alexnet
from alexnet.data.datasets import open_data
from alexnet.data.images import enlarged, open_image, square_pixels
from alexnet.errors import DataError
from alexnet.network.description import Preprocessing
from alexnet.recipes import Recipe


def deep(greatest, seed=0, kind="PNG", side=12, sbit=0, **options):
    """A grey file of 16 bits (32 in TIFF where asked) with values up to `greatest`."""
    values = np.random.default_rng(seed).integers(0, greatest + 1, (side, side))
    values[0, 0] = greatest
    if options.pop("wide", False):
        return encoded(Image.fromarray(values.astype(np.int32)), "TIFF", **options)
    image = Image.frombytes("I;16", (side, side), values.astype("<u2").tobytes())
    content = encoded(image, kind, **options)
    return with_chunk(content, chunk(b"sBIT", bytes([sbit]))) if sbit else content


def folders(root, contents):
    """Class folders of the files given, half of them in each class."""
    for number, content in enumerate(contents):
        path = root / "ab"[number % 2] / f"{number}.{'tif' if content[:2] == b'II' else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("greatest", "white"),
    [
        (200, 255),
        (1000, 1023),
        (1023, 1023),
        (1024, 4095),
        (4000, 4095),
        (9999, 16383),
        (60000, 65535),
    ],
)
def test_the_greatest_value_of_all_decides(tmp_path, capsys, greatest, white):
    made = [deep(greatest // 9, 0), deep(greatest, 1), deep(greatest // 3, 2), encoded(noise())]
    store = open_data(folders(tmp_path / "d", made), image_size=8)
    assert store.info["range"] == white
    assert f"3 of 4 images have more than 8 bits a channel: {white:,} is white" in (
        capsys.readouterr().err
    )
    for row, name in enumerate(store.ids):
        content = (tmp_path / "d" / name).read_bytes()
        assert np.array_equal(store.x[row], square_pixels(open_image(content), 8, white))
    assert open_data(tmp_path / "d", image_size=8).path == store.path


def test_one_bright_pixel_does_not_darken_one_of_two(tmp_path):
    made = [deep(255, 0, wide=True), deep(256, 0, wide=True)]
    store = open_data(folders(tmp_path / "d", made), image_size=8)
    assert store.info["range"] == 1023
    assert abs(store.x[0].mean() - store.x[1].mean()) < 1


def test_files_of_eight_bits_have_no_range_and_their_store_is_as_before(tmp_path):
    store = open_data(folders(tmp_path / "d", [encoded(noise(n)) for n in range(4)]), image_size=8)
    assert "range" not in store.info
    assert "range" not in store.path.name
    assert open_data(tmp_path / "d", image_size=8, white=4095).path == store.path


@pytest.mark.parametrize(
    ("content", "white"),
    [
        (deep(700, sbit=12), 4095),
        (deep(50_000, sbit=12), 65535),  # as the standard says: scaled to all 16 bits
        (deep(700, kind="TIFF", tiffinfo={281: 4095}), 4095),
        (deep(700, kind="TIFF", tiffinfo={341: 16383}), 16383),
    ],
)
def test_metadata_raise_the_range_and_do_not_lower_it(tmp_path, content, white):
    store = open_data(folders(tmp_path / "d", [content, content]), image_size=8)
    assert store.info["range"] == white


def test_a_pgm_is_of_its_own_largest_value(tmp_path):
    values = (np.arange(144) * 7).astype(">u2")  # of 1023 at most
    content = b"P5\n12 12\n1023\n" + values.tobytes()
    for name in ("a/1.pgm", "b/2.pgm"):
        (tmp_path / "d" / name).parent.mkdir(parents=True)
        (tmp_path / "d" / name).write_bytes(content)
    store = open_data(tmp_path / "d", image_size=16)
    assert store.info["range"] == 65535
    assert store.x[0].max() == round(143 * 7 / 1023 * 255)


def test_ranges_that_contradict_each_other_are_refused(tmp_path):
    pgm = b"P5\n12 12\n1023\n" + np.full(144, 900, ">u2").tobytes()
    folders(tmp_path / "d", [deep(900), deep(900)])
    (tmp_path / "d/a/x.pgm").write_bytes(pgm)
    with pytest.raises(DataError, match="different ranges are mixed") as caught:
        # 12 bits of a TIFF are 12 bits, whatever a PGM's are
        twelve = twelve_bits()
        (tmp_path / "d/b/y.tif").write_bytes(twelve)
        open_data(tmp_path / "d", image_size=8)
    assert "Save all of them with 8 bits" in caught.value.hint


def twelve_bits():
    """A TIFF of 12 bits a pixel, 12x12 px."""
    content = bytearray(encoded(Image.new("I;16", (12, 12)), "TIFF"))
    place = content.index(b"\x02\x01\x03\x00\x01\x00\x00\x00\x10\x00") + 8
    content[place] = 12
    return bytes(content)


@pytest.mark.parametrize("values", [[-5, 100], [0, 70_000]])
def test_values_of_no_range_are_bad_images(tmp_path, values):
    image = Image.fromarray(np.resize(np.array(values, np.int32), (8, 8)))
    made = [encoded(image, "TIFF"), *[encoded(noise(n)) for n in range(4)]]
    store = open_data(folders(tmp_path / "d", made), image_size=8, bad_images="skip")
    [bad] = store.info["bad"]
    assert "have no known range" in bad["reason"]


@pytest.mark.slow
def test_a_run_and_its_exported_file_take_the_range_along(tmp_path):
    made = [deep(1000 if number % 2 else 300, number) for number in range(24)]
    data = folders(tmp_path / "d", made)
    recipe = Recipe().replace(
        image_size=32, crop=32, epochs=1, width=0.25, device="cpu", precision="fp32"
    )
    run = alexnet.train(data, recipe, out=tmp_path / "run")
    classifier = alexnet.load(run, device="cpu", precision="fp32")
    assert classifier.white == 1023
    names = sorted(data.rglob("*.png"))
    store = open_data(data, image_size=32)
    rows = {name: row for row, name in enumerate(store.ids)}
    for path in names:
        square = classifier.square(path.read_bytes())
        stored = enlarged(store.x[rows[path.relative_to(data).as_posix()]], 32)
        assert np.array_equal(square, stored)
    # other data is seen as this run sees it
    other = folders(tmp_path / "other", [deep(4000, number) for number in range(4)])
    auto = open_data(other, image_size=32)
    assert auto.info["range"] == 4095
    assert "top1" in alexnet.evaluate(run, other, split="all")
    assert open_data(other, image_size=32, white=1023).info["range"] == 1023
    assert open_data(other, image_size=32).path == auto.path
    pytest.importorskip("onnxruntime")
    from alexnet.exporting.export import export

    exported = alexnet.load(export(run, out=tmp_path / "model.onnx"))
    assert exported.white == 1023


def test_files_of_the_first_release_know_no_range():
    old = {"image_size": 8, "crop": 8, "mean": [0.5] * 3, "std": [0.2] * 3, "views": 1, "border": 0}
    how = Preprocessing.from_dict(old)
    assert how.range == 0
    assert json.loads(json.dumps(how.to_dict())) == old


def test_what_the_first_release_packed_is_what_a_run_of_it_sees(tmp_path):
    data = folders(tmp_path / "d", [deep(1000, number) for number in range(4)])
    old = open_data(data, image_size=8, white=0)
    assert old.info["range"] == 0
    content = (data / old.ids[0]).read_bytes()
    assert np.array_equal(old.x[0], square_pixels(open_image(content), 8))
    new = open_data(data, image_size=8)
    assert (new.info["range"], new.fingerprint) == (1023, old.fingerprint)
    assert new.path != old.path
