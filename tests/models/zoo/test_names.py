"""What the name of a network means."""

import pytest

from versa.models.zoo.names import find_network


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
