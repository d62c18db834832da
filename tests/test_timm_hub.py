"""Weights of timm from a hub of our own: downloaded, verified, loaded, kept."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from safetensors.torch import save

from tests.card_files import trained

NAME = "test_resnet.r160_in1k"
RUN = f"""
import sys, torch
from versa.models.libraries import hub_file
from versa.models.zoo import load_model
model = load_model("timm/{NAME}")
x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
torch.save(model.module(x), sys.argv[1])
print(model.preprocess.crop, hub_file("{NAME}"))
"""


@pytest.fixture
def hub():
    """A hub with one file: what it holds, and what was asked of it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body):
            running.asked.append((self.command, self.path))
            content = running.files.get(self.path.rpartition("/")[2])
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            else:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body:
                self.wfile.write(content or b"")

        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(
            target=running.serve_forever, args=(0.02,), daemon=True
        ).start()
        running.files, running.asked = {}, []
        yield running
        running.shutdown()


def run(hub, folder, **environment):
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(folder / "hub"),
        "NO_PROXY": "127.0.0.1",
        "VERSA_CACHE": str(folder / "cache"),
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "out.pt")],
        env=environment,
        capture_output=True,
        text=True,
    )


def test_weights_come_from_the_hub_once_and_are_checked(hub, tmp_path):
    source = trained(timm.create_model(NAME))
    hub.files["model.safetensors"] = save(source.state_dict())
    first = run(hub, tmp_path)
    assert first.returncode == 0, first.stderr
    crop, path = first.stdout.split()
    assert crop == "160"
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "out.pt"), source(x))
    asked = len(hub.asked)
    again = run(hub, tmp_path, VERSA_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert len(hub.asked) == asked
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    damaged = run(hub, tmp_path, VERSA_OFFLINE="1")
    assert damaged.returncode == 1
    assert "the file is damaged. Delete it and run again." in damaged.stderr


def test_a_hub_without_the_file_is_named(hub, tmp_path):
    absent = run(hub, tmp_path)
    assert absent.returncode == 1
    assert "holds none of model.safetensors, pytorch_model.bin" in absent.stderr
