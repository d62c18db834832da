"""Weights of timm from a hub of our own: downloaded, verified, loaded, kept."""

import dataclasses
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save

from tests.card_files import same_output, trained, write_card
from versa.models.zoo.loading import load_model
from versa.models.zoo.networks import timm_with_weights
from versa.models.zoo.prefetch import prefetch_weights, weights_table
from versa.models.zoo.weights import fetch_from_hub, hub_file

NAME = "test_resnet.r160_in1k"


def load_timm(name, **options):
    def load(path):
        return timm_with_weights(path, name, **options)

    return load(fetch_from_hub(name, load))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Cache, zoo and hub of this test; the zoo has a headless card of NAME."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path / "zoo"))
    headless_card(tmp_path)
    return tmp_path


@pytest.fixture
def hub(folders, monkeypatch):
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
        url = f"http://127.0.0.1:{running.server_port}"
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        template = template.replace(constants.ENDPOINT, url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("VERSA_OFFLINE", raising=False)
        yield running
        running.shutdown()


def headless_card(folder, layer="fc", **options):
    chosen = {"name": NAME, "num_classes": 0, **options}
    write_card(folder / "zoo", "mine", builder="timm", layers=[layer], options=chosen)


def test_weights_come_from_the_hub_once_and_are_checked(hub, monkeypatch):
    source = trained(timm.create_model(NAME))
    hub.files["model.safetensors"] = save(source.state_dict())
    model = load_model(f"timm/{NAME}")
    assert model.preprocess.crop == 160
    assert same_output(model.module, source)
    asked = len(hub.asked)
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    assert same_output(load_model(f"timm/{NAME}").module, source)
    assert len(hub.asked) == asked
    headless = load_model("mine").module  # the same file, by a card
    source.reset_classifier(0)
    assert same_output(headless, source)
    with open(hub_file(NAME), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(ValueError, match=r"is damaged\. Delete it and run"):
        load_model(f"timm/{NAME}")


def test_a_hub_without_the_file_is_named(hub):
    with pytest.raises(ConnectionError, match=r"holds none of model\.safeten"):
        load_model(f"timm/{NAME}")


def test_a_hub_that_cannot_be_reached_is_not_blamed(hub, monkeypatch):
    hub.files["model.safetensors"] = b"weights"
    text = rf"could not be reached \(%s\)\. Run `versa-data weights timm/{NAME}`"
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ConnectionError, match=text % "HF_HUB_OFFLINE is set"):
            load_model(f"timm/{NAME}")
    for error, said in (  # what the hub's library raises without a connection
        (LocalEntryNotFoundError("no file"), text % "there is no connection"),
        (
            RuntimeError("Cannot send\na request."),
            r": Cannot send a request\.$",
        ),
    ):

        def fail(*_, raised=error):
            raise raised

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        with pytest.raises(ConnectionError, match=said):
            load_model(f"timm/{NAME}")


@pytest.fixture
def kept(folders, monkeypatch):
    """A file in the cache of the hub that is no link to one named by its hash."""
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    return place(folders, NAME)


def place(folder, name):
    """Where the hub keeps the file of a network."""
    repository = timm.get_pretrained_cfg(name).hf_hub_id.replace("/", "--")
    kept, commit = folder / "hub" / f"models--{repository}", "0" * 40
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    (kept / "snapshots" / commit).mkdir(parents=True)
    return kept / "snapshots" / commit / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        (
            "mine",
            lambda s: s.pop("layer4.0.conv1.weight"),
            'Missing key.* "layer4.0.conv1',
        ),
        ("mine", lambda s: s.update(more=torch.ones(2)), 'Unexpected key.* "more"'),
        (
            f"timm/{NAME}",
            lambda s: s.update({"conv1.0.weight": torch.ones(9, 3, 3, 3)}),
            "size mismatch for conv1.0.weight",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_files_of_other_networks_are_refused(kept, name, change, text):
    state = trained(timm.create_model(NAME)).state_dict()
    assert "conv1.0.weight" in state
    change(state)
    kept.write_bytes(save(state))
    start = rf"^weights of timm/{NAME} are damaged, or not the network's \(.*"
    with pytest.raises(ValueError, match=start + text):
        load_model(name)


def refused(state, path, text):
    path.write_bytes(save(state))
    with pytest.raises(ValueError, match=rf"^weights of timm/.*{text}.*Delete {path}"):
        load_model("mine")


def test_a_card_for_larger_images_resizes_the_positions(kept, tmp_path):
    name = "test_vit.r160_in1k"
    headless_card(tmp_path, "norm", name=name, img_size=224)
    path = place(tmp_path, name)
    # 10 x 10 patches of 16 pixels become 14 x 14; the first position is the class's
    state = trained(timm.create_model(name)).state_dict()
    positions = state["pos_embed"]
    assert positions.shape == (1, 1 + 10 * 10, 64)
    grid = positions[:, 1:].reshape(1, 10, 10, 64).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(
        grid, (14, 14), mode="bicubic", antialias=True
    )
    larger = torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    source = timm.create_model(name, img_size=224).eval()
    source.load_state_dict({**state, "pos_embed": larger})
    source.reset_classifier(0)

    refused({**state, "more": torch.ones(2)}, path, "more")
    for key in ("blocks.5.mlp.fc2.bias", "pos_embed", "head.bias"):
        refused({k: v for k, v in state.items() if k != key}, path, key)
    path.write_bytes(save(state))
    assert same_output(load_model("mine").module, source, 224)


def as_openai(state):
    """Weights under the names of OpenAI's CLIP, beside some of its text encoder."""
    names = (
        *(("patch_embed.proj", "conv1"), ("norm_pre", "ln_pre"), ("norm.", "ln_post.")),
        *(("norm1", "ln_1"), ("norm2", "ln_2"), ("blocks.", "transformer.resblocks.")),
        *(("qkv.", "in_proj_"), ("attn.proj", "attn.out_proj")),
        *(("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")),
    )
    file = {"token_embedding.weight": torch.ones(3, 2), "logit_scale": torch.ones(())}
    for key, value in state.items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        file[f"visual.{key}"] = value
    del file["visual.head.bias"]  # zero in timm
    file["visual.proj"] = file.pop("visual.head.weight").T.contiguous()
    file["visual.class_embedding"] = file.pop("visual.cls_token")[0, 0]
    file["visual.positional_embedding"] = file.pop("visual.pos_embed")[0]
    return file


def test_a_card_of_clip_reads_the_file_of_its_authors(kept, tmp_path):
    name = "vit_base_patch32_clip_quickgelu_224.openai"
    small = {"depth": 1, "embed_dim": 64, "num_heads": 2}
    headless_card(tmp_path, "norm", name=name, **small)
    path = place(tmp_path, name)
    source = trained(timm.create_model(name, **small))
    assert type(source.blocks[0].mlp.act).__name__ == "QuickGELU"
    file = as_openai(source.state_dict())
    source.reset_classifier(0)

    refused({**file, "visual.more": torch.ones(2)}, path, "more")
    for key, ours in (("ln_post.bias", "norm.bias"), ("proj", "head.weight")):
        refused({k: v for k, v in file.items() if k != f"visual.{key}"}, path, ours)
    path.write_bytes(save(file))
    module = load_model("mine").module
    assert same_output(module, source, 224)
    assert type(module.blocks[0].mlp.act).__name__ == "QuickGELU"


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("convnextv2_atto.fcmae", {"num_classes": 0}, "stages.3.blocks.1.norm.bias"),
        ("dla46_c.in1k", {}, "level5.tree2.conv1.weight"),
    ],
)
def test_files_that_timm_does_not_compare_are_compared(
    kept, tmp_path, name, options, key
):
    path = place(tmp_path, name)
    source = trained(timm.create_model(name))
    # the first network's file, of a training without classes, has no such norm
    unused = [k for k in source.state_dict() if k.startswith("head.norm.")]
    state = {k: v for k, v in source.state_dict().items() if k not in unused}
    path.write_bytes(save({k: v for k, v in state.items() if k != key}))
    total = len(source.state_dict())
    text = rf"\(the file lacks 1 of the network's {total} keys: {key}\)"
    with pytest.raises(ValueError, match=text):
        load_timm(name, **options)
    path.write_bytes(save(state))
    found = load_timm(name, **options).state_dict()
    assert all(torch.equal(found[k], value) for k, value in state.items())
    assert sorted(found.keys() - state.keys()) == sorted(unused)


def test_wrong_options_are_not_blamed_on_the_file(kept):
    kept.write_bytes(save(trained(timm.create_model(NAME)).state_dict()))
    with pytest.raises(ValueError, match=r"^options must suit timm: .*'depht'"):
        load_timm(NAME, depht=3)
    text = f"^num_classes of timm/{NAME} must be 0, .* or 1000 as .*; got 10.$"
    with pytest.raises(ValueError, match=text):
        load_timm(NAME, num_classes=10)


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
    with pytest.raises(ValueError, match=f"the SHA-256 {digits}; it has .* recorded"):
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
