"""One checkpoint of every layout: written, served, downloaded, verified, loaded."""

import hashlib

import pytest
import torch
from safetensors.torch import save

from tests.card_files import (
    PUBLISHED,
    Residual,
    Tiny,
    packed,
    same_output,
    trained,
    under,
    write_card,
)
from tests.serving import Reply, old_numpy
from versa.models.zoo.cards import read_cards
from versa.models.zoo.layouts import LAYOUTS
from versa.models.zoo.loading import load_model, network_from
from versa.models.zoo.networks import (
    build_network,
)
from versa.models.zoo.prefetch import install_weights, prefetch_weights
from versa.models.zoo.weights import own_file, weight_file, weights_path

ALLOW = {"tc": ["numpy_array"], "dino_saycam": ["numpy_scalar", "namespace"]}


@pytest.fixture
def zoo(tmp_path, monkeypatch, server):
    """Function that serves a file and writes its card."""
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path / "zoo"))

    def put(content, adapter, name="net", file="net.pth", **fields):
        server.files[f"/{file}"] = content
        write_card(
            tmp_path / "zoo",
            name,
            **{
                "builder": "tests.card_files:Residual",
                "url": f"{server.url}/{file}",
                "sha256": hashlib.sha256(content).hexdigest()[:10],
                "adapter": adapter,
                "layers": ["layer1"],
                **fields,
            },
        )
        return server

    return put


def test_every_layout_of_a_published_file_is_here():
    used = {card.adapter for card in read_cards().values() if card.url or card.file}
    used |= {"plain"}
    assert used - {""} <= PUBLISHED.keys()
    assert PUBLISHED.keys() <= LAYOUTS.keys()


@pytest.mark.parametrize("adapter", PUBLISHED)
def test_a_published_file_gives_the_source_network(zoo, adapter):
    source = trained(Residual())
    wrap, legacy = PUBLISHED[adapter]
    content = packed(wrap(source.state_dict()), legacy=legacy)
    if adapter == "tc":
        content = old_numpy(content)
        assert b"numpy.core.multiarray" in content
        assert b"numpy._core" not in content
    served = zoo(content, adapter, allow=ALLOW.get(adapter))
    model = load_model("net")
    assert same_output(model.module, source)
    assert not model.module.training
    assert served.asked  # it came from the server
    count = len(served.asked)
    assert same_output(load_model("net").module, source)
    assert len(served.asked) == count  # and the second time from the cache


def test_safetensors(zoo):
    source = trained(Residual())
    zoo(save(source.state_dict()), "plain", file="model.safetensors")
    assert same_output(load_model("net").module, source)


def test_what_a_card_does_not_allow_is_refused(zoo, tmp_path):
    wrap, _ = PUBLISHED["dino_saycam"]
    zoo(packed(wrap(trained(Residual()).state_dict())), "dino_saycam")
    with pytest.raises(ValueError, match=r"checkpoint of net .*argparse\.Namespace"):
        load_model("net")
    card = read_cards()["net"]
    assert weights_path(weight_file(card)).is_file()  # whole, as its hash says


def damaged(state, change):
    return {**{f"module.{k}": v for k, v in state.items()}, **change}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            lambda s: damaged(s, {"module.more": torch.zeros(1)}),
            "holds 1 keys .*: more",
        ),
        (
            lambda s: damaged(s, {"module.conv1.weight": torch.zeros(8, 3, 5, 5)}),
            r"other shapes .*conv1\.weight is \(8, 3, 5, 5\), not \(8, 3, 3, 3\)",
        ),
        (
            lambda s: {
                k: v for k, v in damaged(s, {}).items() if k != "module.bn1.weight"
            },
            r"lacks 1 of the network's .* keys: bn1\.weight",
        ),
        # strict=False would load nothing of these and keep silent
        (lambda s: under("module.module.", s), r"lacks \d+ of"),
        (lambda s: under("net.", s), r"must hold keys that start with 'module\.'"),
    ],
    ids=["extra", "shape", "missing", "prefix-twice", "prefix-other"],
)
def test_another_network_is_refused(zoo, content, text):
    state = trained(Residual()).state_dict()
    zoo(packed({"state_dict": content(state)}), "ipcl")
    with pytest.raises(ValueError, match=rf"^checkpoint of net .*{text}"):
        load_model("net")


def test_one_file_name_under_two_addresses(zoo):
    first, second = trained(Residual(), 1), trained(Residual(), 2)
    for name, source in (("barlow", first), ("vicreg", second)):
        content = packed(source.state_dict())
        zoo(content, "plain", name=name, file=f"{name}/resnet50.pth", sha256="")
    assert same_output(load_model("barlow").module, first)
    assert same_output(load_model("vicreg").module, second)


def lying(folder):
    """Files in a folder that anything could take for weights."""
    return [p.name for p in folder.glob("*") if not p.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("spoil", "legacy", "text"),
    [
        (lambda content: content[: len(content) // 2], False, "cut off or damaged"),
        (lambda content: content[: len(content) // 2], True, "cut off or damaged"),
        (lambda _: b'{"error": "quota exceeded"}', False, "cannot be read from"),
        (lambda _: packed(trained(Tiny()).state_dict()), False, "lacks 12 of the"),
    ],
    ids=["half", "half-legacy", "json", "other-network"],
)
def test_without_a_hash_only_the_network_itself_is_trusted(
    zoo, tmp_path, monkeypatch, spoil, text, legacy
):
    source = trained(Residual())
    good = packed(source.state_dict(), legacy=legacy)
    served = zoo(good, "plain", sha256=None)
    served.files["/net.pth"] = Reply(spoil(good), length=False)
    (tmp_path / "by_hand.pth").write_bytes(spoil(good))
    path = weights_path(weight_file(read_cards()["net"]))
    for attempt in (
        lambda: load_model("net"),
        lambda: prefetch_weights("net"),
        lambda: install_weights("net", tmp_path / "by_hand.pth"),
    ):
        with pytest.raises(ValueError, match=f"^weights of net .*not the .*{text}"):
            attempt()
        assert lying(path.parent) == []
    path.write_bytes(spoil(good))
    with monkeypatch.context() as patch:
        patch.setenv("VERSA_OFFLINE", "1")
        for attempt in (load_model, prefetch_weights):
            with pytest.raises(ValueError, match=f"{text}.* Delete .*net-url"):
                attempt("net")
    assert lying(path.parent) == [path.name]  # what a user put there is his
    path.unlink()
    served.files["/net.pth"] = good
    assert prefetch_weights("net") == path
    assert same_output(load_model("net").module, source)
    assert len(lying(path.parent)) == 2  # the file and its record


def test_networks_of_equal_shapes_are_told_apart_by_their_heads(zoo):
    wrap, _ = PUBLISHED["tc"]
    content = packed(wrap(trained(Residual()).state_dict()))
    head = "module.fc.weight"  # of shape (2, 3)
    zoo(content, "tc", allow=["numpy_array"], holds={head: [2, 3]})
    assert load_model("net").name == "net"
    for holds in ({head: [4, 3]}, {"module.more": [2, 3]}):
        zoo(content, "tc", name="child", allow=["numpy_array"], holds=holds)
        text = r"must hold 'module\..*' of shape .* It is another network"
        with pytest.raises(ValueError, match=text):
            load_model("child")


def test_own_weights_of_a_network_that_reads_while_it_is_built(tmp_path):
    options = {"name": "regnet_y_400mf"}  # its constructor needs numbers
    source = trained(build_network("torchvision", options))
    torch.save(source.state_dict(), tmp_path / "net.pth")
    module = network_from(
        lambda: build_network("torchvision", options), own_file(tmp_path / "net.pth")
    ).eval()
    assert same_output(module, source)


def test_an_absent_plug_in_costs_no_download(zoo):
    served = zoo(b"weights", "plain", builder="no_such_pack.nets:Net", requires="nets")
    with pytest.raises(ImportError, match="`pip install nets`"):
        load_model("net")
    with pytest.raises(ImportError, match="`pip install nets`"):
        prefetch_weights("net")
    with pytest.raises(ImportError, match="`pip install nets`"):
        load_model("net", weights="absent.pt")  # nor does it ask for the file first
    assert not served.asked


def test_a_damaged_file_in_the_cache_is_replaced(zoo):
    source = trained(Residual())
    served = zoo(packed(source.state_dict()), "plain")
    load_model("net")
    path = weights_path(weight_file(read_cards()["net"]))
    path.write_bytes(path.read_bytes()[:-100])
    assert same_output(load_model("net").module, source)
    assert len(served.asked) >= 2


def test_a_layout_in_the_card(zoo):
    source = trained(Tiny())
    content = packed({"a": {"b": under("x.", source.state_dict())}})
    layout = {"path": ["a", "b"], "prefix": "x."}
    zoo(content, None, builder="tests.card_files:Tiny", layers=["fc6"], layout=layout)
    assert same_output(load_model("net").module, source)
