"""The server's connections: many at once, slow ones, heads of every size, those that leave, and its
end."""

import concurrent.futures
import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from makers import COLOURS, Colours, network_of
from servers import JPEG, Asked, Running, is_cut, one_answer, picture, until

from alexnet.network.description import architecture
from alexnet.serving import batching, bodies, connections, guard

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
OTHER = "127.0.0.2"
many_addresses = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a machine has one loopback address"
)


def whole(content):
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content


@pytest.fixture(scope="module")
def served():
    """One server for all tests that leave it as it was."""
    running = Running({"model0": Colours()})
    yield running
    running.close()


@pytest.fixture
def start():
    """Starts servers, and stops them after the test."""
    with contextlib.ExitStack() as stack:

        def started(model=None, **how):
            running = Running({"model0": model or Colours()}, **how)
            stack.callback(running.close)
            return running

        yield started


def healthy(running, source="127.0.0.1"):
    """Whether /healthz answers at once to somebody new."""
    with running.line(source, 1) as line:
        line.sendall(GET + b"\r\n")
        return one_answer(line)[0] == 200


def nothing_is_left(running):
    return running.server.models["model0"].waiting == 0 and running.server.bodies.held == 0


# -- heads


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + b"X: %s\r\n\r\n" % (b"a" * 20_000), 431),  # one, in one packet
        (GET + b"X: " + b"a" * 60_000, 431),  # one without an end
        (GET + b"".join(b"X%d: 1\r\n" % n for n in range(101)) + b"\r\n", 431),
        (GET + b"X: 1\r\n" * 30_000, 431),  # many without an end
        (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * 2**16), 414),
        (b"GET /?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * 9_000), 414),
        (b"GET /" + b"a" * 2**16, 414),
        (GET + b"X\x00: 1\r\n\r\n", 400),
        (GET + b"X : 1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # https
        (b"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (HEAD + b"Content-Length: -3\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 20_000, 400),
    ],
)
def test_bad_heads_are_refused_and_the_line_closed(served, head, status):
    with served.line() as line:
        line.sendall(head)
        found, headers, body = one_answer(line)
        assert found == status
        assert headers["connection"] == "close"
        assert b'"error"' in body
        assert b'"hint"' in body
        line.settimeout(1)
        assert line.recv(1) == b""


def test_a_head_in_many_packets_is_limited_too(served):
    with served.line() as line:
        line.sendall(GET)
        with contextlib.suppress(ConnectionError):
            for number in range(300):
                line.sendall(b"X%d: %s\r\n" % (number, b"a" * 100))
                time.sleep(0.001)
        assert one_answer(line)[0] == 431


def test_a_head_below_the_limits_is_answered(served):
    head = GET + b"".join(b"X%d: %s\r\n" % (n, b"a" * 100) for n in range(99)) + b"\r\n"
    assert served.raw(head)[0] == 200
    with served.line() as line:  # byte by byte
        for byte in GET + b"\r\n":
            line.sendall(bytes([byte]))
        assert one_answer(line)[0] == 200


def test_a_bad_chunk_ends_the_request(served, capsys):
    with served.line() as line:
        line.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.1)
        line.sendall(b"nonsense\r\n")
        assert one_answer(line)[0] == 400
    with served.line() as line:  # answered before the body has come
        line.sendall(HEAD.replace(b"predict", b"nowhere") + b"Transfer-Encoding: chunked\r\n\r\n")
        assert one_answer(line)[0] == 404
        line.sendall(b"nonsense\r\n")
        assert one_answer(line)[0] in (0, 400)
    assert served.top(picture("red")) == "red"
    assert "Traceback" not in capsys.readouterr().err


def test_a_hundred_is_said_only_to_those_who_may_go_on(served):
    with served.line() as line:
        content = picture("red")
        line.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(content))
        assert one_answer(line)[0] == 100
        line.sendall(content)
        assert one_answer(line)[0] == 200
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: 104857600\r\n\r\n"
    assert served.raw(head)[0] == 413


@pytest.mark.slow
def test_a_few_hundred_mutated_heads():
    from long.fuzz_http import fuzz

    statuses = fuzz(300, seed=1)
    assert sum(statuses.values()) == 300
    assert {200, 400, 421} <= set(statuses)


# -- how many


def test_one_address_leaves_room_for_the_others():
    assert guard.MOST_OF_ONE * 2 <= guard.MOST_ACTIVE
    for address, counted in (
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ):
        assert guard.neighbour(address) == counted


@pytest.mark.slow
@many_addresses
def test_idle_lines_of_one_address_hide_nothing(start, monkeypatch):
    monkeypatch.setattr(connections, "MOST_OF_ONE", 20)
    monkeypatch.setattr(connections, "FIRST_SECONDS", 0.4)
    running = start()
    with contextlib.ExitStack() as stack:
        asking = stack.enter_context(running.line())
        asking.sendall(GET + b"\r\n")
        assert one_answer(asking)[0] == 200
        lines = [stack.enter_context(running.line()) for _ in range(300)]
        lines[-1].sendall(GET)  # half a head
        assert healthy(running)
        assert healthy(running, OTHER)
        assert until(lambda: sum(map(is_cut, lines[:-20])) == 280)
        assert not any(map(is_cut, lines[-10:]))  # the oldest went first
        asking.settimeout(10)
        asking.sendall(GET + b"\r\n")
        assert one_answer(asking)[0] == 200  # who has asked stays longer than who has not


@pytest.mark.slow
@many_addresses
def test_all_lines_together_are_limited(start, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 30)
    running = start()
    with contextlib.ExitStack() as stack:
        few = [stack.enter_context(running.line(OTHER)) for _ in range(5)]
        many = [stack.enter_context(running.line()) for _ in range(60)]
        assert until(lambda: sum(map(is_cut, many)) == 35)
        assert not any(map(is_cut, few))  # who has most gives first
        assert healthy(running, "127.0.0.3")


@many_addresses
def test_busy_lines_are_not_cut(start, monkeypatch):
    monkeypatch.setattr(connections, "MOST_OF_ONE", 4)
    monkeypatch.setattr(guard, "MOST_OF_ONE", 4)
    monkeypatch.setattr(connections, "FIRST_SECONDS", 0.1)
    classifier = Colours()
    classifier.free.clear()
    running = start(classifier)
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(running.line()) for _ in range(4)]
        for line in busy:
            line.sendall(whole(picture("red")))
        assert until(lambda: running.server.models["model0"].waiting == 4)
        more = [stack.enter_context(running.line()) for _ in range(3)]
        more[0].sendall(whole(picture("red")))
        assert one_answer(more[0])[0] == 503
        assert until(lambda: all(map(is_cut, more)))
        assert healthy(running)
        with running.line(OTHER) as line:
            line.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one_answer(line)[0] == 200
        classifier.free.set()
        assert [one_answer(line)[0] for line in busy] == [200] * 4


@pytest.mark.slow
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


def test_images_of_several_event_loops_in_one_batch_are_all_answered(monkeypatch):
    classifier, begun = Colours(), threading.Event()
    classifier.free.clear()

    def probabilities(squares):
        begun.set()
        return Colours.probabilities(classifier, squares)

    monkeypatch.setattr(classifier, "probabilities", probabilities)
    asked = Asked(classifier)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(asked.top, picture("blue"))]
        assert begun.wait(30)
        answers += [pool.submit(asked.top, picture("red")) for _ in range(4)]
        assert until(lambda: asked.server.models["model0"]._decoded.qsize() == 4)
        classifier.free.set()
        assert [one.result(30) for one in answers] == ["blue"] + ["red"] * 4
    assert classifier.sizes == [1, 4]
    asked.close()


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


@pytest.mark.slow
@many_addresses
def test_a_thousand_requests_at_once_are_all_answered(start):
    connections.allowed_connections()  # both ends of each line are files of this process
    running = start(Colours(0.002))
    content = picture("green")
    lines = [running.line(f"127.0.0.{2 + number % 10}", 30) for number in range(1000)]
    for line in lines:
        line.sendall(whole(content))
    statuses = []
    for line in lines:
        status, headers, body = one_answer(line)
        line.close()
        statuses.append(status)
        if status == 200:
            assert b'"top":[{"class":"green"' in body
        else:
            assert headers["retry-after"] == "1"
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 100
    assert running.top(picture("red")) == "red"
    assert nothing_is_left(running)


def test_too_much_at_once_is_refused(monkeypatch):
    monkeypatch.setattr(bodies, "MOST_HELD", 10)
    asked = Asked()
    response = asked.post(picture("red"))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert asked.server.bodies.held == 0
    monkeypatch.setattr(guard, "MOST_ACTIVE", 0)
    assert asked.get("/v1/models").status_code == 503
    assert asked.get("/healthz").status_code == 200
    asked.close()


# -- how slow


@pytest.mark.slow
def test_a_slow_body_ends_and_nobody_waits_for_it(served, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.7)
    with served.line(seconds=30) as line:
        line.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        assert served.top(picture("blue")) == "blue"
        line.sendall(b"\x89PNG")
        status, _, body = one_answer(line)
    assert status == 408
    assert b"did not come within" in body
    assert served.server.bodies.held == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST /v1/pre",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nX: 1\r\n",
        b"POST /v1/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
    ],
)
def test_a_slow_line_is_cut(served, monkeypatch, beginning):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    begun = time.monotonic()
    with served.line(seconds=0.1) as line:
        line.sendall(beginning)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 30:  # keeps sending, so that it is never idle
                if beginning:
                    line.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    if not line.recv(65536):
                        break
    assert 0.4 < time.monotonic() - begun < 30


@pytest.mark.slow
def test_who_does_not_take_the_answers_is_cut(served, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with served.line(seconds=1) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        # the line is still open at this end
        assert until(
            lambda: not (served.http.guard.under_way or served.http.server_state.connections)
        )


def left(running):
    """How many clients left before they had an answer, by the server's own count."""
    counts = re.findall(
        r'requests_total.*status="499".* (\d+)', running.client.get("/metrics").text
    )
    return sum(map(int, counts))


@pytest.mark.slow
def test_clients_that_leave_cost_nothing(start):
    classifier = Colours()
    classifier.free.clear()
    running = start(classifier)
    request = whole(picture("red"))
    for cut in (len(HEAD) + 25, len(request) - 5, len(request), len(request), len(request)):
        line = running.line()
        line.sendall(request[:cut])
        time.sleep(0.05)
        line.close()
    assert until(lambda: left(running) == 5)
    classifier.free.set()
    assert running.top(picture("blue")) == "blue"
    assert nothing_is_left(running)
    assert sum(classifier.sizes) < 4  # of three that left, at most the one that was under way


# -- the end


def test_what_is_under_way_is_finished_and_what_comes_is_refused(start):
    classifier = Colours()
    classifier.free.clear()
    running = start(classifier)
    with running.line() as busy, running.line() as idle:
        idle.sendall(GET + b"\r\n")
        assert one_answer(idle)[0] == 200
        busy.sendall(whole(picture("red")))
        assert until(lambda: running.server.models["model0"].waiting == 1)
        running.http.should_exit = True
        assert until(lambda: running.http.guard.leaving)
        for line in (idle, running.line()):  # known or new
            line.sendall(GET + b"\r\n")
            status, headers, _ = one_answer(line)
            assert (status, headers["connection"]) == (503, "close")
            assert line.recv(1) == b""
            line.close()
        classifier.free.set()
        status, headers, body = one_answer(busy)
        assert (status, headers["connection"]) == (200, "close")
        assert b"red" in body
    running.thread.join(5)
    assert not running.thread.is_alive()


@pytest.mark.slow
def test_what_takes_too_long_hears_that_the_server_ends(start, monkeypatch, capsys):
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.2)
    classifier = Colours()
    classifier.free.clear()
    running = start(classifier)
    with running.line() as busy:
        busy.sendall(whole(picture("red")))
        assert until(lambda: running.server.models["model0"].waiting == 1)
        running.http.should_exit = True
        assert one_answer(busy)[0] == 503
    running.thread.join(5)
    assert not running.thread.is_alive()
    classifier.free.set()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
def test_the_command_ends_with_0(tmp_path):
    network_of(tmp_path / "best.safetensors", architecture("small", width=0.1), 5)
    words = [sys.executable, "-m", "alexnet.cli", "serve", str(tmp_path / "best.safetensors")]
    with subprocess.Popen([*words, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        port = 0
        for line in process.stderr:
            port = port or int((re.findall(r"localhost:(\d+)", line) or [0])[0])
            if "Ctrl-C" in line:
                break
        statuses, sent, leave = [], threading.Event(), threading.Event()

        def ask():
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                while not leave.is_set():
                    try:
                        answer = client.post("/v1/predict", content=picture("red"), headers=JPEG)
                    except httpx.TransportError:
                        assert sent.is_set()
                        return  # it no longer listens
                    statuses.append(answer.status_code)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert until(lambda: len(statuses) > 20)
        sent.set()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        leave.set()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {200, 503}  # none was cut off
        assert "Traceback" not in process.stderr.read()
