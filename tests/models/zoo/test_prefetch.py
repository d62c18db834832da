"""Weights brought to this machine before they are needed, and versa-data."""

import hashlib

import pytest

from tests.card_files import Residual, packed, trained, write_card
from versa.cli.data import data_command
from versa.models.zoo.cards import read_cards
from versa.models.zoo.loading import load_model
from versa.models.zoo.prefetch import install_weights, prefetch_weights, weights_table
from versa.models.zoo.weights import weight_file, weights_path


def file_of(seed):
    return packed(trained(Residual(), seed).state_dict())


@pytest.fixture
def zoo(tmp_path, monkeypatch, server):
    """Two networks whose weights a server has; 'lost' is on no server."""
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path / "zoo"))
    for seed, name in enumerate(["one", "two", "lost"]):
        content = file_of(seed)
        if name != "lost":
            server.files[f"/{name}.pth"] = content
        write_card(
            tmp_path / "zoo",
            name,
            builder="tests.card_files:Residual",
            layers=["layer1"],
            url=f"{server.url}/{name}.pth",
            sha256=hashlib.sha256(content).hexdigest()[:12],
        )
    return server


def place(name):
    return weights_path(weight_file(read_cards()[name]))


def test_what_was_fetched_loads_without_a_network(zoo, monkeypatch):
    assert prefetch_weights("one") == place("one")
    asked = len(zoo.asked)
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    assert load_model("one").layers == ("layer1",)
    assert prefetch_weights("one") == place("one")
    assert len(zoo.asked) == asked
    with pytest.raises(FileNotFoundError, match=r"two\.pth"):
        prefetch_weights("two")


def test_untrained_networks_need_nothing():
    assert prefetch_weights("alexnet_gn_untrained:seed=3") is None
    assert prefetch_weights("torchvision/resnet18:untrained") is None


def test_own_files_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"w\.pth does not exist"):
        prefetch_weights(f"alexnet_gn@{tmp_path / 'w.pth'}")
    (tmp_path / "w.pth").touch()
    assert prefetch_weights(f"alexnet_gn@{tmp_path / 'w.pth'}") == tmp_path / "w.pth"


def test_table_names_address_and_place(zoo, monkeypatch):
    prefetch_weights("two")
    names = ["one", "two", "alexnet_gn_untrained", "dino_vitb16", "resnet18"]
    table = weights_table(names).set_index("name")
    assert table.loc["one", "url"] == f"{zoo.url}/one.pth"
    assert table.loc["one", "path"] == str(place("one"))
    assert table["present"].tolist()[:3] == [False, True, True]
    hub = table.loc["timm_vit_base_patch16_224.dino"]
    assert (hub["url"], hub["path"]) == ("timm/vit_base_patch16_224.dino", "")
    url = table.loc["torchvision/resnet18", "url"]
    assert url.endswith("resnet18-f37072fd.pth")


def test_a_file_fetched_by_hand(zoo, tmp_path):
    (tmp_path / "right.pth").write_bytes(file_of(2))
    (tmp_path / "wrong.pth").write_bytes(file_of(1))
    with pytest.raises(ValueError, match="SHA-256"):
        install_weights("lost", tmp_path / "wrong.pth")
    assert not place("lost").exists()
    assert install_weights("lost", tmp_path / "right.pth") == place("lost")
    assert load_model("lost").layers == ("layer1",)
    with pytest.raises(ValueError, match="must be a network whose weight file versa"):
        install_weights("alexnet_gn_untrained", tmp_path / "right.pth")


def test_command_fetches_what_it_can(zoo, capsys):
    assert data_command(["weights", "one", "lost", "two", "--quiet"]) == 2
    output = capsys.readouterr()
    assert output.out.splitlines() == [f"one: {place('one')}", f"two: {place('two')}"]
    assert "versa-data weights: lost: weights of lost" in output.err
    last = output.err.strip().splitlines()[-1]
    assert last.startswith("versa-data: error: 1 of 3 could not be had: lost.")
    assert data_command(["weights", "one", "alexnet_gn_untrained", "--quiet"]) == 0
    assert "alexnet_gn_untrained: needs no weights" in capsys.readouterr().out


def test_command_says_where(zoo, capsys):
    assert data_command(["weights", "one", "--where"]) == 0
    assert f"{zoo.url}/one.pth" in capsys.readouterr().out
    assert data_command(["weights", "--paper", "--where"]) == 0
    assert "mocov2_rn50_800ep" in capsys.readouterr().out
    assert not zoo.asked


def test_command_installs(zoo, capsys, tmp_path):
    (tmp_path / "f.pth").write_bytes(file_of(2))
    arguments = ["weights", "lost", "--file", str(tmp_path / "f.pth")]
    assert data_command(arguments) == 0
    assert capsys.readouterr().out.strip() == str(place("lost"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["weights"], "NAME must be given at least once, or --paper."),
        (["weights", "one", "two", "--file", "f"], "--file must come with one NAME"),
        (["weights", "one", "onne"], "model must be a known name"),
        (["weights", "one", "--file", "none.pth"], "none.pth"),
        (["weights", "one", "--where", "--file", "f"], "--where must come without"),
    ],
)
def test_command_refuses(zoo, capsys, arguments, text):
    assert data_command(arguments) == 2
    assert text in capsys.readouterr().err
    assert not zoo.asked


def test_command_shows_where_an_error_arose(zoo):
    with pytest.raises(ConnectionError, match="lost"):
        data_command(["weights", "lost", "--traceback"])


def test_command_without_a_subcommand(capsys):
    with pytest.raises(SystemExit) as stop:
        data_command([])
    assert stop.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
