"""Files over HTTP: continued, confirmed, mirrored, and one process at a time."""

import datetime
import email.utils
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import requests

from tests.serving import (
    CONTENT,
    OTHER,
    QUOTA,
    SHA,
    Reply,
    lying,
    part_of,
    warnings_of,
    with_record,
)
from versa import download
from versa.cache import file_lock
from versa.download import RemoteFile, _content_range
from versa.http import DownloadError, _check_redirect, _retry_after, check_hop
from versa.models.zoo.weights import fetch, weights_path

pytestmark = pytest.mark.usefixtures("cache", "heard")

FORM = b"""<html><head><title>Google Drive - Virus scan warning</title></head><body>
<form id="download-form" action="/download?keep=1" method="get">
<input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="abc"><input type="hidden" name="export"
value="download"><input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="1-2"></form></body></html>"""
# Resuming


@pytest.mark.parametrize("sha256", [SHA[:10], ""])
def test_a_broken_download_goes_on_from_where_it_stopped(server, cache, sha256):
    server.files["/net.pth"] = Reply(CONTENT, cuts=[150_000, 100_000])
    path = fetch(server.pinned(sha256=sha256))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=131072-", "bytes=196608-"]
    assert lying(cache) == with_record(path)


def test_after_three_retries_the_next_run_goes_on(server, cache):
    server.files["/net.pth"] = Reply(CONTENT, cuts=[70_000, 0, 0, 0])
    path, part = (
        weights_path(server.unpinned()),
        part_of(weights_path(server.unpinned())),
    )
    with pytest.raises(ConnectionError) as caught:
        fetch(server.unpinned())
    assert "the connection broke 4 times (" in str(caught.value)
    kept = f"; 65536 bytes are kept in {part}, and the next run resumes there. Run it "
    assert kept in str(caught.value)
    assert str(caught.value).endswith(f"again, or put the file at {path}.")
    assert lying(cache) == [part.name, f"{part.name}.json"]
    assert not path.exists()
    assert fetch(server.unpinned()).read_bytes() == CONTENT
    assert server.ranges == [None, *["bytes=65536-"] * 4]
    assert lying(cache) == with_record(path)


@pytest.mark.parametrize(
    ("reply", "sha256"),
    [
        (Reply(CONTENT, etag='"two"'), ""),  # If-Range is answered with the whole
        (Reply(CONTENT, ranges=False), ""),
        (Reply(CONTENT, ranges=False), SHA[:10]),
        (Reply(CONTENT[:9], etag='"two"'), ""),
    ],
    ids=["changed", "no-ranges", "no-ranges-pinned", "shorter"],
)
def test_a_file_that_changed_is_begun_again(server, reply, sha256):
    file = server.pinned(sha256=sha256)
    server.files["/net.pth"] = Reply(OTHER, cuts=[70_000, 0, 0, 0])
    with pytest.raises(ConnectionError):
        fetch(file)
    server.files["/net.pth"] = reply
    assert fetch(file).read_bytes() == reply.content


def test_a_server_that_ignores_if_range_does_not_mix_two_files(server, monkeypatch):
    server.files["/net.pth"] = Reply(OTHER, cuts=[70_000, 0, 0, 0])
    with pytest.raises(ConnectionError):
        fetch(server.unpinned())
    partial = CONTENT[65536:]
    headers = {"Content-Range": f"bytes 65536-{len(CONTENT) - 1}/{len(CONTENT)}"}
    answers = [Reply(partial, 206, headers, etag='"two"'), Reply(CONTENT, etag='"two"')]
    monkeypatch.setattr(server, "files", Turns(answers))
    assert fetch(server.unpinned()).read_bytes() == CONTENT
    assert server.ranges[-2:] == ["bytes=65536-", None]


def test_a_range_that_starts_elsewhere_is_not_appended(server, monkeypatch):
    server.files["/net.pth"] = Reply(CONTENT, cuts=[70_000, 0, 0, 0])
    with pytest.raises(ConnectionError):
        fetch(server.unpinned())
    headers = {"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"}
    answers = [Reply(CONTENT[5:], 206, headers), Reply(CONTENT)]
    monkeypatch.setattr(server, "files", Turns(answers))
    assert fetch(server.unpinned()).read_bytes() == CONTENT


class Turns(list):
    """Replies that are given one after the other, whatever the path."""

    def get(self, *_):
        return self.pop(0)


@pytest.mark.parametrize("content", [CONTENT, OTHER[:70_000]])
def test_a_partial_that_is_already_whole_is_taken(server, content):
    # the last answer broke off after its last byte, or the file became shorter
    part = part_of(weights_path(server.unpinned()))
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    note = {"url": f"{server.url}/net.pth", "validator": '"one"'}
    part.with_name(f"{part.name}.json").write_text(json.dumps(note))
    server.files["/net.pth"] = Reply(content)
    assert fetch(server.unpinned()).read_bytes() == content
    assert server.ranges == [f"bytes={len(CONTENT)}-", None][: len(server.ranges)]
    assert len(server.ranges) == (1 if content == CONTENT else 2)


def test_without_a_validator_only_a_known_hash_allows_to_go_on(server, cache):
    cuts = [150_000]
    server.files["/net.pth"] = Reply(CONTENT, etag='W/"weak"', cuts=[*cuts])
    assert fetch(server.unpinned()).read_bytes() == CONTENT
    server.files["/net.pth"] = Reply(CONTENT, etag="", cuts=[*cuts])
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert server.ranges == [None, None, None, "bytes=131072-"]


def test_last_modified_serves_as_a_validator(server):
    date = {"Last-Modified": "Mon, 05 Jan 2026 10:00:00 GMT"}
    server.files["/net.pth"] = Reply(CONTENT, headers=date, etag="", cuts=[150_000])
    server.files["/net.pth"].ranges = False
    assert fetch(server.unpinned()).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=131072-"]


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ""])
def test_a_cut_file_is_noticed_without_a_hash(server, cache, ending):
    server.files[f"/net{ending}"] = Reply(CONTENT, etag="", cuts=[200_000] * 4)
    with pytest.raises(ConnectionError, match="broke 4 times"):
        fetch(server.unpinned(f"/net{ending}"))
    assert lying(cache) == []


def test_a_length_that_is_not_told_is_no_obstacle(server):
    server.files["/net.pth"] = Reply(CONTENT, length=False)
    assert fetch(server.unpinned()).read_bytes() == CONTENT


def test_old_partials_are_swept(server, cache):
    cache.mkdir(parents=True)
    names = [".a.pth.part", ".a.pth.part.json", ".b.pth.part", ".c.pth.part.json"]
    for name in names:
        (cache / name).write_bytes(b"x")
        if "b" not in name.split(".")[1]:
            os.utime(cache / name, (0, time.time() - 8 * 24 * 3600))
    server.files["/net.pth"] = CONTENT
    path = fetch(server.pinned())
    assert lying(cache) == [".b.pth.part", *with_record(path)]


# Google Drive and mirrors


PAGE = "/uc?id=abc"
FOLLOWED = "/download?keep=1&id=abc&export=download&confirm=t&uuid=1-2"


def test_the_confirmation_of_google_drive_is_given_once(server, cache):
    cookie = {"Set-Cookie": "warning=yes; Path=/", "Content-Type": "text/html"}
    server.files[PAGE] = Reply(FORM, headers=cookie, etag="")
    server.files[FOLLOWED] = Reply(CONTENT, cuts=[150_000])
    path = fetch(server.unpinned(PAGE))
    assert path.read_bytes() == CONTENT
    assert server.asked == [PAGE, FOLLOWED] * 2
    assert server.cookies[1] == "warning=yes"
    assert server.ranges == [None, None, "bytes=131072-", "bytes=131072-"]
    path.unlink()
    server.files[FOLLOWED] = QUOTA
    with pytest.raises(ValueError, match="'Google Drive - Quota exceeded', which says"):
        fetch(server.unpinned(PAGE))
    server.files[FOLLOWED] = FORM
    with pytest.raises(ValueError, match="sent a web page instead of the file"):
        fetch(server.unpinned(PAGE))
    assert len(server.asked) == 8
    assert lying(cache) == [f"{path.name}.record.json"]


def test_a_confirmation_never_leaves_the_scheme(server):
    server.files["/uc"] = FORM.replace(b"/download?", b"ftp://127.0.0.1/download?")
    with pytest.raises(ValueError, match="titled 'Google Drive - Virus scan warning'"):
        fetch(server.unpinned("/uc"))
    assert server.asked == ["/uc"]


def test_a_page_does_not_cost_what_had_come(server, cache):
    server.files["/net.pth"] = Reply(CONTENT, cuts=[150_000, 0, 0, 0])
    with pytest.raises(ConnectionError):
        fetch(server.pinned())
    away = Reply(QUOTA, etag="", ranges=False)
    whole, server.files["/net.pth"] = server.files["/net.pth"], away
    with pytest.raises(ValueError, match="Quota exceeded"):
        fetch(server.pinned())
    server.files["/net.pth"] = whole
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=131072-"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(status=404), "HTTP 404"),
        (QUOTA, "sent a web page"),
        (OTHER, "must have a SHA-256"),
        (Reply(OTHER, cuts=[70_000, 0, 0, 0]), "the connection broke"),
    ],
)
def test_mirrors_are_tried_in_turn(server, cache, heard, reply, why):
    server.files.update({"/net.pth": reply, "/mirror": CONTENT})
    urls = (f"{server.url}/net.pth", f"{server.url}/mirror", f"{server.url}/never")
    path = fetch(RemoteFile("net", urls, SHA[:10]))
    assert path.read_bytes() == CONTENT
    (warning,) = warnings_of(heard)
    start = f"weights of net could not be downloaded from {urls[0]}: "
    assert warning.startswith(start)
    assert why in warning
    assert warning.endswith("; the next address is tried.")
    assert "/never" not in server.asked
    assert lying(cache) == with_record(path)
    record = json.loads((cache / f"{path.name}.record.json").read_text())
    assert record["url"] == urls[1]


def test_a_dead_mirror_does_not_cost_what_had_come(server, cache):
    server.files["/net.pth"] = Reply(CONTENT, cuts=[150_000, 0, 0, 0])
    urls = (f"{server.url}/net.pth", "http://127.0.0.1:9/net.pth")
    file = RemoteFile("net", urls, SHA[:10])
    with pytest.raises(ConnectionError, match=r" 131072 bytes are kept .*nothing was"):
        fetch(file)
    part = part_of(weights_path(file))
    assert lying(cache) == [part.name, f"{part.name}.json"]
    assert fetch(file).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=131072-"


def test_if_all_mirrors_fail_each_reason_is_told(server, cache):
    server.files.update({"/a": OTHER, "/b": QUOTA})
    a, b, c = (f"{server.url}/{name}" for name in "abc")
    with pytest.raises(ConnectionError, match="could not be downloaded") as caught:
        fetch(RemoteFile("net", (a, b, c), SHA[:10]))
    for text in (f"{a}: it must", f"{b}: it sent a web", f"{c}: HTTP 404", "Run"):
        assert text in str(caught.value)
    with pytest.raises(ValueError, match="; from http"):
        fetch(RemoteFile("net", (a, b), SHA[:10]))
    assert lying(cache) == []


# Two processes

# A shell that starts the tests in the background has their children ignore SIGINT
SCRIPT = """
import logging, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from versa.download import RemoteFile
from versa.models.zoo.weights import fetch
print(fetch(RemoteFile("net", (sys.argv[1],), sys.argv[2])), flush=True)
"""


def start_fetch(server):
    command = [sys.executable, "-c", SCRIPT, f"{server.url}/net.pth", SHA[:10]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_two_processes_download_one_file_once(server, cache):
    reply = server.files["/net.pth"] = Reply(CONTENT, pause=0.5)
    first = start_fetch(server)
    wait_until(lambda: server.asked)
    second = start_fetch(server)
    waited = "waiting for another process that downloads the weights of net"
    assert waited in second.stdout.readline()
    reply.pause = 0.0
    said = [process.communicate(timeout=30)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    path = weights_path(server.pinned())
    assert path.read_bytes() == CONTENT
    assert server.asked == ["/net.pth"]
    assert [text.splitlines()[-1] for text in said] == [str(path), str(path)]
    assert lying(cache) == with_record(path)


def test_a_file_system_without_locks_serves(server, cache, monkeypatch):
    class NoLock:
        def __init__(self, _):
            pass

        def acquire(self, timeout=None):
            raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock", NoLock)
    server.files["/net.pth"] = CONTENT
    path = fetch(server.pinned())
    assert path.read_bytes() == CONTENT
    assert not path.with_name(f".{path.name}.lock").exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_gets_a_progress_bar(server, monkeypatch, capsys, terminal):
    server.files["/net.pth"] = CONTENT
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fetch(server.pinned())
    assert ("307k/307k" in capsys.readouterr().err) == terminal


@pytest.mark.slow
def test_waiting_can_be_interrupted(server):
    from filelock import FileLock

    path = weights_path(server.pinned())
    path.parent.mkdir(parents=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        process = start_fetch(server)
        assert "waiting for another process" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode not in (0, None)
    assert server.asked == []


@pytest.mark.slow
def test_a_killed_download_is_not_used_and_goes_on(server, cache):
    server.files["/net.pth"] = Reply(CONTENT, pause=0.05)
    path = weights_path(server.pinned())
    part = part_of(path)
    process = start_fetch(server)
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    process.kill()
    process.communicate(timeout=10)
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    assert lying(cache) == [part.name, f"{part.name}.json"]
    server.files["/net.pth"].pause = 0.0
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={have}-"]
    assert lying(cache) == with_record(path)


# Servers that are busy


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited, which nobody has to wait."""
    found = []
    clock = SimpleNamespace(sleep=found.append, time=time.time)  # not the server's
    monkeypatch.setattr("versa.http.time", clock)
    return found


def busy(status=429, wait=None):
    return Reply(status=status, headers={"Retry-After": wait} if wait else {}, etag="")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server, monkeypatch, waits, status):
    monkeypatch.setattr("versa.http._PAUSE", 2.0)
    answers = [busy(status), busy(status), busy(status), Reply(CONTENT)]
    monkeypatch.setattr(server, "files", Turns(answers))
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert waits == [2, 4, 8]


def test_the_server_says_how_long_to_wait(server, monkeypatch, waits, heard):
    date = email.utils.format_datetime(
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90),
        usegmt=True,
    )
    answers = [busy(wait="5"), busy(503, date), busy(503, "soon"), Reply(CONTENT)]
    monkeypatch.setattr(server, "files", Turns(answers))
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert waits[0] == 5
    assert 80 < waits[1] <= 90
    assert waits[2] == 0
    assert "HTTP 429 Too Many Requests; trying again in 5 s." in heard.text


@pytest.mark.parametrize(
    ("reply", "n_asked", "text"),
    [
        (busy(), 4, "HTTP 429 Too Many Requests. Run"),
        (
            busy(429, "121"),
            1,
            "Too Many Requests, and it asks to wait 121 seconds. Run",
        ),
        (busy(501), 1, "HTTP 501 Not Implemented. Run"),
        (busy(403, "1"), 1, "HTTP 403 Forbidden. Run"),
    ],
)
def test_a_server_that_stays_busy_is_left_alone(server, waits, reply, n_asked, text):
    server.files["/net.pth"] = reply
    with pytest.raises(ConnectionError, match=re.escape(text)):
        fetch(server.pinned())
    assert len(server.asked) == n_asked


def test_a_busy_server_does_not_cost_what_had_come(server, monkeypatch, waits):
    answers = [Reply(CONTENT, cuts=[150_000]), busy(503), Reply(CONTENT)]
    monkeypatch.setattr(server, "files", Turns(answers))
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=131072-", "bytes=131072-"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17", 17),
        (" 0 ", 0),
        ("-3", 0),
        ("1e9", 0),
        ("inf", 0),
        ("", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", 0),
    ],
)
def test_retry_after_is_read(text, expected):
    assert _retry_after(text) == expected


# What a caller may ask for


def get_file(server, path, **options):
    return download.download(
        "file",
        [f"{server.url}/file"],
        path,
        checked=True,
        accept=lambda part: None,
        otherwise="Give up.",
        **options,
    )


def test_a_page_is_a_file_only_where_pages_may_be(server, tmp_path):
    server.files["/file"] = QUOTA
    with pytest.raises(ValueError, match="a web page instead of the file"):
        get_file(server, tmp_path / "a")
    assert lying(tmp_path) == []
    get_file(server, tmp_path / "a", pages=True)
    assert (tmp_path / "a").read_bytes() == QUOTA


def test_a_folder_that_cannot_be_written_says_what_helps(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match=r"net cannot be written to .*or pray\.$"),
        file_lock(tmp_path / "file" / "in" / "net", "net", otherwise="pray"),
    ):
        pass


# The parts


@pytest.mark.parametrize(
    ("start", "target", "refused"),
    [
        ("https://x.org/a", "http://x.org/b", True),
        ("https://x.org/a", "https://y.org/b", False),
        ("https://x.org/a", "/b", False),
        ("http://x.org/a", "http://x.org/b", False),
    ],
)
def test_no_redirect_leaves_https(start, target, refused):
    response = requests.Response()
    response.url, response.status_code = start, 302
    response.headers["Location"] = target
    if refused:
        with pytest.raises(DownloadError, match=r"https to http://x\.org/b"):
            _check_redirect(response)
    else:
        assert _check_redirect(response) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 5-9/10", (5, 10)),
        ("bytes 0-9/*", (0, None)),
        ("bytes */10", (None, 10)),
        ("pages 1-2/3", (None, None)),
        ("", (None, None)),
    ],
)
def test_content_range_is_read(text, expected):
    response = requests.Response()
    response.headers["Content-Range"] = text
    assert _content_range(response) == expected


def test_an_encoded_file_is_never_continued(server):
    import gzip

    body = gzip.compress(CONTENT)
    headers = {"Content-Encoding": "gzip"}
    server.files["/net.pth"] = Reply(body, headers=headers, cuts=[len(body) // 2])
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert server.ranges == [None, None]


# Where a download may be led, and how much it may bring


@pytest.mark.parametrize(
    ("url", "target", "place"),
    [
        ("http://8.8.8.8/a", "http://127.0.0.1:80/b", "loopback"),
        ("http://8.8.8.8/a", "http://0.0.0.0/b", "loopback"),
        ("http://8.8.8.8/a", "http://[::1]/b", "loopback"),
        ("http://8.8.8.8/a", "http://[::ffff:169.254.169.254]/b", "link-local"),
        ("http://8.8.8.8/a", "http://2852039166/b", "link-local"),  # 169.254.169.254
        ("http://8.8.8.8/a", "http://192.168.1.1/b", "private"),
        ("http://8.8.8.8/a", "http://100.64.0.1/b", "private"),
        ("http://8.8.8.8/a", "http://[fd00::1]/b", "private"),
        ("http://8.8.8.8/a", "http://[64:ff9b::a9fe:a9fe]/b", "link-local"),  # NAT64
        ("http://8.8.8.8/a", "http://[64:ff9b:1::a00:1]/b", "private"),
        ("http://8.8.8.8/a", "http://[2002:7f00:1::]/b", "loopback"),  # 6to4
        ("http://8.8.8.8/a", "http://[::7f00:1]/b", "loopback"),
        ("http://8.8.8.8/a", "http://[::ffff:0:127.0.0.1]/b", "loopback"),
        ("http://8.8.8.8/a", "http://[fe80::1%25eth0]/b", "link-local"),
        ("http://8.8.8.8/a", "http://[fec0::1]/b", "private"),
        ("http://8.8.8.8/a", "http://224.0.0.1/b", "private"),
        ("http://8.8.8.8/a", "http://192.0.0.192/b", "private"),
        ("http://8.8.8.8/a", "http://a.invalid.internal/b", "private"),
        ("http://8.8.8.8/a", "http://localhost./b", "loopback"),
        ("http://8.8.8.8/a", "http://127.0.0.1:80\\@8.8.8.8/b", "loopback"),
        ("http://8.8.8.8/a", "http://[::1", "malformed"),
        ("http://8.8.8.8/a", "http://[64:ff9b::808:808]/b", ""),
        ("http://10.0.0.1/a", "http://127.0.0.1/b", "loopback"),
        ("http://127.0.0.1/a", "http://169.254.169.254/b", "link-local"),
        ("http://8.8.8.8/a", "http://1.1.1.1/b", ""),
        ("http://10.0.0.1/a", "http://10.0.0.2/b", ""),
        ("http://127.0.0.1/a", "http://localhost/b", ""),
        ("http://127.0.0.1/a", "http://8.8.8.8/b", ""),
    ],
)
def test_a_redirect_into_a_private_network_is_refused(url, target, place):
    if not place:
        assert check_hop(url, target) is None
        return
    with pytest.raises(DownloadError, match=f"leads to .*, a {place} address"):
        check_hop(url, target)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://a/b", "ftp://a/b"])
def test_a_redirect_stays_with_http(target):
    with pytest.raises(DownloadError, match="which is not http or https"):
        check_hop("http://8.8.8.8/a", target)


def test_no_byte_is_asked_of_a_private_host_by_a_public_one(server, monkeypatch):
    monkeypatch.setattr(
        "versa.http._reach",
        lambda url: "public" if "127.0.0.1" in url else "link-local",
    )
    there = server.url.replace("127.0.0.1", "localhost")
    away = {"Location": f"{there}/meta"}
    server.files.update({"/net.pth": Reply(status=302, headers=away), "/meta": CONTENT})
    with pytest.raises(ValueError, match="a link-local address, which a server"):
        fetch(server.pinned())
    assert server.asked == ["/net.pth"]


@pytest.mark.parametrize(("size", "most"), [(5, 5 + 2**20), (None, 2**21)])
def test_an_answer_without_end_is_left(server, cache, monkeypatch, size, most):
    monkeypatch.setattr("versa.download._LONGEST_FILE", 2**21)
    endless = Reply(CONTENT * 20, length=False)
    server.files["/net.pth"] = endless
    with pytest.raises(ValueError, match=f"must have at most {most} bytes; more came"):
        fetch(server.pinned(size=size))
    assert lying(cache) == []


def test_no_internet_is_said_once_and_at_once(monkeypatch):
    def nobody(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    wanted = RemoteFile("net", ("https://weights.example/net.pth",), sha256=SHA[:10])
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr("versa.http._PAUSE", 1e6)  # seconds: it must not wait
    with pytest.raises(ConnectionError) as caught:
        fetch(wanted)
    text = str(caught.value)
    assert text.startswith("No internet connection (cannot resolve weights.example)")
    assert text.count("resolve") == 1
