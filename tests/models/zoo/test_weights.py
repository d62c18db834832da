"""Weight files from a server of our own: checked, moved, recorded, or refused."""

import hashlib
import json
import random

import pytest

from tests.serving import (
    CONTENT,
    MD5,
    OTHER,
    OTHER_SHA,
    QUOTA,
    SHA,
    Reply,
    lying,
    part_of,
    warnings_of,
    with_record,
)
from versa.cache import file_hash
from versa.download import RemoteFile
from versa.models.zoo.weights import fetch, install, notice_once, weights_path

pytestmark = pytest.mark.usefixtures("cache", "heard")


@pytest.mark.parametrize("prefix", [SHA[:8], SHA[:10], SHA])
def test_file_is_downloaded_once_and_checked_each_time(server, cache, prefix):
    server.files["/a/net.pth.tar"] = CONTENT
    file = server.pinned("/a/net.pth.tar", sha256=prefix)
    path = fetch(file)
    assert path == weights_path(file)
    assert path == cache / f"net-{prefix[:10]}.pth.tar"
    assert path.read_bytes() == CONTENT
    assert fetch(file) == path
    assert server.asked == ["/a/net.pth.tar"]
    assert lying(cache) == with_record(path)


def test_md5_names_and_checks_the_file(server, cache):
    server.files["/net.pth"] = CONTENT
    path = fetch(server.pinned(sha256="", md5=MD5))
    assert path == cache / f"net-{MD5[:10]}.pth"
    record = json.loads((cache / f"{path.name}.record.json").read_text())
    assert (record["sha256"], record["size"]) == (SHA, len(CONTENT))
    assert record["url"] == f"{server.url}/net.pth"


def test_damaged_file_in_the_cache_is_replaced_with_a_warning(server, cache, heard):
    server.files["/net.pth"] = CONTENT
    path = fetch(server.pinned())
    path.write_bytes(OTHER)
    fetch(server.pinned())
    assert path.read_bytes() == CONTENT
    (warning,) = warnings_of(heard)
    assert warning.startswith(f"weights of net: {path} is damaged and is not used: ")
    assert f"SHA-256 that starts with {SHA[:10]}; it has {OTHER_SHA}" in warning


def test_files_of_one_name_do_not_collide(server):
    server.files.update({"/a/resnet50.pth": CONTENT, "/b/resnet50.pth": OTHER})
    for hashes in ((SHA[:10], OTHER_SHA[:10]), ("", "")):
        found = [
            fetch(RemoteFile("net", (f"{server.url}/{place}/resnet50.pth",), digits))
            for place, digits in zip("ab", hashes, strict=True)
        ]
        assert [path.read_bytes() for path in found] == [CONTENT, OTHER]


def test_name_of_the_file_keeps_its_ending_and_its_folder():
    url = "https://x.org/a.b/net?x=1"
    assert weights_path(RemoteFile("timm/a b", (url,), "0123abcd")).name == (
        "timm_a_b-0123abcd"
    )
    drive = "https://drive.google.com/uc?export=download&id=abc"
    digits = hashlib.sha256(drive.encode()).hexdigest()[:7]
    assert weights_path(RemoteFile("tc", (drive,))).name == f"tc-url{digits}"


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 5])
def test_digest_is_that_of_the_bytes(tmp_path, monkeypatch, size):
    monkeypatch.setattr("versa.cache._BLOCK", 2**20)
    content = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(content)
    assert file_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()


# What is refused


@pytest.mark.parametrize(
    ("reply", "changes", "error", "text"),
    [
        (OTHER, {}, ValueError, f"must have a SHA-256 that starts with {SHA[:10]}; it "
         f"has {OTHER_SHA}. It was damaged on its way, or replaced at its source"),
        (OTHER, {"sha256": "", "md5": MD5}, ValueError, f"must have the MD5 {MD5}; it"),
        (OTHER, {"size": 5}, ValueError, "must have 5 bytes; it has 307200. It was"),
        (b"", {}, ValueError, "the file is empty. It was damaged"),
        (b"\n <!doctype html>", {}, ValueError, "sent a web page instead of the file. "
         "Open the address in a browser"),
        (b"\xef\xbb\xbf<html><title> Sign\n in </title>", {}, ValueError,
         "it sent a web page instead of the file, titled 'Sign in'. Open"),
        (Reply(b"log in", headers={"Content-Type": "Text/HTML; charset=utf-8"}), {},
         ValueError, "it sent a web page instead of the file. Open"),
        (QUOTA, {}, ValueError, "titled 'Google Drive - Quota exceeded', which says "
         "'Too many users have viewed or downloaded this file recently. Please try"),
        (None, {}, ConnectionError, "be downloaded from http.*: HTTP 404 Not "
         "Found. Run it again, or put the file at .*net-"),
        (Reply(b"no", 403), {}, ConnectionError, "HTTP 403 Forbidden. Run it again"),
        (Reply(b"no", 500), {}, ConnectionError, "HTTP 500 Internal Server Error. Run"),
        (Reply(b"", 206), {}, ConnectionError, "HTTP 206 Partial Content. Run"),
        (Reply(b"", 302, {"Location": "/net.pth"}), {}, ConnectionError, "redirects"),
        (Reply(CONTENT, etag="", cuts=[99] * 4), {"sha256": ""}, ConnectionError,
         r"the connection broke 4 times \(.*; nothing was kept. Run it again, or put"),
    ],
    ids=["sha256", "md5", "size", "empty", "page", "title", "type", "quota", "404",
         "403", "500", "206", "loop", "cut"],
)  # fmt: skip
def test_a_wrong_download_leaves_nothing(server, cache, reply, changes, error, text):
    if reply is not None:
        server.files["/net.pth"] = reply
    with pytest.raises(error, match=f"^weights of net could not .*{text}") as caught:
        fetch(server.pinned(**changes))
    assert str(caught.value).endswith(".")
    assert lying(cache) == []


@pytest.mark.parametrize("text", [b" <\0\0\0\0\0\0{}", b"\x3c\0\0\0\0\0\0\0{}"])
def test_bytes_that_only_begin_like_a_page_are_no_page(server, text):
    # a safetensors file begins with a length, which may look like a blank and a "<"
    server.files["/net.safetensors"] = text
    assert fetch(server.unpinned("/net.safetensors")).read_bytes() == text


def test_no_server_is_one_sentence(cache):
    with pytest.raises(ConnectionError, match=r"weights of net .* or put the file at"):
        fetch(RemoteFile("net", ("http://127.0.0.1:9/net.pth",), SHA[:10]))
    assert lying(cache) == []


def test_an_address_that_is_none_is_one_sentence(cache):
    with pytest.raises(ConnectionError, match=r"weights of net .* from nothing: "):
        fetch(RemoteFile("net", ("nothing",), SHA[:10]))
    assert lying(cache) == []


def test_a_silent_server_is_left(server, cache, monkeypatch):
    monkeypatch.setattr("versa.http._TIMEOUT", 0.1)
    server.files["/net.pth"] = Reply(CONTENT, pause=0.4)
    server.files["/b"] = CONTENT
    urls = (f"{server.url}/net.pth", f"{server.url}/b")
    with pytest.raises(ConnectionError, match=r"broke 4 times .*imed out"):
        fetch(RemoteFile("net", urls[:1], SHA[:10]))
    assert fetch(RemoteFile("net", urls, SHA[:10])).read_bytes() == CONTENT


def test_redirects_are_followed(server):
    server.files["/net.pth"] = Reply(status=302, headers={"Location": "/b"})
    server.files["/b"] = CONTENT
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert server.asked == ["/net.pth", "/b"]


# Offline, by hand, read-only


def test_offline_names_the_address_and_the_place(server, cache, monkeypatch):
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    file = RemoteFile("net", (f"{server.url}/net.pth", "http://b/"), SHA[:10])
    place = cache / f"net-{SHA[:10]}.pth"
    with pytest.raises(FileNotFoundError) as caught:
        fetch(file)
    assert str(caught.value) == (
        "weights of net are not in the cache and VERSA_OFFLINE forbids the download. "
        f"Unset it, or put {server.url}/net.pth or http://b/ (SHA-256 {SHA[:10]}...) "
        f"at {place} (`versa-data weights net --file FILE` does so), or run "
        "`versa-data weights net` on a machine with network and copy its cache to "
        f"{cache.parent}."
    )
    assert server.asked == []
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert fetch(file) == place


def test_a_file_by_hand_is_installed(server, cache, tmp_path, monkeypatch, heard):
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    (tmp_path / "mine").write_bytes(CONTENT)
    path = install(server.pinned(), tmp_path / "mine", notice="Not for sale.")
    assert path.read_bytes() == CONTENT
    assert (tmp_path / "mine").exists()
    assert lying(cache) == [*with_record(path), "notices"]
    assert install(server.pinned(), path) == fetch(server.pinned()) == path
    assert warnings_of(heard) == ["Not for sale."]
    record = json.loads((cache / f"{path.name}.record.json").read_text())
    assert record["url"] == "installed by hand"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (OTHER, f"it must have a SHA-256 that starts with {SHA[:10]}; it has "),
        (b"<title>Oh</title>", "the file is a web page, titled 'Oh'. Open the address"),
        (b"", "the file is empty. It was"),
    ],
)
def test_another_file_is_not_installed(server, cache, tmp_path, content, text):
    (tmp_path / "mine").write_bytes(content)
    start = f"weights of net cannot be installed from {tmp_path / 'mine'}: {text}"
    with pytest.raises(ValueError, match=f"^{start}"):
        install(server.pinned(), tmp_path / "mine")
    assert lying(cache) == []


def test_only_a_file_is_installed(server, cache, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"from a file; .* is a folder. Give"):
        install(server.pinned(), tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"from a file; .*no is not found. Give"
    ):
        install(server.pinned(), tmp_path / "no")
    assert lying(cache) == []


def no_writing(monkeypatch, *modules):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    for module in modules:  # root may write anywhere, so permissions cannot tell
        monkeypatch.setattr(f"versa.{module}.atomic_write", refuse)


def test_a_read_only_cache_serves(server, cache, monkeypatch, heard):
    no_writing(monkeypatch, "models.zoo.weights", "download")
    cache.mkdir(parents=True)
    path = weights_path(server.unpinned())
    path.write_bytes(CONTENT)
    assert fetch(server.unpinned(), notice="Not for sale.") == path
    assert warnings_of(heard) == ["Not for sale."]
    assert lying(cache) == [path.name]


def test_a_folder_that_cannot_be_written_is_one_sentence(server, cache, monkeypatch):
    server.files["/net.pth"] = CONTENT
    no_writing(monkeypatch, "download")
    start = f"weights of net cannot be written to {cache} .*Permission denied"
    with pytest.raises(OSError, match=f"^{start}.* set VERSA_CACHE to another folder"):
        fetch(server.pinned())
    cache.parent.joinpath("blocked").touch()
    monkeypatch.setenv("VERSA_CACHE", str(cache.parent / "blocked"))
    with pytest.raises(OSError, match=r"weights of net cannot be written to .*blocked"):
        fetch(server.pinned())


def test_a_full_disk_is_one_sentence_and_the_rest_comes_later(
    server, cache, monkeypatch
):
    class Full:
        """A file that takes two pieces."""

        def __init__(self, *args):
            self.file, self.left = open(*args), 2  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, chunk):
            if not self.left:
                raise OSError(28, "No space left on device")
            self.left -= 1
            self.file.write(chunk)

    server.files["/net.pth"] = Reply(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr("versa.download.open", Full, raising=False)
        with pytest.raises(OSError, match=r"No space left.* set VERSA_CACHE") as caught:
            fetch(server.pinned())
    assert str(cache) in str(caught.value)
    assert part_of(weights_path(server.pinned())).stat().st_size == 2 * 2**16
    assert fetch(server.pinned()).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={2 * 2**16}-"]


# Trust on first use


def test_first_use_is_recorded_and_checked_ever_after(server, cache, heard):
    server.files["/net.pth"] = CONTENT
    file = server.unpinned()
    path = fetch(file)
    record = cache / f"{path.name}.record.json"
    written = json.loads(record.read_text())
    assert written["sha256"] == SHA
    assert written["size"] == len(CONTENT)
    assert written["url"] == f"{server.url}/net.pth"
    assert len(written["first_used"]) == len("2026-01-31")
    assert f"their SHA-256 {SHA} is recorded in {record}" in heard.text
    path.unlink()
    server.files["/net.pth"] = OTHER
    with pytest.raises(ValueError, match="could not be downloaded") as caught:
        fetch(file)
    for part in (SHA, OTHER_SHA, f"delete the record {record}", "recorded on 20"):
        assert part in str(caught.value)
    assert lying(cache) == [record.name]
    record.unlink()
    assert fetch(file).read_bytes() == OTHER


def test_a_file_that_left_its_record_is_downloaded_again(server, cache, heard):
    server.files["/net.pth"] = CONTENT
    path = fetch(server.unpinned())
    path.write_bytes(OTHER)
    fetch(server.unpinned())
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 2
    assert "is damaged and is not used: it must have the SHA-256" in heard.text


def test_a_file_put_there_by_hand_is_recorded(server, cache, monkeypatch):
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    path = weights_path(server.unpinned())
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(server.unpinned()) == path
    record = json.loads((cache / f"{path.name}.record.json").read_text())
    assert (record["sha256"], record["url"]) == (SHA, "placed by hand")
    path.write_bytes(OTHER)
    with pytest.raises(FileNotFoundError, match=rf"\(SHA-256 {SHA}\) at"):
        fetch(server.unpinned())
    (cache.parent / "other").write_bytes(OTHER)
    with pytest.raises(ValueError, match=f"{SHA}; it has .*delete the record"):
        install(server.unpinned(), cache.parent / "other")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 3}', "\x00", '{"sha256":'
                                  ' "abc", "first_used": "today"}'])  # fmt: skip
def test_a_record_that_cannot_be_read_is_one_sentence(server, cache, text):
    server.files["/net.pth"] = CONTENT
    path = fetch(server.unpinned())
    record = cache / f"{path.name}.record.json"
    record.write_text(text)
    with pytest.raises(ValueError, match=r"must be JSON .* Delete it to trust") as told:
        fetch(server.unpinned())
    assert str(record) in str(told.value)
    record.unlink()
    assert fetch(server.unpinned()) == path


# Notices


def test_a_notice_is_shown_once(server, cache, heard):
    server.files["/net.pth"] = CONTENT
    for _ in range(2):
        path = fetch(server.pinned(), notice="Not for sale.")
    fetch(server.pinned())
    assert warnings_of(heard) == ["Not for sale."]
    marker = cache / "notices" / f"{path.name}.txt"
    assert marker.read_text() == "Not for sale."
    notice_once(path.name, "Not for sale, nor for hire.")
    notice_once("timm/net", "Not for sale.")
    assert len(warnings_of(heard)) == 3
    assert lying(cache / "notices") == [marker.name, "timm_net.txt"]


def test_a_notice_waits_for_the_file(server, heard):
    with pytest.raises(ConnectionError):
        fetch(server.pinned(), notice="Not for sale.")
    assert warnings_of(heard) == []
