"""The HTTP server: what a listening port must withstand.

One thread reads and writes for all connections, so that a slow or silent client holds a socket and nothing else; a
request is answered by one of a few worker threads only when all of its head is there. Everything is bounded: the size
and the time of a head, idle connections, connections at a time, and the threads.
"""

import asyncio
import asyncio.sslproto
import contextlib
import errno
import functools
import logging
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

from librechat_exporter.faults import FaultLog
from librechat_exporter.http.access import Access, Allowed
from librechat_exporter.http.exchange import Request, Response, plain_text
from librechat_exporter.http.web_config import AccessError

log = logging.getLogger(__name__)

# Most wait for a scrape; some always answer the health checks.
THREADS = 64
# Those that have waited longest for a request make room for new ones.
CONNECTIONS = 512
HEAD_BYTES = 16_384
# Of answers that clients do not take. Those that have kept one longest make room.
UNSENT_BYTES = 32_000_000
# For a request's head once it has begun, for a TLS handshake, and for the client to take an answer.
HEAD_SECONDS = 5.0
WRITE_SECONDS = 30.0
# A client that has more to say is listened to for this long, or it would not hear the answer.
LINGER_SECONDS = 0.5
# Between requests on one connection: Prometheus keeps it from scrape to scrape.
IDLE_SECONDS = 180.0
_BACKLOG = 512
_CHUNK = 16_384
_STOP_SECONDS = 2.0

# asyncio gives each TLS connection a buffer of this size to read into: with its 256 KiB, 512 idle connections take
# 128 MB. What clients send is a request's head.
asyncio.sslproto.SSLProtocol.max_size = HEAD_BYTES


@dataclass(eq=False)
class _Connection:
    """One client. waiting: since when (time.monotonic()) it is its turn, to send a request or to take an answer; None
    while the answer is worked out. body: of the answer that it is to take; others may share it.
    """

    socket: socket.socket
    context: ssl.SSLContext | None = None
    task: asyncio.Task[None] | None = None
    is_open: bool = False  # from then on its transport closes the socket
    is_asking: bool = True
    waiting: float | None = field(default_factory=time.monotonic)
    body: bytes = b""


def listener(address: tuple[str, int]) -> socket.socket:
    """The listening socket; of [::] for IPv4 as well. Raises OSError if the address cannot be bound."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    is_dual = address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=is_dual)


class Server:
    """Serves what `respond` answers, to those whom `access` lets in. Raises OSError if the address cannot be bound."""

    def __init__(self, address: tuple[str, int], respond: Callable[[Request], Response], access: Access) -> None:
        self._respond = respond
        self._access = access
        self._faults = FaultLog()
        self._workers = ThreadPoolExecutor(THREADS, thread_name_prefix="http")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="access")
        self._listener = listener(address)
        self._listener.setblocking(False)
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="serve", daemon=True)
        self._stopping = asyncio.Event()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accepts nothing more, and lets the answers under way be sent, for a moment."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP_SECONDS + 1)
        self._listener.close()
        for executor in (self._workers, self._reader):
            executor.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # Its default writes a stack trace for each client that breaks off.
        self._loop.set_exception_handler(
            lambda _loop, context: log.debug("A connection failed: %s", context["message"])
        )
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._loop.add_reader(self._listener, self._accept)
        await self._stopping.wait()
        self._loop.remove_reader(self._listener)
        answering = [one.task for one in self._connections if one.task is not None and not one.is_asking]
        for one in list(self._connections):
            if one.task is not None and one.is_asking:
                one.task.cancel()
        if answering:
            await asyncio.wait(answering, timeout=_STOP_SECONDS)
        rest = [one.task for one in self._connections if one.task is not None]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0)  # in which their transports close

    def _accept(self) -> None:
        """Called when somebody connects."""
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # no descriptor is left
                self._make_room()
            return
        if len(self._connections) >= CONNECTIONS and not self._make_room():
            accepted.close()
            return
        accepted.setblocking(False)
        connection = _Connection(accepted)
        self._connections.add(connection)
        connection.task = self._loop.create_task(self._converse(connection))
        connection.task.add_done_callback(functools.partial(self._ended, connection))

    def _ended(self, connection: _Connection, task: asyncio.Task[None]) -> None:
        """After any end, even if it never began. A fault that is no client's doing is a defect, and is told."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._faults.failed("A connection", error)
        self._connections.discard(connection)
        if not connection.is_open:
            connection.socket.close()

    def _make_room(self) -> bool:
        """Ends the connection that has kept the server waiting longest; False if none does."""
        waiting = [one for one in self._connections if one.waiting is not None]
        if not waiting:
            return False
        longest = min(waiting, key=lambda one: one.waiting or 0)
        self._end(longest)
        return True

    def _end(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if connection.task is not None:
            connection.task.cancel()

    def _bound_unsent(self) -> None:
        """Ends connections that do not take their answers, the ones that have kept them longest first."""
        holding = sorted((one for one in self._connections if one.body), key=lambda one: one.waiting or 0)
        holders = Counter(id(one.body) for one in holding)
        unsent = sum({id(one.body): len(one.body) for one in holding}.values())
        for one in holding[:-1]:
            if unsent <= UNSENT_BYTES:
                return
            holders[id(one.body)] -= 1
            if not holders[id(one.body)]:
                unsent -= len(one.body)
            self._end(one)

    async def _converse(self, connection: _Connection) -> None:
        """One connection from its first byte to its last. A client that breaks the rules, or off, leaves no trace."""
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._open(connection)
            await self._answer_requests(connection, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError) as error:
            log.debug("A connection ended: %s", type(error).__name__)
            # asyncio's futures hold it, and its frames hold them and OpenSSL's buffers: a circle that is seldom found.
            error.__traceback__ = None
        finally:
            if writer is not None:
                writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _open(self, connection: _Connection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """With TLS, after the handshake. Raises OSError, TimeoutError."""
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=2 * HEAD_BYTES, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        try:
            # Certificates are read anew when they have changed, which must keep no other connection waiting.
            tls, thread = self._access.tls, self._reader
            context = await self._loop.run_in_executor(thread, tls) if self._access.reads_files else tls()
            connection.context = context
        except AccessError as error:
            raise ConnectionError(str(error)) from None
        times = {"ssl_handshake_timeout": HEAD_SECONDS, "ssl_shutdown_timeout": 1.0} if context is not None else {}
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol, connection.socket, ssl=context, **times
        )
        connection.is_open = True
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _answer_requests(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        first = HEAD_SECONDS
        while True:
            connection.is_asking, connection.waiting = True, time.monotonic()
            request = None
            try:
                request = await _read(http, reader, first)
                if request is not None:
                    http.next_event()  # its end, if it has no body
            except h11.RemoteProtocolError as error:
                if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    status = HTTPStatus(error.error_status_hint)
                    is_head = request is not None and request.method == "HEAD"
                    await _write(http, writer, plain_text(status, status.phrase), is_head=is_head)
                    await _linger(reader, writer)
                return
            if request is None:
                return
            connection.is_asking, connection.waiting = False, None
            response = await self._loop.run_in_executor(self._workers, self._answer, request, connection, writer)
            if response is None:
                return
            connection.waiting, connection.body = time.monotonic(), response.body
            self._bound_unsent()
            await _write(http, writer, response, is_head=request.method == "HEAD")
            response, connection.body = None, b""  # so that a client that asks nothing more holds no body
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:  # a body that nobody wants
                await _linger(reader, writer)
                return
            if self._stopping.is_set():
                return
            http.start_next_cycle()
            first = IDLE_SECONDS

    def _answer(self, request: Request, connection: _Connection, writer: asyncio.StreamWriter) -> Response | None:
        """None if the connection must end."""
        peer, client = writer.get_extra_info("peercert"), writer.get_extra_info("peername")
        if client is None:  # it is gone already
            return None
        try:
            allowed = self._access.check(request, peer, client[0], connection.context)
            if not isinstance(allowed, Allowed):
                return allowed
            response = self._respond(request)
        except AccessError:
            return plain_text(HTTPStatus.INTERNAL_SERVER_ERROR, "WEB_CONFIG_FILE cannot be used: see the log.")
        except Exception as error:  # noqa: BLE001
            self._faults.failed("Answering a request", error)
            return plain_text(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error: see the log.")
        return Response(response.status, [*response.headers, *allowed.headers], response.body)


async def _read(http: h11.Connection, reader: asyncio.StreamReader, first: float) -> Request | None:
    """The next request, None if the client closes. `first` seconds until it begins, HEAD_SECONDS for the rest.

    Raises h11.RemoteProtocolError, TimeoutError, OSError.
    """
    event = http.next_event()
    if event is h11.NEED_DATA:
        async with asyncio.timeout(first):
            http.receive_data(await reader.read(_CHUNK))
        async with asyncio.timeout(HEAD_SECONDS):
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(_CHUNK))
    if not isinstance(event, h11.Request):
        return None
    headers: dict[str, str] = {}
    for name, value in event.headers:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    target = event.target.decode("latin-1")
    # A proxy's client names the whole address: RFC 9112, section 3.2.2.
    path, _, query = re.sub("^https?://[^/?]*/?", "/", target, flags=re.IGNORECASE).partition("?")
    return Request(event.method.decode("latin-1"), path, headers, query)


async def _write(http: h11.Connection, writer: asyncio.StreamWriter, response: Response, *, is_head: bool) -> None:
    """Raises TimeoutError if the client does not take it, OSError."""
    headers = [*response.headers, ("Content-Length", str(len(response.body))), ("Server", "librechat-exporter")]
    head = h11.Response(status_code=response.status, headers=headers, reason=response.status.phrase)
    writer.transport.set_write_buffer_limits(high=_CHUNK)
    begun = http.send(head) or b""
    if not is_head:
        http.send(h11.Data(response.body))  # whose length the head has told, so it is sent as it is
    http.send(h11.EndOfMessage())
    body = memoryview(b"" if is_head else response.body)
    async with asyncio.timeout(WRITE_SECONDS):
        # A transport copies what it cannot send at once. So clients that do not read share one body.
        writer.write(begun + body[:_CHUNK])
        await writer.drain()
        for start in range(_CHUNK, len(body), _CHUNK):
            writer.write(body[start : start + _CHUNK])
            await writer.drain()
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0.01)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A socket that is closed while something is unread resets the connection, and what was answered with it."""
    with contextlib.suppress(OSError, TimeoutError):
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(_CHUNK):
                pass
