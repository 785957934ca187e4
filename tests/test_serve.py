"""The server: what it answers, what it refuses, who may ask, and the command.

What needs no socket is asked without one; the rest shares one server.
"""

import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given, strategies
from makers import Colours, encoded, network_of, noise, run_directory
from PIL import Image
from servers import JPEG, Asked, Running, bomb, picture, rules

from alexnet.classification.predict import load
from alexnet.cli import main
from alexnet.errors import InputError
from alexnet.network.checkpoint import load_model
from alexnet.network.description import architecture
from alexnet.serving import batching, bodies, connections, guard
from alexnet.serving.guard import Authority
from alexnet.serving.serve import load_models, serve, where_to_look

DOCS = (Path(__file__).parent.parent / "docs" / "serve.md").read_text("utf-8")


@pytest.fixture(scope="module")
def served():
    """One server for all tests that leave it as it was."""
    running = Running({"model0": Colours()})
    yield running
    running.close()


@pytest.fixture
def asked():
    """Makes applications that are asked without a socket."""
    with contextlib.ExitStack() as stack:

        def made(*models, **how):
            one = Asked(*models, **how)
            stack.callback(one.close)
            return one

        yield made


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "best.safetensors"
    network_of(path, architecture("small", width=0.1), 5)
    return path


@pytest.fixture(scope="module")
def network(weights):
    return load(weights)


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


def test_the_answer_is_that_of_the_classifier(asked, network):
    running = asked(network)
    for seed in range(3):
        content = encoded(noise(seed, (90, 70)), "JPEG")
        [expected] = network.predict_proba([content])
        [image] = running.post(content).json()["images"]
        found = {one["class"]: one["p"] for one in image["top"]}
        assert found == {
            name: pytest.approx(p, abs=2e-4)
            for name, p in zip(network.classes_, expected, strict=True)
        }


def test_a_class_has_an_identifier_and_a_name(asked, network):
    network.names = [f"name {number}" for number in range(5)]
    running = asked(Colours(), network)
    [image] = running.post(picture("red")).json()["images"]
    assert (image["top"][0]["class"], image["top"][0]["name"]) == ("red", "the colour red")
    one = running.get("/v1/models").json()["models"][1]
    assert (one["classes"][3], one["names"][3]) == ("class 3", "name 3")
    maps = [
        running.post(picture("red"), f"/v1/explain?model=model1&class={word}").content
        for word in ("class%203", "name%203")
    ]
    assert maps[0] == maps[1] and maps[0].startswith(b"\x89PNG")
    long = running.post(picture("red"), f"/v1/explain?model=model1&class={'x' * 5000}")
    assert long.status_code == 404 and len(long.text) < 400


def test_models_are_listed_and_chosen(asked, network):
    running = asked(Colours(), network)
    models = running.get("/v1/models").json()["models"]
    assert [(one["name"], len(one["classes"]), one["explains"]) for one in models] == [
        ("model0", 4, False), ("model1", 5, True),
    ]  # fmt: skip
    for name in ("model0", "model1"):
        response = running.post(picture("red"), f"/v1/predict?model={name}&top=2").json()
        assert response["model"] == name
        assert len(response["images"][0]["top"]) == 2


def test_grad_cam_is_a_picture(asked, network):
    running = asked(network)
    content = encoded(noise(0, (90, 70)))
    response = running.post(content, "/v1/explain?class=class%203")
    assert response.headers["content-type"] == "image/png"
    first = Image.open(io.BytesIO(response.content))
    assert first.size == (batching.SHOWN_SIDE,) * 2
    other = running.post(content, "/v1/explain?class=class%202")
    assert other.content != response.content
    assert running.post(content, "/v1/explain").status_code == 200


def test_figures_for_prometheus(asked):
    running = asked()
    running.post(picture("red"))
    running.post(b"no image")
    running.get("/somewhere/else")
    text = running.get("/metrics").text
    for line in (
        'alexnet_requests_total{path="/v1/predict",status="200"} 1.0',
        'alexnet_requests_total{path="/v1/predict",status="415"} 1.0',
        'alexnet_requests_total{path="other",status="404"} 1.0',
        'alexnet_classified_total{model="model0"} 1',
        'alexnet_waiting{model="model0"} 0',
        'alexnet_request_seconds_count{path="/v1/predict"} 2.0',
    ):
        assert line in text.splitlines()


def test_the_log_holds_neither_images_nor_queries(asked):
    lines = []
    running = asked(log=lines.append, token="geheim")
    running.get("/?token=geheim")
    bearer = {"authorization": "Bearer geheim"}
    running.post(picture("red"), headers=JPEG | bearer)
    running.get("/a%0Ab%1b[31m", headers=bearer)
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


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the tool uses is its own affair
def test_schemathesis_finds_nothing(served):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    address = f"http://127.0.0.1:{served.port}/openapi.json"
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


def test_a_bad_picture_is_not_explained(asked, network):
    running = asked(network)
    for content, status in ((b"", 400), (b"hello", 415), (bomb(), 413), (picture("red")[:60], 422)):
        assert running.post(content, "/v1/explain").status_code == status
    two = [("images", picture("red"))] * 2
    assert running.ask("POST", "/v1/explain", files=two).status_code == 413
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
    status, _, _ = served.raw(head + b"Content-Length: 104857600\r\n\r\n" + bytes(1000))
    assert status == 413


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("text/plain", 415, "text/plain"),
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
    assert served.client.get("/v1/predict").headers["allow"] == "POST, OPTIONS"
    assert served.client.get("/../../etc/passwd").json()["error"] == "Not Found."
    assert served.raw(b"nonsense\r\n\r\n")[0] == 400


def test_what_fails_inside_is_said_to_have_failed(asked, capsys):
    class Broken(Colours):
        def probabilities(self, squares):
            raise RuntimeError("out of something")

    running = asked(Broken(), Colours())
    response = running.post(picture("red"))
    assert response.status_code == 500
    assert "something failed inside" in response.json()["error"]
    assert "out of something" not in response.text
    assert "nosniff" in response.headers["x-content-type-options"]
    assert running.top(picture("red"), path="/v1/predict?model=model1") == "red"
    assert "RuntimeError: out of something" in capsys.readouterr().err  # the server's own words


# -- who may ask


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost", "localhost", None),
        ("LOCALHOST.:80", "localhost", 80),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("[::1]", "::1", None),
        ("[0:0:0::1]:1", "::1", 1),
        ("a_b.c-d", "a_b.c-d", None),
    ],
)
def test_hosts_are_understood(text, host, port):
    assert Authority.read(text) == Authority(host, port)


@given(strategies.text(max_size=20) | strategies.text("aB1.:[]@/?# \t\x00%-", max_size=20))
def test_whatever_is_no_host_is_refused_by_one_rule(text):
    try:
        found = Authority.read(text)
    except ValueError:
        return
    assert re.fullmatch(r"[0-9a-z._:-]*", found.host)
    assert found == Authority.read(text.upper())
    shown = f"[{found.host}]" if ":" in found.host else found.host
    if shown:
        assert Authority.read(shown).host.removesuffix(".") == found.host.removesuffix(".")


def test_addresses_are_let_in_from_outside(asked):
    running = asked(loopback=False, token="t")
    bearer = {"authorization": "Bearer t"}
    for host, status in (("192.168.1.7:80", 200), ("[fe80::1]", 200), ("evil.example", 421)):
        answer = running.get("/v1/models", headers=bearer | {"host": host})
        assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://localhost:1"},
        {"origin": "http://user@localhost"},
        {"origin": "ftp://localhost"},
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


def test_a_token_is_asked_for(asked):
    client = asked(token="geheim")
    assert client.get("/healthz").json() == {"status": "ok"}
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nowhere"):
        response = client.get(path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer gehein", "Bearer", "Basic geheim", "geheim", "Bearer é"):
        headers = {"authorization": wrong.encode()}
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
    kept = {"cookie": cookie.partition(";")[0]}
    assert client.get("/", headers=kept).status_code == 200
    assert client.get("/v1/models", headers=kept).status_code == 200
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


# -- what is understood, as the documentation says


def rows(title):
    """The rows of the table below a title of docs/serve.md: lists of what stands in backticks."""
    section = DOCS.partition(f"### {title}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[re.findall("`(.*?)`", cell) for cell in line.strip("|").split("|")] for line in lines]


def chunked(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize(("request_line", "headers", "status"), rows("What is understood"))
def test_what_the_page_says_is_answered(served, request_line, headers, status):
    [first], [status] = request_line, map(int, status)
    method, target = first.split()
    body = picture("red") if method == "POST" else b""
    if any("multipart" in one for one in headers):
        about = b'Content-Disposition: form-data; name="i"; filename="i"'
        body = b"--x\r\n%s\r\n\r\n%s\r\n--x--\r\n" % (about, body)
    names = [one.partition(":")[0].lower() for one in headers]
    lines = [f"{method} {target} HTTP/1.1", *headers, "Connection: close"]
    lines += [] if "host" in names else ["Host: localhost"]
    if "transfer-encoding" in names:
        body = chunked(body)
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    head = "".join(f"{line}\r\n" for line in lines).encode()
    found, told, answer = served.raw(head + b"\r\n" + body)
    if found == 100:
        found = int(answer[9:12]) if answer else 200
    assert found == status
    if method == "HEAD":
        assert answer == b""
        assert int(told["content-length"]) > 0
    if status in (204, 405):
        assert "options" in told["allow"]


def test_the_page_lists_the_limits():
    for number in (
        guard.MOST_OF_ONE, connections.MOST_HEADERS, guard.MOST_ACTIVE, bodies.MOST_FILES,
    ):  # fmt: skip
        assert re.search(rf"\b{number}\b", DOCS)


def test_other_codings_are_named(asked):
    response = asked().post(picture("red"), headers=JPEG | {"content-encoding": "gzip"})
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"


# -- behind a proxy


@pytest.mark.parametrize("path", ["/alexnet/?token=t", "/?token=t"])  # left as it was, or cut off
@pytest.mark.parametrize("https", [False, True])
def test_a_prefix_and_https_are_kept(asked, path, https):
    running = asked(token="t", prefix="/alexnet", https=https)
    opened = running.get(path)
    assert (opened.status_code, opened.headers["location"]) == (303, "/alexnet/")
    cookie = opened.headers["set-cookie"]
    assert "Path=/alexnet/;" in cookie
    assert ("Secure" in cookie) == https
    kept = {"cookie": cookie.partition(";")[0]}
    for place in ("/alexnet/v1/models", "/v1/models"):
        assert running.get(place, headers=kept).status_code == 200
    document = running.get("/alexnet/openapi.json", headers=kept).json()
    assert document["servers"] == [{"url": "/alexnet"}]
    page = running.get("/alexnet/", headers=kept)
    assert page.status_code == 200
    assert not re.findall(r"""(?:fetch\(|ask\(|href=|src=|action=)["'`]/""", page.text)


def test_the_prefix_alone_is_led_to_the_page(asked):
    running = asked(prefix="/alexnet")
    answer = running.get("/alexnet?x=1")
    assert (answer.status_code, answer.headers["location"]) == (308, "/alexnet/?x=1")
    assert running.get("/alexnetwork/healthz").status_code == 404
    assert running.get("/other/healthz").status_code == 404


FORWARDED = {"x-forwarded-prefix": "/p", "x-forwarded-proto": "https", "x-forwarded-host": "evil"}


def test_no_header_is_believed_unasked(asked):
    for how, place, secure in (({}, "/", False), ({"forwarded": True}, "/p/", True)):
        opened = asked(token="t", **how).get("/?token=t", headers=FORWARDED)
        assert opened.headers["location"] == place
        assert ("Secure" in opened.headers["set-cookie"]) == secure
        other = asked(**how).get("/healthz", headers=FORWARDED | {"host": "evil"})
        assert other.status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        [("x-forwarded-prefix", "//evil.example")],
        [("x-forwarded-prefix", "/a/../b")],
        [("x-forwarded-prefix", "/a?b")],
        [("x-forwarded-prefix", "http://evil.example")],
        [("x-forwarded-prefix", "/a"), ("x-forwarded-prefix", "/b")],
        [("x-forwarded-proto", "https, http")],
        [("x-forwarded-proto", "javascript")],
    ],
)
def test_what_a_proxy_would_not_say_is_refused(asked, headers):
    response = asked(forwarded=True).get("/v1/models", headers=headers)
    assert response.status_code == 400
    assert "X-Forwarded" in response.json()["error"]


@pytest.mark.parametrize(
    ("https", "origin", "status"),
    [
        (True, "https://box.lan", 200),
        (True, "https://box.lan:443", 200),
        (True, "http://box.lan", 403),
        (False, "https://box.lan", 200),  # a proxy may speak it without our knowing
        (False, "http://box.lan:80", 200),
        (False, "http://box.lan:81", 403),
        (True, "https://BOX.lan.", 200),
    ],
)
def test_the_own_page_behind_a_proxy(asked, https, origin, status):
    headers = JPEG | {"host": "box.lan", "origin": origin}
    assert asked(https=https).post(picture("red"), headers=headers).status_code == status


def test_unusable_names_and_paths_are_said(photos_run, capsys):
    for words, message in (
        (["--root-path", "alexnet"], "root_path is 'alexnet'"),
        (["--root-path", "//evil"], "root_path is"),
        (["--name", "http://box.lan"], "name is 'http://box.lan'"),
    ):
        assert main(["serve", str(photos_run), *words]) == 2
        assert message in capsys.readouterr().err


# -- the command


@pytest.mark.slow
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
        for name in (command, "connections"):
            monkeypatch.delitem(sys.modules, f"alexnet.serving.{name}", raising=False)
        assert main([command, str(weights)]) == 2
        assert f"alexnet[{command}]" in capsys.readouterr().err


def test_models_have_the_names_of_their_runs(weights, tmp_path):
    other = tmp_path / "cats.safetensors"
    other.write_bytes(weights.read_bytes())
    folder = weights.parent
    found = load_models([str(folder), str(weights), str(other)])
    assert list(found) == [folder.name, f"{folder.name}-2", "cats"]


@pytest.mark.slow
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
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert where_to_look("serving m", "127.0.0.1", 8123, rules())[:2] == [
        "serving m", "open http://localhost:8123/",
    ]  # fmt: skip
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 22")
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    lines = where_to_look("", "127.0.0.1", 8123, rules())
    assert "  ssh -L 8123:localhost:8123 anna@10.0.0.2" in lines
    behind = rules("tok", prefix="/alexnet", https=True)
    lines = where_to_look("", "127.0.0.1", 8123, behind, ["photos.example"])
    assert "open https://photos.example/alexnet/?token=tok" in lines
    lines = where_to_look("", "0.0.0.0", 80, rules("tok", loopback=False))
    assert f"open http://{socket.gethostname()}:80/?token=tok" in lines


@pytest.mark.slow
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
