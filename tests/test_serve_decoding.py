"""Decoding for a server: costly pictures stand in nobody's way, and cost no more than allowed."""

import asyncio
import itertools
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from makers import COLOURS, Colours, encoded, network_of, noise
from PIL import Image
from servers import Asked, Running, picture, until

from alexnet.classification.predict import load
from alexnet.data.images import MOST_PIXELS, BadImage, load_image
from alexnet.network.description import architecture
from alexnet.serving import decoding
from alexnet.serving.decoding import Busy, Decoders, cost_of, square_apart


@pytest.fixture
def decoders():
    found = Decoders()
    yield found
    found.stop()


def scans(content, more):
    """A JPEG that says it has so many more scans."""
    return content[:-2] + b"\xff\xda" * more + content[-2:]


def test_what_a_picture_costs():
    jpeg = picture("red", "JPEG", (1600, 1000))
    assert cost_of(jpeg) == 400_000
    assert cost_of(scans(jpeg, 799)) == 40_000_000
    for kind in ("PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        assert cost_of(picture("red", kind, (40, 30))) == 1200
    with pytest.raises(BadImage):
        cost_of(b"hello")


def test_the_budget_holds():
    most = decoding.THREADS * decoding.SMALL * 4 + MOST_PIXELS  # JPEGs in all threads
    assert most <= 2 * MOST_PIXELS


def test_the_cheapest_comes_first_and_nobody_waits_for_ever(decoders, monkeypatch):
    order, hold, busy = [], threading.Event(), threading.Barrier(decoding.THREADS + 1)

    def held():
        busy.wait(10)
        hold.wait(10)

    for _ in range(decoding.THREADS):
        decoders.submit(0, held)
    busy.wait(10)
    now = itertools.count(0, 1.0)
    monkeypatch.setattr("alexnet.serving.decoding.time.monotonic", lambda: next(now))
    decoders.submit(4_000_000, lambda: order.append("large"))  # at 0 s, worth 4 s
    for number in range(6):  # one a second
        decoders.submit(1000, lambda number=number: order.append(number))
    monkeypatch.undo()
    assert decoders._small.qsize() == 7
    first = decoders._small.get()[2], decoders._small.get()[2]
    for work in first:
        work()
    while not decoders._small.empty():
        decoders._small.get()[2]()
    hold.set()
    assert order == [0, 1, 2, "large", 3, 4, 5]


def test_costly_ones_wait_in_a_lane_of_their_own(decoders, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_LARGE", 3)
    hold, done = threading.Event(), []
    decoders.submit(2**23, lambda: hold.wait(10))
    assert until(decoders._large.empty)
    for number in range(3):
        decoders.submit(2**23, lambda number=number: done.append(number))
    with pytest.raises(Busy):
        decoders.submit(2**23, lambda: None)
    small = threading.Event()
    decoders.submit(1, small.set)
    assert small.wait(10)
    assert not done
    hold.set()
    assert until(lambda: done == [0, 1, 2])


@pytest.mark.slow  # each starts a process
@pytest.mark.parametrize("size", [(60, 40), (20, 50), (3, 90)])
def test_apart_is_the_same(size):
    for kind, mode in (("PNG", "RGBA"), ("JPEG", "RGB")):
        content = encoded(noise(1, size, mode), kind)
        square = square_apart(content, 16, 0, lambda: False)
        assert np.array_equal(load_image(square, 16), load_image(content, 16))


@pytest.mark.slow
def test_apart_takes_more_than_a_pipe_holds(monkeypatch):
    content = encoded(noise(1, (1500, 1200)), "BMP")
    assert len(content) > 5 * 10**6
    square = square_apart(content, 16, 0, lambda: False)
    assert np.array_equal(load_image(square, 16), load_image(content, 16))
    with pytest.raises(BadImage, match="not an image"):
        square_apart(bytes(5 * 10**6), 16, 0, lambda: False)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))  # reads nothing
    with pytest.raises(BadImage, match="too much time or memory"):
        square_apart(content, 16, 0, lambda: False)


@pytest.mark.slow
def test_apart_says_why_not(monkeypatch):
    content = picture("red")
    with pytest.raises(BadImage, match="damaged or cut short"):
        square_apart(content[:60], 8, 0, lambda: False)
    with pytest.raises(BadImage, match="not an image"):
        square_apart(b"hello", 8, 0, lambda: False)
    with pytest.raises(BadImage, match="too much time or memory"):
        square_apart(encoded(Image.new("1", (9000, 9000))), 8, 0, lambda: True)  # given up
    monkeypatch.setattr(decoding, "MOST_SECONDS", 0)
    with pytest.raises(BadImage, match="too much time or memory"):
        square_apart(encoded(Image.new("1", (9000, 9000))), 8, 0, lambda: False)


@pytest.mark.slow
def test_a_large_picture_is_answered(monkeypatch, tmp_path):
    monkeypatch.setattr("alexnet.serving.batching.SMALL", 1000)
    monkeypatch.setattr(decoding, "SMALL", 1000)
    path = tmp_path / "best.safetensors"
    network_of(path, architecture("small", width=0.1), 5)
    classifier = load(path)
    content = encoded(noise(0, (90, 70)))
    [expected] = classifier.predict_proba([content])
    asked = Asked(classifier, Colours())
    [image] = asked.post(content).json()["images"]
    found = {one["class"]: one["p"] for one in image["top"]}
    assert found == {
        name: pytest.approx(p, abs=2e-4)
        for name, p in zip(classifier.classes_, expected, strict=True)
    }
    assert asked.top(picture("blue", size=(90, 70)), path="/v1/predict?model=model1") == "blue"
    response = asked.post(content[:4000])
    assert response.status_code == 422
    assert "cut short" in response.json()["error"]
    monkeypatch.setattr(decoding, "MOST_LARGE", 0)
    response = asked.post(content)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    asked.close()


@pytest.mark.slow
def test_the_benchmark_finds_no_wrong_answer(monkeypatch):
    """Its short form, without its figures: these are not for a test."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    from serving import all_of_them

    files = [picture(name, "JPEG", (200, 150)) for name in COLOURS]
    expected = [{name: 1.0} for name in COLOURS]
    large = encoded(Image.new("RGBA", (4000, 3000), (30, 200, 40, 255)), compress_level=1)
    running = Running({"model0": Colours()})
    found = asyncio.run(all_of_them(running.port, 16, 1, files, expected, 3, large, 300))
    running.close()
    assert not found["errors"]
    assert len(found["seconds"]) > 50
    assert len(found["health"]) > 3
    assert set(found["costly"]) <= {"200"}


BESIDE = """
import threading, time
import numpy as np
from makers import Colours, encoded
from PIL import Image
from servers import Asked, picture
asked = Asked()
large = encoded(Image.new("RGBA", (5000, 2500), (30, 200, 40, 255)), compress_level=1)
found = []
thread = threading.Thread(target=lambda: found.append(asked.top(large)))
thread.start()
times = []
while thread.is_alive():
    begun = time.perf_counter()
    assert asked.top(picture("red")) == "red"
    times.append(time.perf_counter() - begun)
    time.sleep(0.05)
thread.join()
assert found == ["green"]
assert len(times) > 5
assert np.median(times) < 0.5  # in a thread, Python's lock would be held for seconds
asked.close()
"""


@pytest.mark.slow
def test_small_pictures_go_on_beside_a_costly_one():
    """In a process of its own: what other tests leave running is none of its business."""
    done = subprocess.run(
        [sys.executable, "-c", BESIDE], cwd=Path(__file__).parent, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
