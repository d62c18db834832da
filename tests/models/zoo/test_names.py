"""What the name of a network means; networks of torchvision and timm, offline."""

import dataclasses

import pytest
import timm
import torch
from torchvision import models

from versa.models.preprocess import Preprocess
from versa.models.zoo import weights as download
from versa.models.zoo.cards import hash_in_name
from versa.models.zoo.listing import meta_model
from versa.models.zoo.loading import load_model
from versa.models.zoo.names import find_network

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path))
    monkeypatch.setenv("VERSA_OFFLINE", "1")


def serve(monkeypatch, state, url):
    """Put a checkpoint where the download of `url` would put it."""

    def weights(file):
        assert file.urls == (url,)
        path = download.weights_path(file)
        path.parent.mkdir(exist_ok=True)
        torch.save(state, path)
        return path

    monkeypatch.setattr(download, "fetch", lambda file, **_: weights(file))


def test_torchvision_untrained_is_their_initialisation():
    model = load_model("torchvision/squeezenet1_1:untrained:seed=3")
    torch.manual_seed(3)
    expected = models.squeezenet1_1().state_dict()
    found = model.module.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert model.name == "torchvision/squeezenet1_1:untrained:seed=3"
    assert model.preprocess == Preprocess(224, 224, MEAN, STD)
    assert model.card is None
    assert not model.module.training


def test_torchvision_weights_come_through_our_download(monkeypatch):
    source = models.squeezenet1_1()
    url = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    serve(monkeypatch, source.state_dict(), url)
    model = load_model("squeezenet1_1")
    assert model.name == "torchvision/squeezenet1_1"
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.module(x), source.eval()(x))
    assert not any(p.requires_grad for p in model.module.parameters())


def test_torchvision_brings_old_files_up_to_date(monkeypatch):
    source = models.mnasnet0_5()
    state = source.state_dict()
    assert state._metadata[""]["version"] == 2
    serve(monkeypatch, state, models.MNASNet0_5_Weights.IMAGENET1K_V1.url)
    assert load_model("torchvision/mnasnet0_5").layers


def test_wrong_weights_of_torchvision_are_refused(monkeypatch):
    state = models.squeezenet1_1().state_dict()
    del state["classifier.1.bias"]
    serve(monkeypatch, state, models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url)
    with pytest.raises(ValueError, match=r"squeezenet1_1@.* does not fit .*classifier"):
        load_model("torchvision/squeezenet1_1")


def test_offline_torchvision_names_the_place(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load_model("torchvision/resnet18")
    url = models.ResNet18_Weights.IMAGENET1K_V1.url
    assert url in str(caught.value)
    place = tmp_path / "weights" / "torchvision_resnet18@IMAGENET1K_V1-f37072fd.pth"
    assert str(place) in str(caught.value)


def test_every_torchvision_file_names_its_hash():
    for name in models.list_models(module=models):
        for member in models.get_model_weights(name):
            assert len(hash_in_name(member.url)) >= 8


def test_unknown_torchvision_weights_are_refused():
    with pytest.raises(
        ValueError, match=r"Did you mean IMAGENET1K_V2 or IMAGENET1K_V1"
    ):
        load_model("resnet50@IMAGENET1K_V3")
    with pytest.raises(ValueError, match=r"WEIGHTS of torchvision/vit_h_14@WEIGHTS"):
        load_model("torchvision/vit_h_14")


def test_a_path_is_not_a_name(tmp_path):
    file = tmp_path / "net.pth"
    file.touch()
    for path, kind in ((tmp_path, "folder"), (file, "file")):
        with pytest.raises(ValueError, match=r"model must be a name .*--list-mod") as e:
            load_model(str(path))
        assert str(e.value).endswith(f"{str(path)!r} is a {kind}.")
    with pytest.raises(ValueError, match="library must be among torchvision, timm"):
        load_model(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("google/vit-base-patch16-224", r"pass the nn\.Module with preprocess="),
        (
            "facebook/dinov2-base",
            r"preprocess=.* Of the zoo, timm_vit_base_patch14",
        ),
        ("open_clip/ViT-B-32", r"preprocess=.* Of the zoo, timm_vit_base_patch32_clip"),
        ("ViT-B/32", r"preprocess=.* Of the zoo, timm_vit_base_patch32_clip"),
        ("hf-hub:timm/resnet18.a1_in1k", r"you mean timm/resnet18\.a1_in1k\.$"),
        ("hf-hub:timm/resnet18.a1_in1k:untrained", r"you mean timm/resnet18\.a1_in1k"),
        ("hf-hub:someone/net", r"pass the nn\.Module with preprocess="),
        ("facebookresearch/dino:main", r"pass the nn\.Module with preprocess="),
        ("hf-hub:someone/net@w.pth", r"pass the nn\.Module with preprocess="),
    ],
)
def test_names_of_other_libraries_say_what_works(name, text):
    with pytest.raises(ValueError, match=text) as caught:
        load_model(name)
    assert str(caught.value).startswith("model must be a name")


def test_a_folder_named_like_a_library_is_not_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "torchvision" / "squeezenet1_1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load_model("torchvision/squeezenet1_1:untrained").layers


def test_input_size_is_that_of_the_weights():
    model = load_model("googlenet:untrained")
    assert model.preprocess.crop == model.preprocess.resize == 224
    assert model.module.transform_input
    large = load_model("torchvision/efficientnet_b1@IMAGENET1K_V1:untrained")
    assert large.preprocess == Preprocess(240, 240, MEAN, STD, "bicubic")


def test_a_vit_has_the_positions_of_its_weights():
    for name, side in (
        ("vit_b_16@IMAGENET1K_SWAG_E2E_V1", 384),
        ("vit_b_16@IMAGENET1K_SWAG_LINEAR_V1", 224),
        ("vit_b_16", 224),
        ("vit_h_14", 224),  # it has no IMAGENET1K_V1; the smaller of the two others
    ):
        base = name.partition("@")[0]
        model = meta_model(f"torchvision/{name}:untrained")
        assert model.preprocess.crop == side
        with torch.device("meta"):
            expected = models.get_model(base, image_size=side).state_dict()
        found = model.module.state_dict()
        assert {k: v.shape for k, v in found.items()} == {
            k: v.shape for k, v in expected.items()
        }
    with pytest.raises(ValueError, match="WEIGHTS of torchvision/vit_h_14@WEIGHTS"):
        meta_model("torchvision/vit_h_14")


def test_timm_untrained_records_its_preprocessing():
    model = load_model("timm/resnet10t.c3_in1k:untrained")
    assert model.name == "timm/resnet10t.c3_in1k:untrained"
    assert model.preprocess == Preprocess(176, 176, MEAN, STD, "bicubic")
    assert not model.module.training
    twin = load_model("resnet10t.c3_in1k:untrained")
    assert twin.name == model.name
    assert torch.equal(twin.module.fc.weight, model.module.fc.weight)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        (
            "timm/resnet10t.c3_in1k",
            FileNotFoundError,
            "https://huggingface.co/timm/res",
        ),
        ("timm/resnet10t.c4_in1k", ValueError, "Did you mean resnet10t.c3_in1k"),
        ("timm/legacy_senet154.in1k", FileNotFoundError, "legacy_senet154-"),
        ("timm/resnet50_mlp", ValueError, "has no pretrained weights; load timm"),
    ],
)
def test_timm_refusals(name, error, text):
    with pytest.raises(error, match=text):
        load_model(name)


@pytest.mark.parametrize("size", [(3, 224, 112), (1, 224, 224)])
def test_timm_images_must_be_square_and_coloured(monkeypatch, size):
    name = "resnet10t.c3_in1k"
    config = dataclasses.replace(timm.get_pretrained_cfg(name), input_size=size)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: config)
    with pytest.raises(ValueError, match=r"square RGB images; it takes \(") as e:
        load_model(f"timm/{name}:untrained")
    assert str(size) in str(e.value)


# Names of the zoo, and files after the @


def test_a_file_after_the_at_sign():
    named = find_network("torchvision/resnet50@runs/a.b/weights.pth")
    assert (named.card.options["name"], named.weights) == (
        "resnet50",
        "runs/a.b/weights.pth",
    )
    assert named.label == "torchvision/resnet50@runs/a.b/weights.pth"
    weights = find_network("resnet50@IMAGENET1K_V2")
    assert weights.label == weights.card.name == "torchvision/resnet50@IMAGENET1K_V2"
    assert weights.weights == ""


def test_an_alias_has_its_note_and_a_name_has_none():
    assert find_network("tc_say_resnext50").note == ""
    assert "No MoCo-trained" in find_network("TC-MoCo").note
    assert find_network("mocov2_rn50").label == "mocov2_rn50_800ep"


def test_names_of_the_zoo_go_before_those_of_libraries():
    card = find_network("dino_vitb16").card
    assert card.options["name"] == "vit_base_patch16_224.dino"
    assert find_network("vit_base_patch16_224.dino").card.name.startswith("timm/")


def test_names_close_to_a_card_are_proposed():
    with pytest.raises(ValueError, match="Did you mean mocov2_rn50_800ep"):
        find_network("moco2_rn50_800ep")
