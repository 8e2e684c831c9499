"""A minimal operator for the benchmark: the configuration stream for one proxy, HTTP/2 (RFC 9113) over TLS.
proxy/wire/src/frame.rs defines the frames. It does not authenticate the proxy, because it listens on loopback only."""

import json
import select
import socket
import ssl
import struct
import threading

from measure import BenchError

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0x0, 0x1, 0x4, 0x6, 0x7, 0x8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST = 16_384


class Operator:
    """Serves one stream: first the whole configuration, then the frames passed to `send`."""

    def __init__(self, material, first):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(material.chain, material.key)
        context.set_alpn_protocols(["h2"])
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(60)
        self.port = self.listener.getsockname()[1]
        self.first = first
        self.connection, self.stream = None, None
        self.window = threading.Condition()
        self.windows, self.initial = {0: 65_535}, 65_535
        # One thread reads while another writes. OpenSSL permits one call at a time, so neither blocks in a call.
        self.writing, self.tls = threading.Lock(), threading.Lock()
        self.inbox, self.last = b"", "nothing yet"
        self.stopped = False

    @staticmethod
    def frame(value):
        text = json.dumps(value, separators=(",", ":")).encode()
        return struct.pack(">I", len(text)) + text

    def write(self, kind, flags, stream, payload=b""):
        data = memoryview(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)
        with self.writing:
            while data:
                try:
                    with self.tls:
                        data = data[self.connection.send(data):]
                except ssl.SSLWantWriteError:
                    select.select([], [self.connection], [], 1)

    def send(self, data):
        """Sends bytes of the response, within the receiver's windows."""
        while data:
            with self.window:
                available = lambda: min(self.windows[0], self.windows[self.stream], MOST)
                if not self.window.wait_for(lambda: self.stopped or available() > 0, timeout=10) or self.stopped:
                    raise BenchError("the proxy stopped reading the configuration stream")
                size = min(available(), len(data))
                chunk, data = data[:size], data[size:]
                self.windows[0] -= size
                self.windows[self.stream] -= size
            self.write(DATA, 0, self.stream, chunk)

    def read(self, count):
        out = b""
        while len(out) < count:
            try:
                with self.tls:
                    more = self.connection.recv(count - len(out))
            except ssl.SSLWantReadError:
                select.select([self.connection], [], [], 1)
                continue
            if not more:
                raise OSError("the proxy closed the stream")
            out += more
        return out

    def run(self):
        """Serves one connection until it ends."""
        try:
            raw, _ = self.listener.accept()
            raw.settimeout(120)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connection = self.context.wrap_socket(raw, server_side=True)
            self.connection.setblocking(False)
            if self.read(len(PREFACE)) != PREFACE:
                raise OSError("the proxy does not use HTTP/2")
            self.write(SETTINGS, 0, 0)
            while not self.stopped:
                head = self.read(9)
                self.handle(head[3], head[4], struct.unpack(">I", head[5:])[0] & 0x7FFF_FFFF,
                            self.read(int.from_bytes(head[:3], "big")))
        except (OSError, ValueError) as error:
            self.last = f"{error} after {self.last}"
        finally:
            with self.window:
                self.stopped = True
                self.window.notify_all()

    def handle(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & 1:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at:at + 6])
                if name == 4:
                    with self.window:
                        for known in self.windows.keys() - {0}:
                            self.windows[known] += value - self.initial
                        self.initial = value
                        self.window.notify_all()
            self.write(SETTINGS, 1, 0)
        elif kind == PING and not flags & 1:
            self.write(PING, 1, 0, payload)
        elif kind == WINDOW_UPDATE:
            with self.window:
                self.windows[stream] = self.windows.get(stream, self.initial) + struct.unpack(">I", payload)[0]
                self.window.notify_all()
        elif kind == HEADERS and self.stream is None:
            with self.window:
                self.windows.setdefault(stream, self.initial)
                self.stream = stream
            self.write(HEADERS, 4, stream, b"\x88")  # ":status: 200" of HPACK's static table
            threading.Thread(target=self.greet, daemon=True).start()
        elif kind == DATA:
            if payload:
                for where in (0, stream):
                    self.write(WINDOW_UPDATE, 0, where, struct.pack(">I", len(payload)))
            self.take(payload)
        elif kind == GOAWAY:
            raise OSError("the proxy ended the connection")

    def greet(self):
        """Runs in another thread: reading must continue so that flow-control windows open."""
        try:
            self.send(self.frame({"Fleet": {"proxies": 1}}) + self.frame(self.first))
        except (OSError, ValueError, BenchError) as error:
            self.last = str(error)

    def take(self, data):
        self.inbox += data
        while len(self.inbox) >= 4:
            length = struct.unpack(">I", self.inbox[:4])[0]
            if len(self.inbox) < 4 + length:
                return
            self.last, self.inbox = self.inbox[4:4 + length].decode()[:500], self.inbox[4 + length:]

    def stop(self):
        self.stopped = True
        for end in (self.connection, self.listener):
            if end:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()
