"""The page of the server in a real browser: pictures chosen and pasted, the camera, its refusal."""

import contextlib

import browsers
import numpy as np
import pytest
from browsers import DESK, PASTE, PHONE, chromium, expect, needs_browser
from makers import Colours, network_of
from servers import HOSTILE, Running, picture

from alexnet.classification.predict import load
from alexnet.network.description import architecture
from alexnet.scoring.conformal import Calibration

pytestmark = needs_browser
CAMERA = ["--use-fake-device-for-media-stream"]
GRANTED = "--use-fake-ui-for-media-stream"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    network_of(path, architecture("small", width=0.1), 5)
    return load(path)


@pytest.fixture
def served(network):
    hostile = Colours(names=("red", "green", "blue", HOSTILE))  # what is grey has a hostile name
    running = Running({"colours": hostile, "network": network})
    yield running
    running.close()


@contextlib.contextmanager
def opened(served, *flags, size=DESK, host="localhost", **how):
    """The page in a browser with these flags, once it knows its models."""
    known = "--host-resolver-rules=MAP box.lan 127.0.0.1"
    home = f"http://{host}:{served.port}/"
    with chromium(*flags, known) as browser, browsers.opened(browser, home, size, **how) as page:
        page.locator("#model option").nth(1).wait_for(state="attached")
        yield page


def answers(page, name):
    """Waits until the most probable class has that name."""
    expect(page.locator("#answers:not([hidden]) .name").first).to_have_text(name)


def trouble(page, words):
    """Waits until the page says that something is wrong, in these words."""
    expect(page.locator("#trouble:not([hidden])")).to_contain_text(words)


def file(name, content):
    return {"name": name, "mimeType": "image/png", "buffer": content}


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_pictures_are_chosen_and_remembered(served, size):
    with opened(served, size=size, color_scheme="dark") as page:
        names = ["red", "green", "blue"]
        page.set_input_files("#file", [file("a.png", picture(name)) for name in names])
        page.locator("#history button").nth(2).wait_for()
        answers(page, "blue")
        expect(page.locator("#answers .p").first).to_have_text("> 99.9 %")
        told = page.locator("#history span:not(.p)")
        expect(told).to_have_text(["blue", "green", "the colour red"])  # readable names
        page.locator("#history button").nth(2).click()
        answers(page, "the colour red")
        expect(page.locator("#history button")).to_have_count(3)


def test_pictures_are_pasted_and_names_are_text(served):
    with opened(served) as page:
        page.evaluate(PASTE, "rgb(30, 200, 40)")
        answers(page, "green")
        page.evaluate(PASTE, "rgb(128, 128, 128)")
        page.locator("#history button").nth(1).wait_for()
        answers(page, HOSTILE)
        expect(page.locator("#answers img, #history span img")).to_have_count(0)


def test_trouble_is_said(served):
    with opened(served) as page:
        page.set_input_files("#file", [file("a.png", b"hello")])
        trouble(page, "Not an image, or of an unknown format")
        page.set_input_files("#file", [file("a.png", picture("red"))])
        answers(page, "the colour red")
        expect(page.locator("#trouble")).to_be_hidden()
        served.http.should_exit = True
        served.thread.join(10)
        page.locator("#history button").click()
        trouble(page, "does not answer")


def test_the_model_is_chosen_and_looked_into(served):
    with opened(served) as page:
        expect(page.locator("#look")).to_be_disabled()  # this one has no inside
        page.set_input_files("#file", [file("a.png", picture("red"))])
        answers(page, "the colour red")
        page.select_option("#model", "network")
        page.locator("#answers .name", has_text="class").first.wait_for()
        page.click("#look")
        page.locator("#heat:not([hidden])").wait_for()
        assert page.evaluate("document.getElementById('heat').src").startswith("blob:")
        page.click("#look")
        page.locator("#heat").wait_for(state="hidden")


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_the_camera_is_classified_frame_by_frame(served, tmp_path, size):
    film = tmp_path / "film.mjpeg"
    frame = {name: picture(name, "JPEG", (320, 240)) for name in ("red", "blue")}
    film.write_bytes(b"".join(frame[name] * 60 for name in frame))
    with opened(
        served, *CAMERA, GRANTED, f"--use-file-for-fake-video-capture={film}", size=size
    ) as page:
        under_way, most = set(), []

        def begins(request):
            if "/v1/" in request.url:
                under_way.add(request)
                most.append(len(under_way))

        page.on("request", begins)
        page.on("requestfinished", lambda request: under_way.discard(request))
        page.click("#camera")
        for name in ("red", "blue"):
            page.locator("#answers li:first-child .name", has_text=name).wait_for()
            page.locator("#history span", has_text=name).first.wait_for()
        page.locator("#speed", has_text="frames/s").wait_for()
        expect(page.locator("#video")).to_be_visible()
        page.click("#camera")
        page.locator("#video").wait_for(state="hidden")
        assert len(most) > 5
        assert max(most) == 1  # never more than one frame on its way
        expect(page.locator("#empty")).to_be_visible()


def test_a_refused_camera_is_explained(served):
    with opened(served, *CAMERA) as page:  # without a click on "Allow"
        page.click("#camera")
        trouble(page, "camera was refused")
        trouble(page, "Allow it")
        page.set_input_files("#file", [file("a.png", picture("red"))])
        answers(page, "the colour red")


def test_an_absent_camera_is_explained(served):
    with opened(served, GRANTED) as page:
        page.click("#camera")
        trouble(page, "There is no camera")


def test_a_page_without_the_right_to_a_camera_says_how(served):
    with opened(served, *CAMERA, GRANTED, host="box.lan") as page:
        page.click("#camera")
        page.locator("#trouble:not([hidden])").wait_for()
        assert f"ssh -L {served.port}:localhost:{served.port} USER@box.lan" in page.inner_text(
            "#trouble"
        )


def test_it_says_that_it_does_not_know(served, network):
    likely, near = (np.linspace(low, 1, 99, dtype=np.float32) for low in (0.9, 0))
    memory = np.zeros((1, 96), np.float16)
    network._calibration = Calibration(likely, near, likely, near, memory)
    sure = Running({"network": network, "colours": Colours()})
    with opened(sure, size=PHONE) as page:
        button = page.locator("#unsure")
        page.set_input_files("#file", [file("a.png", picture("red"))])
        page.locator("#answers:not([hidden]) .name", has_text="class").first.wait_for()
        expect(page.locator("#verdict")).to_be_hidden()
        button.click()
        expect(page.locator("#verdict:not([hidden])")).to_have_text(
            "none of these; unlike anything seen"
        )
        page.select_option("#model", "colours")  # which cannot
        page.locator("#answers .name", has_text="red").first.wait_for()
        expect(button).to_be_hidden()
        expect(page.locator("#verdict")).to_be_hidden()
    sure.close()
