"""The client's HTTP: what it sends, what it makes of what comes, and that rubbish is an error and no hang."""

import socket
import threading
from collections.abc import Iterator

import pytest

from pyro_mcp.daemon.http import Answer, BadAnswer, Connection


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """Our end as a connection, and the server's as a socket."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


Ends = tuple[Connection, socket.socket]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _request(connection: Connection, method: str, path: str, body: bytes | None) -> Answer:
    connection.send(method, path, body)
    return connection.answer()


def test_a_request_with_and_without_a_body(ends: Ends) -> None:
    connection, server = ends
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2)
    assert _request(connection, "GET", "/v1/x?y=1", None).read() == b"ok"
    assert server.recv(1000) == b"GET /v1/x?y=1 HTTP/1.1\r\nHost: pyro\r\n\r\n"
    assert _request(connection, "POST", "/v1/x", b"{}").read() == b"ok"
    assert server.recv(1000) == (
        b"POST /v1/x HTTP/1.1\r\nHost: pyro\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_an_upload_in_parts(ends: Ends) -> None:
    connection, server = ends
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert connection.upload("/v1/in", iter([b"first", b"", b"x" * 20])).read() == b""
    head, _, body = server.recv(1000).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"5\r\nfirst\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"


def test_status_and_headers_in_any_case(ends: Ends) -> None:
    connection, server = ends
    server.sendall(b"HTTP/1.1 404 Not Found\r\nCONTENT-length:  3 \r\nX: a:b\r\nConnection: Close\r\n\r\nabc")
    answer = _request(connection, "GET", "/", None)
    assert (answer.status, answer.read()) == (404, b"abc")
    assert not connection.reusable


def test_chunks_arrive_as_they_come(ends: Ends) -> None:
    connection, server = ends
    server.sendall(CHUNKED + b"3\r\nabc\r\n")
    answer = _request(connection, "GET", "/", None)
    assert answer.read_some() == b"abc"
    server.sendall(b"A;x=y\r\n0123")
    assert answer.read_some() == b"0123"
    assert not connection.reusable
    server.sendall(b"456789\r\n0\r\n\r\n")
    assert answer.read() == b"456789"
    assert answer.read_some() == b""
    assert connection.reusable


def test_answers_in_the_smallest_pieces(ends: Ends) -> None:
    connection, server = ends
    whole = CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nf"

    def send() -> None:
        for at in range(len(whole)):
            server.sendall(whole[at : at + 1])

    sending = threading.Thread(target=send)
    sending.start()
    assert _request(connection, "GET", "/", None).read() == b"abcde"
    assert _request(connection, "GET", "/", None).read() == b"f"
    sending.join(30)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        CHUNKED,
        CHUNKED + b"zz\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"+1\r\na",
        CHUNKED + b"3\r\nabcX\r\n",
        CHUNKED + b"3\r\nab",
        CHUNKED + b"0\r\nTrailer: x\r\n\r\n",
        CHUNKED + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:60]),
)
def test_what_is_not_an_answer(ends: Ends, answer: bytes) -> None:
    connection, server = ends
    server.sendall(answer)
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(BadAnswer):
        _request(connection, "GET", "/", None).read()
    assert not connection.reusable


def test_an_answer_that_comes_before_the_request_is_sent_counts(ends: Ends) -> None:
    connection, server = ends
    server.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
    server.close()
    answer = connection.upload("/", iter([b"x" * 100_000] * 10))
    assert (answer.status, answer.read()) == (400, b"no")


@pytest.mark.parametrize("way", ["says something", "leaves", "we left"])
def test_whether_the_other_end_is_still_there(ends: Ends, way: str) -> None:
    connection, server = ends
    assert connection.is_quiet()
    if way == "says something":
        server.sendall(b"?")
    elif way == "leaves":
        server.close()
    else:
        connection.close()
    assert not connection.is_quiet()


def test_shutting_down_wakes_whoever_reads(ends: Ends) -> None:
    connection, _server = ends
    threading.Timer(0.05, connection.shut_down).start()
    with pytest.raises(BadAnswer):
        _request(connection, "GET", "/", None)


def test_a_limit_of_time(ends: Ends) -> None:
    connection, _server = ends
    connection.limit(0.01)
    with pytest.raises(TimeoutError):
        _request(connection, "GET", "/", None)


def test_a_connection_that_nobody_holds_closes_itself() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    del connection, ours
    assert theirs.recv(1) == b""
    theirs.close()
