"""Weight files from a server of our own: checked, moved, or refused."""

import hashlib
import io
import logging
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from versa.cache import file_hash
from versa.models.download import fetch, open_checkpoint, weights_path

CONTENT = bytes(range(256)) * 300
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Server of a dict {path: bytes}; counts what it sent."""
    files, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            promised = len(content or b"")
            if self.path.startswith("/cut"):
                content = content[: promised // 2]
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.files, running.asked = files, asked
        running.url = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERSA_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "weights"


def left_behind(folder):
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


@pytest.mark.parametrize("prefix", [SHA[:8], SHA[:10], SHA])
def test_file_is_downloaded_once_and_checked_each_time(server, cache, prefix):
    server.files["/a/net.pth.tar"] = CONTENT
    url = f"{server.url}/a/net.pth.tar"
    path = fetch(url, "net", prefix)
    assert path == weights_path(url, "net", prefix)
    assert path == cache / f"net-{prefix[:10]}.pth.tar"
    assert path.read_bytes() == CONTENT
    assert fetch(url, "net", prefix) == path
    assert server.asked == ["/a/net.pth.tar"]
    assert left_behind(cache) == [path.name]


def test_damaged_file_in_the_cache_is_replaced_with_a_warning(server, cache, caplog):
    server.files["/net.pth"] = CONTENT
    path = fetch(f"{server.url}/net.pth", "net", SHA[:10])
    path.write_bytes(CONTENT[:-1])
    with caplog.at_level(logging.WARNING, logger="versa"):
        fetch(f"{server.url}/net.pth", "net", SHA[:10])
    assert path.read_bytes() == CONTENT
    assert "weights of net" in caplog.text
    assert "is not used" in caplog.text


def test_files_of_one_name_do_not_collide(server):
    server.files.update({"/a/resnet50.pth": CONTENT, "/b/resnet50.pth": b"other"})
    other = hashlib.sha256(b"other").hexdigest()
    first = fetch(f"{server.url}/a/resnet50.pth", "barlow", SHA[:10])
    second = fetch(f"{server.url}/b/resnet50.pth", "vicreg", other[:10])
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, b"other")


@pytest.mark.parametrize(
    ("path", "content", "error", "text"),
    [
        ("/net.pth", b"something else", ValueError, "must have a SHA-256 that starts"),
        ("/net.pth", b"\n <!doctype html>", ValueError, "sent a web page instead"),
        ("/net.pth", None, ConnectionError, "could not be downloaded from .* 404"),
        ("/cut.pth", CONTENT, (ValueError, ConnectionError), "weights of net"),
    ],
    ids=["other-hash", "web-page", "not-found", "cut-off"],
)
def test_a_wrong_download_leaves_nothing(server, cache, path, content, error, text):
    if content is not None:
        server.files[path] = content
    with pytest.raises(error, match=text):
        fetch(f"{server.url}{path}", "net", SHA[:10])
    assert left_behind(cache) == []


def test_no_server_is_one_sentence(cache):
    with pytest.raises(ConnectionError, match=r"weights of net .* or put the file at"):
        fetch("http://127.0.0.1:9/net.pth", "net", SHA[:10])
    assert left_behind(cache) == []


def test_offline_names_the_address_and_the_place(server, cache, monkeypatch):
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    url = f"{server.url}/net.pth"
    place = cache / f"net-{SHA[:10]}.pth"
    with pytest.raises(FileNotFoundError) as caught:
        fetch(url, "net", SHA[:10])
    assert url in str(caught.value)
    assert str(place) in str(caught.value)
    assert server.asked == []
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert fetch(url, "net", SHA[:10]) == place


def test_name_of_the_file_keeps_its_ending_and_its_folder():
    path = weights_path("https://x.org/a.b/net?x=1", "timm/a b", "0123abcd")
    assert path.name == "timm_a_b-0123abcd"


def test_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert file_hash(tmp_path / "file") == SHA


@pytest.mark.parametrize("zipped", [True, False])
def test_both_containers_of_pytorch_open(tmp_path, zipped):
    state = {"state_dict": {"w": torch.arange(3.0)}, "epoch": 3}
    torch.save(state, tmp_path / "net", _use_new_zipfile_serialization=zipped)
    found = open_checkpoint(tmp_path / "net", source="toy")
    assert torch.equal(found["state_dict"]["w"], torch.arange(3.0))


def test_safetensors_open(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.arange(3.0)}, tmp_path / "net.safetensors")
    found = open_checkpoint(tmp_path / "net.safetensors", source="toy")
    assert torch.equal(found["w"], torch.arange(3.0))


class Evil:
    def __reduce__(self):
        return (print, ("code was run",))


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"state_dict": Evil()}, tmp_path / "net")
    with pytest.raises(ValueError, match="checkpoint of toy cannot be read from"):
        open_checkpoint(tmp_path / "net", source="checkpoint of toy")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage" * 9, pickle.dumps([1], protocol=2)[:-2]]
)
def test_damaged_files_are_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^toy cannot be read from .*\.$"):
        open_checkpoint(tmp_path / name, source="toy")


def test_cut_zip_is_one_sentence(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(1000)}, buffer)
    (tmp_path / "net.pth").write_bytes(buffer.getvalue()[:2000])
    with pytest.raises(ValueError, match=r"^toy cannot be read from"):
        open_checkpoint(tmp_path / "net.pth", source="toy")
