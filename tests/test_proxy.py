"""The proxy that fault tests are made with does to a connection what it says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy import Proxy, ProxyFactory

BRIEFLY = 0.2
"""Seconds of silence that show that nothing comes."""
SOON = 5.0


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that gives everything back, and ends when its client does."""
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            while said := connection.recv(65536):
                connection.sendall(said)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener is shut down at the end
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=answer, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, args=(listener,))
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RD)
        accepting.join(SOON)
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive(), "a connection to the server was left open"


@pytest.fixture
def proxy(nothing_left: None, echo: int, proxy_factory: ProxyFactory) -> Proxy:
    """A proxy before `echo`; nothing of it may be left behind."""
    return proxy_factory(echo)


@contextlib.contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), SOON) as client:
        yield client


def said(client: socket.socket, word: bytes) -> bytes:
    """What comes back when `word` is said."""
    client.sendall(word)
    back = b""
    while len(back) < len(word):
        part = client.recv(65536)
        assert part, "the connection has ended"
        back += part
    return back


def assert_silent(client: socket.socket) -> None:
    client.settimeout(BRIEFLY)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(SOON)


def test_forwards_both_ways_and_passes_an_end_on(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert said(client, b"x" * 100_000) == b"x" * 100_000
        assert (proxy.accepted, proxy.sockets) == (1, 2)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_cut_resets_once(proxy: Proxy) -> None:
    with connected(proxy) as client:
        said(client, b"hello")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connected(proxy) as client:
        assert said(client, b"again") == b"again"


def test_refuse_keeps_what_is_open_and_heal_listens_at_the_same_port(proxy: Proxy) -> None:
    with connected(proxy) as client:
        said(client, b"hello")
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError), connected(proxy):
            pass
        assert said(client, b"still") == b"still"
        proxy.heal()
        with connected(proxy) as other:
            assert said(other, b"there") == b"there"


def test_blackhole_holds_all_and_heal_lets_it_pass(proxy: Proxy) -> None:
    with connected(proxy) as client:
        said(client, b"hello")
        proxy.blackhole()
        with connected(proxy) as newcomer:
            proxy.wait_accepted(2)
            for one in (client, newcomer):
                one.sendall(b"anyone?")
                assert_silent(one)
            proxy.heal()
            for one in (client, newcomer):
                assert one.recv(100) == b"anyone?"


def test_a_blackhole_swallows_an_end_as_well(proxy: Proxy) -> None:
    with connected(proxy) as client:
        said(client, b"hello")
        proxy.blackhole()
    assert proxy.sockets == 2
    proxy.heal()
    deadline = time.monotonic() + SOON
    while proxy.sockets and time.monotonic() < deadline:
        time.sleep(0.001)
    assert proxy.sockets == 0


def test_delay_holds_replies_and_heal_ends_that_at_once(proxy: Proxy) -> None:
    with connected(proxy) as client:
        proxy.delay(BRIEFLY)
        began = time.monotonic()
        assert said(client, b"hello") == b"hello"
        assert time.monotonic() - began >= BRIEFLY
        proxy.delay(600.0)
        client.sendall(b"later")
        assert_silent(client)
        proxy.heal()
        assert client.recv(100) == b"later"


def test_throttle_lets_so_many_bytes_a_second_pass(proxy: Proxy) -> None:
    with connected(proxy) as client:
        proxy.throttle(200.0)
        began = time.monotonic()
        assert said(client, b"x" * 40) == b"x" * 40
        assert time.monotonic() - began >= 40 / 200.0  # (Each way; they overlap.)


def test_half_open_swallows_what_is_said_and_serves_newcomers(proxy: Proxy) -> None:
    with connected(proxy) as client:
        said(client, b"hello")
        proxy.half_open()
        client.sendall(b"anyone?")
        assert_silent(client)
        with connected(proxy) as other:
            assert said(other, b"there") == b"there"
        proxy.heal()
        assert_silent(client)
        assert proxy.sockets == 1


def test_corrupt_flips_what_the_server_says(proxy: Proxy) -> None:
    with connected(proxy) as client:
        proxy.corrupt()
        assert said(client, b"\x00\x0f\xff") == b"\xff\xf0\x00"
        proxy.corrupt(header=False)
        assert said(client, bytes(20)) == bytes(16) + b"\xff" * 4
        proxy.heal()
        assert said(client, b"hello") == b"hello"


def test_a_server_that_is_not_there_is_a_reset(proxy_factory: ProxyFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxy = proxy_factory(port)
    # It may come before `connect` has returned.
    with pytest.raises(ConnectionResetError), connected(proxy) as client:
        client.recv(1)
