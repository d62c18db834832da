"""Weights of timm from a hub of our own: downloaded, verified, loaded, kept."""

import dataclasses
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

from tests.card_files import trained, write_card
from versa.models.prefetch import prefetch_weights, weights_table
from versa.models.zoo import load_model

NAME = "test_resnet.r160_in1k"
RUN = f"""
import sys, torch
from versa.models.libraries import hub_file
from versa.models.zoo import load_model
model = load_model(sys.argv[2])
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


def run(hub, folder, name=f"timm/{NAME}", **environment):
    (folder / "zoo").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(folder / "hub"),
        "NO_PROXY": "127.0.0.1",
        "VERSA_CACHE": str(folder / "cache"),
        "VERSA_ZOO": str(folder / "zoo"),
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "out.pt"), name],
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


def headless_card(folder, **options):
    chosen = {"name": NAME, "num_classes": 0, **options}
    write_card(folder / "zoo", "mine", builder="timm", layers=["fc"], options=chosen)


def test_a_card_without_classifier_gives_the_source_network(hub, tmp_path):
    headless_card(tmp_path)
    source = trained(timm.create_model(NAME))
    hub.files["model.safetensors"] = save(source.state_dict())
    loaded = run(hub, tmp_path, "mine")
    assert loaded.returncode == 0, loaded.stderr
    source.reset_classifier(0)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "out.pt"), source(x))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A file in the cache of the hub that is no link to one named by its hash."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    headless_card(tmp_path)
    repository = timm.get_pretrained_cfg(NAME).hf_hub_id.replace("/", "--")
    folder = tmp_path / "hub" / f"models--{repository}"
    commit = "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    return folder / "snapshots" / commit / "model.safetensors"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("layer4.0.conv1.weight"), 'Missing key.* "layer4.0.conv1'),
        (lambda s: s.update(more=torch.ones(2)), 'Unexpected key.* "more"'),
        (
            lambda s: s.update({"conv1.0.weight": torch.ones(9, 3, 3, 3)}),
            "size mismatch for conv1.0.weight",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
@pytest.mark.parametrize("name", ["mine", f"timm/{NAME}"])
def test_files_of_other_networks_are_refused(kept, name, change, text):
    state = trained(timm.create_model(NAME)).state_dict()
    assert "conv1.0.weight" in state
    change(state)
    kept.write_bytes(save(state))
    start = rf"^weights of timm/{NAME} are damaged, or not the network's \(.*"
    with pytest.raises(ValueError, match=start + text):
        load_model(name)


def test_a_hub_of_plain_files_is_checked_too(kept):
    source = trained(timm.create_model(NAME))
    content = save(source.state_dict())
    for damage in (content[: len(content) // 2], b"{}"):
        kept.write_bytes(damage)
        text = rf"or not the network's \(.* Delete {kept} and load it again"
        with pytest.raises(ValueError, match=text):
            load_model("mine")
    kept.write_bytes(content)
    for name in (f"timm/{NAME}", "mine"):
        state = load_model(name).module.state_dict()
        assert all(
            torch.equal(value, source.state_dict()[k]) for k, value in state.items()
        )
    kept.write_bytes(content[:-1] + b"\x7f")  # it would load
    digits = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match=f"the SHA-256 {digits} recorded on 20"):
        load_model("mine")


@pytest.mark.parametrize(("licence", "shown"), [("cc-by-nc-4.0", 1), ("mit", 0)])
def test_a_restricting_licence_of_timm_is_shown(
    kept, monkeypatch, caplog, licence, shown
):
    kept.write_bytes(save(trained(timm.create_model(NAME)).state_dict()))
    config = dataclasses.replace(timm.get_pretrained_cfg(NAME), license=licence)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: config)
    for _ in range(2):
        load_model(f"timm/{NAME}")
    prefetch_weights(f"timm/{NAME}")
    notices = [r.message for r in caplog.records if "licence of these" in r.message]
    assert len(notices) == shown
    assert all(f"weights is {licence}; check" in notice for notice in notices)
    assert weights_table([f"timm/{NAME}"]).loc[0, "licence"].lower() == licence
