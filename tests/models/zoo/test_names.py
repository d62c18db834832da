"""What the name of a network means."""

import pytest

from versa.models.zoo.names import named_model


def test_a_file_after_the_at_sign():
    named = named_model("torchvision/resnet50@runs/a.b/weights.pth")
    assert (named.base, named.weights) == (
        "torchvision/resnet50",
        "runs/a.b/weights.pth",
    )
    assert named.label == "torchvision/resnet50@runs/a.b/weights.pth"
    weights = named_model("resnet50@IMAGENET1K_V2")
    assert (weights.library, weights.base) == ("torchvision", "resnet50@IMAGENET1K_V2")
    assert weights.weights == ""


def test_an_alias_has_its_note_and_a_name_has_none():
    assert named_model("tc_say_resnext50").note == ""
    assert "No MoCo-trained" in named_model("TC-MoCo").note
    assert named_model("mocov2_rn50").label == "mocov2_rn50_800ep"


def test_names_of_the_zoo_go_before_those_of_libraries():
    card = named_model("dino_vitb16").card
    assert card.options["name"] == "vit_base_patch16_224.dino"
    assert named_model("vit_base_patch16_224.dino").library == "timm"


def test_names_close_to_a_card_are_proposed():
    with pytest.raises(ValueError, match="Did you mean mocov2_rn50_800ep"):
        named_model("moco2_rn50_800ep")
