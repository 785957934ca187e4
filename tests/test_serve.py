"""The server: what it answers, and that nobody can make it answer wrongly, slowly, or to others.

Most tests speak to a real server on a loopback port. Its classifier tells colours apart, so that
every client knows its own answer.
"""

import concurrent.futures
import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib

import httpx
import numpy as np
import pytest
from makers import COLOURS, encoded, network_of, noise, run_directory
from PIL import Image

from alexnet.classification.predict import load
from alexnet.cli import main
from alexnet.data.images import load_image
from alexnet.errors import InputError
from alexnet.network.checkpoint import load_model
from alexnet.network.description import architecture
from alexnet.serving import batching, bodies, guard
from alexnet.serving.api import Server, make_app
from alexnet.serving.guard import Rules, listen
from alexnet.serving.serve import http_server, load_models, serve, where_to_look

HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = {"red": "the colour red"}  # readable ones that differ
JPEG = {"content-type": "image/jpeg"}


class Colours:
    """Says which of the colours the middle of an image is nearest to, after `seconds`."""

    def __init__(self, seconds=0.0, names=tuple(COLOURS)):
        self.classes = list(names)
        self.names = [NAMES.get(one, one) for one in names]
        self.seconds, self.sizes = seconds, []
        self.free = threading.Event()
        self.free.set()

    def square(self, content):
        return load_image(content, 8)

    def probabilities(self, squares):
        self.free.wait(20)
        time.sleep(self.seconds)
        self.sizes.append(len(squares))
        middle = np.stack(squares)[:, :, 4, 4].astype(float)
        far = np.abs(middle[:, None] - np.array(list(COLOURS.values()))[None]).sum(2)
        near = np.exp(-far / 10)
        return (near / near.sum(1, keepdims=True)).astype(np.float32)


def picture(name, kind="PNG", size=(20, 12)):
    return encoded(Image.new("RGB", size, COLOURS[name]), kind)


def bomb():
    """A PNG of 20,000 x 20,000 px in a few hundred bytes."""

    def chunk(kind, data):
        whole = kind + data
        return len(data).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    side = (20_000).to_bytes(4, "big")
    header = chunk(b"IHDR", side + side + b"\x08\x02\x00\x00\x00")
    data = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def everything(line):
    """What comes until the server closes the line or is silent: one answer may come in pieces."""
    answer = b""
    with contextlib.suppress(TimeoutError):
        while part := line.recv(65536):
            answer += part
    return answer


def until(condition, seconds=30):
    """Waits for something that takes as long as the machine is busy; whether it came."""
    deadline = time.monotonic() + seconds
    while not (came := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return came


def is_cut(line):
    """Whether the server has closed this line."""
    line.settimeout(0.05)
    try:
        return line.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


class Running:
    """A server on a free loopback port."""

    def __init__(self, models, token="", loopback=True, log=None):
        self.server = Server(models)
        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        rules = Rules(loopback, frozenset({"localhost", "box.lan"}), token)
        self.http = http_server(make_app(self.server, rules, log))
        self.thread = threading.Thread(target=self.http.run, args=([self.socket],), daemon=True)
        self.thread.start()
        while not self.http.started:
            time.sleep(0.01)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def post(self, content, path="/v1/predict", headers=JPEG, **how):
        return self.client.post(path, content=content, headers=headers, **how)

    def top(self, content, **how):
        return self.post(content, **how).json()["images"][0]["top"][0]["class"]

    def raw(self, data, seconds=10):
        """What comes back for these bytes."""
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.settimeout(seconds)
            line.sendall(data)
            return everything(line)

    def close(self):
        self.client.close()
        self.http.should_exit = True
        self.thread.join(10)
        self.server.stop()
        self.socket.close()
        assert not self.thread.is_alive()


@pytest.fixture
def start():
    """Starts servers, and stops them after the test."""
    with contextlib.ExitStack() as stack:

        def started(*models, **how):
            found = {f"model{n}": one for n, one in enumerate(models or [Colours()])}
            running = Running(found, **how)
            stack.callback(running.close)
            return running

        yield started


@pytest.fixture
def served(start):
    return start()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "best.safetensors"
    network_of(path, architecture("small", width=0.1), 5)
    return path


# -- answers


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_a_picture_of_any_known_format(served, kind):
    response = served.post(picture("green", kind), headers={"content-type": "image/png"})
    assert response.status_code == 200
    body = response.json()
    assert body["model"] == "model0"
    [image] = body["images"]
    assert image["top"][0]["class"] == "green"
    assert sum(one["p"] for one in image["top"]) == pytest.approx(1, abs=1e-5)
    assert len(image["top"]) == 4


def test_several_pictures_in_order_and_a_bad_one_among_them(served):
    files = [("images", picture(name)) for name in ("red", "blue", "green")]
    files.insert(1, ("images", b"no image"))
    images = served.client.post("/v1/predict?top=1", files=files).json()["images"]
    assert [one["top"][0]["class"] if "top" in one else "bad" for one in images] == [
        "red", "bad", "blue", "green",
    ]  # fmt: skip
    assert "not an image" in images[1]["error"]
    assert "JPEG" in images[1]["hint"]


def test_large_pictures_in_one_body_stay_in_memory(served, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", None)  # what a spooled file turns to
    big = encoded(noise(1, (900, 900)), "PNG")
    assert len(big) > 2 * 2**20
    response = served.client.post(
        "/v1/predict", files=[("images", big), ("images", picture("red"))]
    )
    assert response.json()["images"][1]["top"][0]["class"] == "red"


def test_the_answer_is_that_of_the_classifier(start, weights):
    classifier = load(weights)
    running = start(classifier)
    for seed in range(3):
        content = encoded(noise(seed, (90, 70)), "JPEG")
        [expected] = classifier.predict_proba([content])
        [image] = running.post(content).json()["images"]
        found = {one["class"]: one["p"] for one in image["top"]}
        assert found == {
            name: pytest.approx(p, abs=2e-4)
            for name, p in zip(classifier.classes_, expected, strict=True)
        }


def test_a_class_has_an_identifier_and_a_name(start, weights):
    model = load(weights)
    model.names = [f"name {number}" for number in range(5)]
    running = start(Colours(), model)
    [image] = running.post(picture("red")).json()["images"]
    assert (image["top"][0]["class"], image["top"][0]["name"]) == ("red", "the colour red")
    one = running.client.get("/v1/models").json()["models"][1]
    assert (one["classes"][3], one["names"][3]) == ("class 3", "name 3")
    maps = [
        running.post(picture("red"), f"/v1/explain?model=model1&class={word}").content
        for word in ("class%203", "name%203")
    ]
    assert maps[0] == maps[1] and maps[0].startswith(b"\x89PNG")
    long = running.post(picture("red"), f"/v1/explain?model=model1&class={'x' * 5000}")
    assert long.status_code == 404 and len(long.text) < 400


def test_models_are_listed_and_chosen(start, weights):
    running = start(Colours(), load(weights))
    models = running.client.get("/v1/models").json()["models"]
    assert [(one["name"], len(one["classes"]), one["explains"]) for one in models] == [
        ("model0", 4, False), ("model1", 5, True),
    ]  # fmt: skip
    for name in ("model0", "model1"):
        response = running.post(picture("red"), f"/v1/predict?model={name}&top=2").json()
        assert response["model"] == name
        assert len(response["images"][0]["top"]) == 2


def test_grad_cam_is_a_picture(start, weights):
    running = start(load(weights))
    content = encoded(noise(0, (90, 70)))
    response = running.post(content, "/v1/explain?class=class%203")
    assert response.headers["content-type"] == "image/png"
    first = Image.open(io.BytesIO(response.content))
    assert first.size == (batching.SHOWN_SIDE,) * 2
    other = running.post(content, "/v1/explain?class=class%202")
    assert other.content != response.content
    assert running.post(content, "/v1/explain").status_code == 200


def test_figures_for_prometheus(served):
    served.post(picture("red"))
    served.post(b"no image")
    served.client.get("/somewhere/else")
    text = served.client.get("/metrics").text
    for line in (
        'alexnet_requests_total{path="/v1/predict",status="200"} 1.0',
        'alexnet_requests_total{path="/v1/predict",status="415"} 1.0',
        'alexnet_requests_total{path="other",status="404"} 1.0',
        'alexnet_classified_total{model="model0"} 1',
        'alexnet_waiting{model="model0"} 0',
        'alexnet_request_seconds_count{path="/v1/predict"} 2.0',
    ):
        assert line in text.splitlines()


def test_the_log_holds_neither_images_nor_queries(start):
    lines = []
    running = start(log=lines.append, token="geheim")
    running.client.get("/?token=geheim")
    running.post(picture("red"), headers=JPEG | {"authorization": "Bearer geheim"})
    running.client.get("/a%0Ab%1b[31m")
    assert until(lambda: len(lines) == 3)  # the last line comes after the answer
    assert [re.sub(r"\d+ ms", "N ms", line) for line in lines] == [
        "127.0.0.1 GET / 303 N ms",
        "127.0.0.1 POST /v1/predict 200 N ms",
        r"127.0.0.1 GET /a\nb\x1b[31m 404 N ms",
    ]


def test_the_document_is_openapi(served):
    document = served.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"/v1/predict", "/v1/explain", "/v1/models", "/healthz", "/metrics"} <= {
        *document["paths"]
    }
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert {"image/jpeg", "multipart/form-data"} <= set(body)


@pytest.mark.filterwarnings("default")  # what the tool uses is its own affair
def test_schemathesis_finds_nothing(start):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    running = start()
    address = f"http://127.0.0.1:{running.port}/openapi.json"
    schema = schemathesis.openapi.from_url(address)
    seen = []

    # bytes made up are no image: that such a body is refused says nothing about the document
    wanted = [
        not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance, checks.response_headers_conformance,
        checks.unsupported_method,
    ]  # fmt: skip

    for operation in schema.get_all_operations():
        one = operation.ok()

        @settings(
            max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=one.as_strategy())
        def ask(case):
            seen.append(case.path)
            case.call_and_validate(checks=wanted)

        ask()
    assert set(seen) == {"/v1/predict", "/v1/explain", "/v1/models", "/healthz", "/metrics"}
    assert len(seen) > 80


# -- what is refused


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "body is empty"),
        (b"hello", 415, "not an image, or of an unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not an image"),
        (picture("red", "PNG")[:60], 422, "cut short"),
        (encoded(noise(0, (200, 200)), "JPEG")[:9000], 422, "cut short"),
        (picture("red", "PNG")[:18], 422, "header cannot be read"),
        (picture("red", size=(1, 1)), 422, "too small"),
        (bomb(), 413, "megapixels"),
        (bytes(bodies.MOST_BYTES + 1), 413, "larger than 20 MiB"),
    ],
)
def test_bad_bodies(served, content, status, message):
    response = served.post(content)
    assert response.status_code == status, response.text
    assert message in response.json()["error"]
    assert response.json()["hint"]
    assert served.top(picture("blue")) == "blue"


def test_an_exported_file_cannot_be_looked_into(served):
    response = served.post(picture("red"), "/v1/explain")
    assert response.status_code == 409
    assert "exported file" in response.json()["error"]


def test_a_bad_picture_is_not_explained(start, weights):
    running = start(load(weights))
    for content, status in ((b"", 400), (b"hello", 415), (bomb(), 413), (picture("red")[:60], 422)):
        assert running.post(content, "/v1/explain").status_code == status
    two = [("images", picture("red"))] * 2
    assert running.client.post("/v1/explain", files=two).status_code == 413
    response = running.post(picture("red"), "/v1/explain?class=clas%203")
    assert response.status_code == 404
    assert response.json()["hint"] == "Did you mean 'class 3'?"


def test_a_body_without_a_length_is_cut_at_the_limit(served, monkeypatch):
    monkeypatch.setattr(bodies, "MOST_BYTES", 100_000)

    def endless():
        for _ in range(100):
            yield bytes(10_000)

    response = served.post(endless())
    assert response.status_code == 413
    assert served.server.bodies.held == 0


def test_a_hundred_megabytes_are_refused_without_being_read(served):
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    answer = served.raw(head + b"Content-Length: 104857600\r\n\r\n" + bytes(1000))
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("text/plain", 415, "text/plain"),
        ("", 415, "expected an image type"),
        ("application/json", 415, "expected an image type"),
        ("multipart/form-data", 400, "cannot be read"),
        ("multipart/form-data; boundary=x", 400, "cannot be read"),
    ],
)
def test_bad_content_types(served, kind, status, message):
    response = served.post(picture("red"), headers={"content-type": kind})
    assert response.status_code == status, response.text
    assert message in response.json()["error"]


def test_bad_multipart_bodies(served):
    many = [("images", picture("red"))] * (bodies.MOST_FILES + 1)
    assert served.client.post("/v1/predict", files=many).status_code == 400
    files = {"images": picture("red")}
    assert served.client.post("/v1/predict", files=files, data={"a": "b"}).status_code == 400
    bad = [("images", b"no image")] * 2
    assert served.client.post("/v1/predict", files=bad).status_code == 415


def test_bad_questions(served):
    response = served.post(picture("red"), "/v1/predict?model=modell0")
    assert response.status_code == 404
    assert response.json()["hint"] == "Did you mean 'model0'?"
    for top in ("0", "-1", "x", "1001"):
        response = served.post(picture("red"), f"/v1/predict?top={top}")
        assert response.status_code == 422
        assert response.json()["error"].startswith("top: ")
    assert served.client.get("/v1/predict").status_code == 405
    assert served.client.get("/v1/predict").headers["allow"] == "POST"
    assert served.client.get("/../../etc/passwd").json()["error"] == "Not Found."
    assert served.raw(b"nonsense\r\n\r\n", 2).startswith(b"HTTP/1.1 400")


def test_what_fails_inside_is_said_to_have_failed(start, capsys):
    class Broken(Colours):
        def probabilities(self, squares):
            raise RuntimeError("out of something")

    running = start(Broken(), Colours())
    response = running.post(picture("red"))
    assert response.status_code == 500
    assert "something failed inside" in response.json()["error"]
    assert "out of something" not in response.text
    assert "nosniff" in response.headers["x-content-type-options"]
    assert running.top(picture("red"), path="/v1/predict?model=model1") == "red"
    assert "RuntimeError: out of something" in capsys.readouterr().err  # the server's own words


# -- who may ask


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.168.1.7", "", "["])
def test_another_name_is_refused_on_loopback(served, host):
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
    assert b" 421 " in served.raw(head.encode(), 1).split(b"\r\n")[0] + b" "


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9999", "127.0.0.1", "[::1]:80", "BOX.lan"]
)
def test_known_names_are_let_in(served, host):
    assert served.client.get("/v1/models", headers={"host": host}).status_code == 200


def test_addresses_are_let_in_from_outside(start):
    running = start(loopback=False, token="t")
    bearer = {"authorization": "Bearer t"}
    for host, status in (("192.168.1.7:80", 200), ("[fe80::1]", 200), ("evil.example", 421)):
        answer = running.client.get("/v1/models", headers=bearer | {"host": host})
        assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_pages_of_other_origins_are_refused(served, headers):
    response = served.post(picture("red"), headers=JPEG | headers)
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_the_own_page_is_let_in(served):
    own = {"origin": f"http://127.0.0.1:{served.port}", "sec-fetch-site": "same-origin"}
    assert served.post(picture("red"), headers=JPEG | own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert served.client.get("/", headers=link).status_code == 200


def test_no_cors(served):
    response = served.client.options(
        "/v1/predict",
        headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
    )
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_token_is_asked_for(start):
    running = start(token="geheim")
    client = running.client
    assert client.get("/healthz").json() == {"status": "ok"}
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nowhere"):
        response = client.get(path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    for given in ("Bearer gehein", "Bearer", "Basic geheim", "geheim", "Bearer é"):
        headers = {"authorization": given.encode()}
        assert client.get("/v1/models", headers=headers).status_code == 401
    bearer = {"authorization": "bearer geheim"}
    assert client.get("/v1/models", headers=bearer).status_code == 200
    page = client.get("/")
    assert page.status_code == 401
    assert "<form" in page.text
    assert client.get("/?token=wrong").status_code == 401
    opened = client.get("/?token=geheim")
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert client.get("/").status_code == 200  # the cookie is kept
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models", headers={"cookie": "alexnet-1=geheim"}).status_code == 401


def test_the_page_allows_only_itself(served):
    response = served.client.get("/")
    policy = response.headers["content-security-policy"]
    for part in ("default-src 'none'", "frame-ancestors 'none'", "connect-src 'self'"):
        assert part in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://(?!\$|localhost)", response.text)  # nothing from elsewhere
    assert not re.search(r"innerHTML|insertAdjacent|outerHTML|document\.write", response.text)
    for path in ("/", "/healthz", "/nowhere", "/v1/models"):
        headers = served.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


# -- many at once, slow ones, and those that leave


def test_each_of_many_clients_gets_its_own_answer(start):
    classifier = Colours(0.005)
    running = start(classifier)
    names = list(COLOURS)

    def ask(number):
        name = names[number % len(names)]
        with httpx.Client(base_url=running.client.base_url, timeout=30) as client:
            for _ in range(5):
                answer = client.post("/v1/predict", content=picture(name), headers=JPEG)
                assert answer.status_code == 200, answer.text
                assert answer.json()["images"][0]["top"][0]["class"] == name

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        list(pool.map(ask, range(24)))
    assert sum(classifier.sizes) == 120
    assert max(classifier.sizes) > 4  # they were gathered
    assert max(classifier.sizes) <= batching.BATCH


def test_a_full_queue_says_when_to_come_again(start, monkeypatch):
    monkeypatch.setattr(batching, "MOST_WAITING", 4)
    classifier = Colours()
    classifier.free.clear()  # holds everything up
    running = start(classifier)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(running.post, picture("red")) for _ in range(12)]
        assert until(lambda: sum(one.done() for one in asked) == 8)
        refused = [one.result() for one in asked if one.done()]
        assert [one.status_code for one in refused] == [503] * 8
        assert all(one.headers["retry-after"] == "1" for one in refused)
        classifier.free.set()
        answers = [one.result() for one in asked]
    assert [one.status_code for one in answers].count(200) == 4
    assert nothing_is_left(running)


def nothing_is_left(running):
    return running.server.models["model0"].waiting == 0 and running.server.bodies.held == 0


def test_a_thousand_requests_at_once_are_all_answered(start):
    guard.allow_connections()  # both ends of each line are files of this process
    running = start(Colours(0.002))
    content = picture("green")
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    request = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    lines = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(1000)]
    for line in lines:
        line.sendall(request)
    statuses = []
    for line in lines:
        line.settimeout(30)
        answer = everything(line)
        line.close()
        statuses.append(int(answer[9:12]))
        if statuses[-1] == 200:
            assert b'"top":[{"class":"green"' in answer
        else:
            assert b"retry-after: 1" in answer
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 100
    assert running.top(picture("red")) == "red"
    assert nothing_is_left(running)


def test_a_slow_body_ends_and_nobody_waits_for_it(start, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 5.0)
    running = start()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.sendall(head + b"Content-Length: 1000\r\n\r\n")
        for byte in b"\x89PNG":
            line.sendall(bytes([byte]))
            assert running.top(picture("blue")) == "blue"
        line.settimeout(0.01)
        with pytest.raises(TimeoutError):  # all four were answered while it was still open
            line.recv(1)
        line.settimeout(30)
        answer = everything(line)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not come within" in answer
    assert running.server.bodies.held == 0


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST /v1/pre",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nX: 1\r\n",
        b"POST /v1/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
    ],
)
def test_a_slow_line_is_cut(start, monkeypatch, beginning):
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.5)
    running = start()
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.sendall(beginning)
        line.settimeout(0.1)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 30:  # keeps sending, so that it is never idle
                if beginning:
                    line.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    if not line.recv(65536):
                        break
    assert 0.4 < time.monotonic() - begun < 30


def test_too_long_a_head_is_refused(served):
    answer = served.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000, 2)
    assert answer.startswith(b"HTTP/1.1 400")


def test_too_many_lines_are_cut(start, monkeypatch):
    monkeypatch.setattr(guard, "MOST_CONNECTIONS", 5)
    running = start()
    with contextlib.ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            for _ in range(8)
        ]
        assert until(lambda: sum(map(is_cut, lines)) == 3)
        time.sleep(0.2)
        assert sum(map(is_cut, lines)) == 3  # and the others stay

    def answers():
        with contextlib.suppress(httpx.TransportError):
            return running.top(picture("red")) == "red"

    assert until(answers)  # once it has seen that the five have left


def test_too_much_at_once_is_refused(start, monkeypatch):
    monkeypatch.setattr(bodies, "MOST_HELD", 1000)
    running = start()
    response = running.post(encoded(noise(0, (60, 60))))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert running.server.bodies.held == 0


def test_too_many_requests_at_once(start, monkeypatch):
    monkeypatch.setattr(guard, "MOST_ACTIVE", 0)
    running = start()
    assert running.post(picture("red")).status_code == 503
    assert running.client.get("/healthz").status_code == 200


def left(running):
    """How many clients left before they had an answer, by the server's own count."""
    counts = re.findall(r'status="499".* (\d+)', running.client.get("/metrics").text)
    return sum(map(int, counts))


def test_clients_that_leave_cost_nothing(start):
    classifier = Colours()
    classifier.free.clear()
    running = start(classifier)
    content = picture("red")
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(content) + content
    for cut in (len(head), len(whole) - 5, len(whole), len(whole), len(whole)):
        line = socket.create_connection(("127.0.0.1", running.port))
        line.sendall(whole[:cut])
        time.sleep(0.1)
        line.close()
    assert until(lambda: left(running) == 5)
    classifier.free.set()
    assert running.top(picture("blue")) == "blue"
    assert nothing_is_left(running)
    assert sum(classifier.sizes) < 4  # of three that left, at most the one that was under way


# -- the command


def test_unusable_runs_are_refused_at_the_start(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    run_directory(tmp_path / "unfinished")
    for name, message in (
        ("nothing", "not a run directory|there is no|cannot be read"),
        ("empty", "is not a run directory"),
        ("unfinished", "was not finished"),
    ):
        assert main(["serve", str(tmp_path / name), "--port", "0"]) == 2
        assert re.search(message, capsys.readouterr().err)
    for words, message in (
        (["serve"], "nothing to serve"),
        (["serve", "x", "--port", "65536"], "port is"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_a_port_in_use_is_said(weights):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} at 127.0.0.1 is in use") as caught:
            serve([str(weights)], port=port)
    assert "--port" in caught.value.hint
    for host in ("203.0.113.5", "no.such.name.invalid"):
        with pytest.raises(InputError, match="cannot be used"):
            serve([str(weights)], host=host, port=0)


def test_a_missing_extra_is_said(monkeypatch, weights, capsys):
    for command, module in (("serve", "uvicorn"), ("webcam", "cv2")):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, f"alexnet.serving.{command}", raising=False)
        assert main([command, str(weights)]) == 2
        assert f"alexnet[{command}]" in capsys.readouterr().err


def test_models_have_the_names_of_their_runs(weights, tmp_path):
    other = tmp_path / "cats.safetensors"
    other.write_bytes(weights.read_bytes())
    folder = weights.parent
    found = load_models([str(folder), str(weights), str(other)])
    assert list(found) == [folder.name, f"{folder.name}-2", "cats"]


def test_an_exported_file_is_served_without_torch(weights, tmp_path):
    pytest.importorskip("onnx")
    from alexnet.exporting.export import onnx_bytes

    trained = load_model(weights)
    about = {"version": 1, "classes": trained.classes, "names": trained.names}
    about["preprocessing"] = {**vars(trained.preprocessing)}
    model, image = tmp_path / "exported.onnx", tmp_path / "image.png"
    model.write_bytes(onnx_bytes(trained, about))
    image.write_bytes(encoded(noise(0, (90, 70))))
    code = f"""if True:
        import asyncio, pathlib, sys
        from alexnet.serving.api import Server
        from alexnet.serving.serve import load_models, warm_up
        server = Server(load_models([{str(model)!r}]))
        model = server.models["exported"]
        warm_up(model)
        assert not model.explains
        print(asyncio.run(model.predict(pathlib.Path({str(image)!r}).read_bytes())).tolist())
        sys.exit("torch" in sys.modules)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    expected = load(weights, precision="fp32").predict_proba([image])[0]
    assert json.loads(result.stdout) == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_remote_machine_prints_the_tunnel(monkeypatch):
    server = Server({"m": Colours()})
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert where_to_look(server, "127.0.0.1", 8123, True, "")[:2] == [
        "serving m (4 classes)", "open http://localhost:8123/",
    ]  # fmt: skip
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 22")
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    lines = where_to_look(server, "127.0.0.1", 8123, True, "")
    assert "  ssh -L 8123:localhost:8123 anna@10.0.0.2" in lines
    lines = where_to_look(server, "0.0.0.0", 80, False, "tok")
    assert f"open http://{socket.gethostname()}:80/?token=tok" in lines
    server.stop()


def test_the_command_serves_until_it_is_stopped(weights):
    words = [sys.executable, "-m", "alexnet.cli", "serve", str(weights), "--port", "0"]
    with subprocess.Popen(
        [*words, "--host", "0.0.0.0"], stderr=subprocess.PIPE, text=True
    ) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        told = re.search(r"http://\S+:(\d+)/\?token=(\S+)", "".join(lines))
        port, token = told.groups()
        assert len(token) >= 20
        url = f"http://127.0.0.1:{port}/v1/predict"
        assert httpx.post(url, content=picture("red"), headers=JPEG).status_code == 401
        bearer = JPEG | {"authorization": f"Bearer {token}"}
        answer = httpx.post(url, content=picture("red"), headers=bearer)
        assert len(answer.json()["images"][0]["top"]) == 5
        process.send_signal(signal.SIGINT)
        # a shell that runs the tests in the background lets its programs ignore Ctrl-C
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert process.wait(20) == (0 if ignored else 130)
        assert "Traceback" not in process.stderr.read()
