"""Labelled videos: the right labels, colours and number of frames, and clear words otherwise."""

import sys

import numpy as np
import pytest
from makers import COLOUR_NAMES, COLOURS, Colours, film, network_of
from PIL import Image

from alexnet.classification.predict import load
from alexnet.cli import main
from alexnet.errors import DiskError, InputError
from alexnet.network.description import architecture

cv2 = pytest.importorskip("cv2")

from alexnet.serving import webcam as module  # noqa: E402
from alexnet.serving.webcam import Source, labelled, webcam  # noqa: E402

ORDER = ["red", "blue", "green", "blue"]  # of film's pictures


class Eye(Colours):
    """Tells the colour of arrays, as a run would."""

    def predict_proba(self, images):
        assert all(one.dtype == np.uint8 and one.shape[2] == 3 for one in images)
        return self.probabilities([image.transpose(2, 0, 1) for image in images])


def frames(path):
    """Every picture of a video, RGB."""
    video, found = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = video.read()
        if not there:
            return found
        found.append(frame[:, :, ::-1])


@pytest.fixture
def eye(monkeypatch):
    monkeypatch.setattr(module, "load", lambda run, device: Eye())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "best.safetensors"
    network_of(path, architecture("small", width=0.1), 5)
    return str(path)


def test_labels_colours_and_frames_are_right(eye, tmp_path, capsys):
    source, out, seen = film(tmp_path / "in.mp4"), tmp_path / "out.mp4", []
    count = webcam(
        "run", str(source), save=str(out), window=False, seen=lambda n, best: seen.append((n, best))
    )
    expected = [name for name in ORDER for _ in range(5)]
    assert count == len(expected)
    assert [number for number, _ in seen] == list(range(20))
    assert [best[0][0] for _, best in seen] == [COLOUR_NAMES.get(name, name) for name in expected]
    assert all(len(best) == 3 and best[0][1] > 0.9 for _, best in seen)
    drawn = frames(out)
    assert len(drawn) == 20
    video = cv2.VideoCapture(str(out))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    for name, picture in zip(expected, drawn, strict=True):
        assert picture.shape == (120, 160, 3)
        found = picture[:30].reshape(-1, 3).mean(0)  # the upper part, on which nothing is drawn
        assert np.abs(found - COLOURS[name]).max() < 12
        assert np.abs(picture[-20:].astype(int) - COLOURS[name]).mean() > 20  # the label
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert "20 frames" in capsys.readouterr().err


def test_the_command(run, tmp_path, capsys):
    source, out = film(tmp_path / "in.mp4", each=2), tmp_path / "out.mp4"
    words = ["webcam", run, "--source", str(source), "--no-window", "--save", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{out}: 8 frames\n"
    assert len(frames(out)) == 8
    picture = cv2.VideoCapture(str(source)).read()[1][:, :, ::-1]
    best = load(run).predict([np.ascontiguousarray(picture)])[0]
    seen = []
    webcam(run, str(source), window=False, top=1, seen=lambda n, one: seen.append(one))
    assert seen[0][0][0] == best


def test_labels_fit_whatever_they_are():
    picture = np.asarray(Image.new("RGB", (200, 150), (10, 120, 10)))
    best = [("a class with a name that is far too long to fit " * 3, 1.0), ("naïve", 0.5), ("", 0)]
    drawn = labelled(picture, best)
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert (drawn[:60] == picture[:60]).all()
    assert (drawn != picture).any()
    assert labelled(np.zeros((8, 8, 3), np.uint8), best).shape == (8, 8, 3)


def test_what_is_written_is_whole_or_not_there(eye, tmp_path, monkeypatch):
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def broken(number, best):
        if number == 7:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        webcam("run", str(source), save=str(out), window=False, seen=broken)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]

    def stopped(number, best):
        if number == 7:
            raise KeyboardInterrupt

    assert webcam("run", str(source), save=str(out), window=False, seen=stopped) == 7
    assert len(frames(out)) == 7  # Ctrl-C keeps what there is


def test_a_film_that_could_not_be_written_is_noticed(eye, tmp_path, monkeypatch):
    monkeypatch.setattr(module.Film, "check", lambda film, frames: CHECK(film, frames + 1))
    with pytest.raises(DiskError, match="only 20 of 21 frames"):
        webcam("run", str(film(tmp_path / "in.mp4")), save=str(tmp_path / "o.mp4"), window=False)
    assert not (tmp_path / "o.mp4").exists()


CHECK = module.Film.check


def test_bad_sources(eye, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("not a video")
    cut = film(tmp_path / "cut.mp4").read_bytes()[:300]
    (tmp_path / "cut.mp4").write_bytes(cut)
    for source, message in (
        ("97", "there is no camera 97"),
        (str(tmp_path / "none.mp4"), "there is no file"),
        (str(tmp_path), "there is no file"),
        (str(tmp_path / "text.mp4"), "not a video that can be read"),
        (str(tmp_path / "cut.mp4"), "not a video that can be read"),
        ("http://127.0.0.1:9/x.mp4", "stream .* cannot be opened"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            webcam("run", source, window=False, seen=print)
        assert caught.value.hint


def test_somebody_must_see_it(run, capsys):
    assert main(["webcam", run, "--no-window"]) == 2
    assert "neither shown nor saved" in capsys.readouterr().err


def test_bad_targets(eye, run, tmp_path, capsys):
    source, there = str(film(tmp_path / "in.mp4")), tmp_path / "there.mp4"
    there.write_bytes(b"precious")
    for save, message in (
        (there, "is there already"),
        (tmp_path / "out.avi", "ends in .avi, expected .mp4"),
        (tmp_path / "in.mp4" / "out.mp4", "cannot write"),
    ):
        assert main(["webcam", run, "--source", source, "--no-window", "--save", str(save)]) != 0
        assert message in capsys.readouterr().err
    assert there.read_bytes() == b"precious"
    assert main(["webcam", run, "--top", "0"]) == 2
    assert "top is 0" in capsys.readouterr().err


def test_no_display_is_said(eye, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    source, out = str(film(tmp_path / "in.mp4")), tmp_path / "out.mp4"
    if sys.platform == "linux":
        with pytest.raises(InputError, match="no window can be shown") as caught:
            webcam("run", source, save=str(out))
        assert "--no-window" in caught.value.hint
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(InputError, match="no window can be shown"):
        webcam("run", source, save=str(out))
    assert not out.exists()


def test_a_closed_window_ends_it(eye, tmp_path, monkeypatch):
    shown = []

    class Window:
        def __init__(self, title):
            self.title = title

        def show(self, picture):
            shown.append(picture)
            return len(shown) < 4

        def close(self):
            shown.append("closed")

    monkeypatch.setattr(module, "Window", Window)
    assert webcam("run", str(film(tmp_path / "in.mp4"))) == 4
    assert shown[-1] == "closed"
    assert (shown[0][:30].mean((0, 1)) - COLOURS["red"] < 12).all()


def test_a_source_knows_its_rate(tmp_path):
    source = Source(str(film(tmp_path / "in.mp4")))
    assert (source.rate, source.count, source.camera) == (12.0, 20, False)
    assert len(list(source)) == 20
