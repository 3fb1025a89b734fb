"""Whether a client hears how its session ended: the close codes of Burble, not the 1006 of a connection that broke."""

import json
import socket
import struct
import urllib.request

PATIENCE_S = 20
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
BROKEN = 1006


class Client:
    """A WebSocket by hand: it sends what no library would."""

    def __init__(self, port, token=None):
        self.stream = socket.create_connection(("127.0.0.1", int(port)), PATIENCE_S)
        head = (
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        self.stream.sendall(f"{head}\r\n".encode())
        self.read = self.stream.makefile("rb")
        status = self.read.readline()
        if b" 101 " not in status:
            raise SystemExit(f"no upgrade: {status}")
        while self.read.readline() not in (b"\r\n", b""):
            pass

    def send(self, opcode, payload):
        """A whole frame, under a mask that changes nothing."""
        size = len(payload)
        length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BQ", 0x80 | 127, size)
        self.stream.sendall(bytes([0x80 | opcode]) + length + bytes(4) + payload)

    def frame(self):
        """The next frame's opcode and payload."""
        opcode, size = self.exactly(2)
        if size >= 126:
            (size,) = struct.unpack("!H" if size == 126 else "!Q", self.exactly(2 if size == 126 else 8))
        return opcode & 0x0F, self.exactly(size)

    def exactly(self, count):
        found = self.read.read(count)
        if len(found) < count:
            raise ConnectionError("the connection broke")
        return found

    def close_code(self):
        """The code of the close, whatever comes before it."""
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == CLOSE:
                    return struct.unpack("!H", payload[:2])[0]
        except ConnectionError:
            return BROKEN


def before(port):
    """What ends a session while the node runs: for each, the code that is due, and the one that came."""
    ends = {
        "signs in too late": (4401, lambda client: None),
        "a command before auth": (4400, lambda client: client.send(TEXT, b'{"op":"ping"}')),
        "a binary frame": (4400, lambda client: client.send(BINARY, b"{}")),
        "a frame over 64 KiB": (1009, lambda client: client.send(TEXT, b" " * (64 * 1024 + 1))),
        "a frame of 8 MiB": (1009, lambda client: client.send(TEXT, b" " * (8 * 1024 * 1024))),
        "text that is not UTF-8": (1007, lambda client: client.send(TEXT, b"\xff")),
        "an unknown opcode": (1002, lambda client: client.send(3, b"")),
    }
    for what, (due, end) in ends.items():
        client = Client(port)
        try:
            end(client)
        except ConnectionError:
            pass  # The server need not take all of what is too large; what it said is still there to be read.
        yield what, due, client.close_code()


def signed_in(port, name):
    """A session of a new user, after its welcome."""
    body = json.dumps({"name": name, "password": "correct horse"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/signup", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        client = Client(port, json.load(answer)["access_token"])
    client.frame()
    return client
