"""A web server of our own, and weight files on it."""

import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from versa.download import RemoteFile

CONTENT = bytes(range(256)) * 1200  # some chunks of the transfer
SHA = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
OTHER = CONTENT[::-1]
OTHER_SHA = hashlib.sha256(OTHER).hexdigest()
QUOTA = b"""<!DOCTYPE html><html>
<head><title>Google Drive - Quota exceeded</title></head>
<body><p class="uc-error-caption">Sorry, you can't view or download this file.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file
recently. <b>Please</b> try again.</p></body></html>"""


@dataclass
class Reply:
    """What the server has to say at one path."""

    content: bytes = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    cuts: list = field(default_factory=list)  # bytes after which an answer breaks off
    pause: float = 0.0  # seconds between pieces
    length: bool = True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(self.path)
        server.ranges.append(asked)
        server.cookies.append(self.headers.get("Cookie"))
        reply = server.files.get(self.path, Reply(status=404))
        if isinstance(reply, bytes):
            reply = Reply(reply)
        status, headers, body = reply.status, dict(reply.headers), reply.content
        if reply.etag:
            headers["ETag"] = reply.etag
        current = self.headers.get("If-Range") in (None, reply.etag)
        if asked and reply.ranges and status == 200 and current:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            total = len(body)
            status, body = (206, body[start:]) if start < total else (416, b"")
            span = f"{start}-{total - 1}" if body else "*"
            headers["Content-Range"] = f"bytes {span}/{total}"
        self.send_response(status)
        if reply.length:
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.cuts:
            body = body[: reply.cuts.pop(0)]
        with contextlib.suppress(OSError):  # the client may have been killed
            for start in range(0, len(body), 2**14):
                self.wfile.write(body[start : start + 2**14])
                time.sleep(reply.pause)

    def log_message(self, *_):
        pass


class WeightServer(ThreadingHTTPServer):
    """Serves a dict {path: bytes or Reply}; remembers what was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []
        self.ranges, self.cookies = [], []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def pinned(self, path="/net.pth", **changes):
        """What is published of a file of CONTENT."""
        return RemoteFile("net", (self.url + path,), **{"sha256": SHA[:10], **changes})

    def unpinned(self, path="/net.pth"):
        return self.pinned(path, sha256="")


def lying(folder):
    """Names of what lies in the folder, but for locks (which stay, empty)."""
    names = [path.name for path in folder.glob("*")] if folder.is_dir() else []
    return sorted(name for name in names if not name.endswith(".lock"))


def with_record(path):
    return sorted([path.name, f"{path.name}.record.json"])


def part_of(path):
    return path.with_name(f".{path.name}.part")


def warnings_of(heard):
    return [r.getMessage() for r in heard.records if r.levelno >= logging.WARNING]


def old_numpy(content):
    """A legacy checkpoint as NumPy 1 would have pickled its arrays."""
    # the name is a line of its own, so its length is free
    return content.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
