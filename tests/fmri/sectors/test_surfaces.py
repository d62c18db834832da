"""Responses of vertices: matched to labels by hand, cut at y as voxels are."""

import logging

import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from nilearn.surface import PolyData, SurfaceImage, load_surf_mesh

from versa.fmri.sectors.surfaces import (
    region_vertices,
    split_vertices_at_y,
    surface_responses,
)
from versa.fmri.volumes.spaces import to_talairach

N_VERTICES = {"left": 12, "right": 10}
RNG = np.random.default_rng(0)
DATA = {side: RNG.normal(size=(n, 4)) for side, n in N_VERTICES.items()}
LABELS = {side: np.arange(n) % 4 for side, n in N_VERTICES.items()}
NAMES = {1: "V1", 2: "V2", 3: "V3"}


@pytest.mark.parametrize("form", [dict, lambda parts: PolyData(**parts)])
def test_responses_are_those_of_the_labelled_vertices(form):
    found = surface_responses(form(DATA), form(LABELS), ["V1", "V3"], names=NAMES)
    expected = np.concatenate(
        [DATA[side][np.isin(LABELS[side], [1, 3])].T for side in ("left", "right")],
        axis=1,
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        surface_responses(form(DATA), form(LABELS), [3, np.int64(1)]), expected
    )


def test_surface_images_of_nilearn_are_understood():
    mesh = load_fsaverage("fsaverage5")["pial"]
    n_vertices = {side: len(part.coordinates) for side, part in mesh.parts.items()}
    data = {side: RNG.normal(size=(n, 2)) for side, n in n_vertices.items()}
    labels = {side: np.arange(n) % 100 for side, n in n_vertices.items()}
    found = surface_responses(SurfaceImage(mesh, data), SurfaceImage(mesh, labels), 7)
    expected = [data[side][7::100].T for side in ("left", "right")]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))


def test_one_image_and_one_hemisphere_are_enough():
    found = surface_responses({"right": np.arange(10.0)}, {"right": LABELS["right"]}, 2)
    assert found.tolist() == [[2, 6]]
    boolean = {"right": LABELS["right"] == 2}
    assert surface_responses({"right": np.arange(10)}, boolean, 1).tolist() == [[2, 6]]


def test_each_side_may_have_names_of_its_own():
    names = {"left": {1: "V1", 2: "V2"}, "right": {2: "V1", 1: "V2"}}
    found = region_vertices(LABELS, "V1", names=names)
    np.testing.assert_array_equal(found["left"], LABELS["left"] == 1)
    np.testing.assert_array_equal(found["right"], LABELS["right"] == 2)
    found = region_vertices(LABELS, "V1", names={"left": {1: "V1"}, "right": {}})
    assert not found["right"].any()


@pytest.mark.parametrize(
    ("regions", "names", "text"),
    [
        ("v1", NAMES, r"region must be among V1, V2, V3; got 'v1'. Did you mean V1"),
        ("V1", None, "region 'V1' must have a label: pass names="),
        ("V4", {4: "V4"}, "region 'V4' must have vertices; no label is of it"),
        (9, NAMES, "region 9 must have vertices"),
        (["V1", 9], NAMES, "region 9 must have vertices"),
        (0, NAMES, "other than 0, which marks vertices without a label; got 0"),
        ([1, 0.0], None, "whole numbers other than 0, .*; got 0.0"),
        ([1.7], NAMES, "whole numbers other than 0, .*; got 1.7"),
        (None, NAMES, "regions must be names, or whole numbers .*; got None"),
    ],
)
def test_unknown_regions_are_refused(regions, names, text):
    with pytest.raises(ValueError, match=text):
        region_vertices(LABELS, regions, names=names)


def test_data_and_labels_must_be_of_one_surface():
    short = LABELS | {"right": LABELS["right"][:8]}
    with pytest.raises(ValueError, match="right, data have 10 vertices and labels hav"):
        surface_responses(DATA, short, 1)
    with pytest.raises(ValueError, match="data have left, labels have left, right"):
        surface_responses({"left": DATA["left"]}, LABELS, 1)
    with pytest.raises(ValueError, match=r"labels of the left .* got \(12, 4\)"):
        surface_responses(DATA, DATA, 1)
    with pytest.raises(ValueError, match=r"data must be a PolyData.*; got ndarray"):
        surface_responses(DATA["left"], LABELS, 1)
    with pytest.raises(ValueError, match="got nothing"):
        surface_responses({}, LABELS, 1)


def test_missing_values_are_never_taken(caplog):
    data = {side: part.copy() for side, part in DATA.items()}
    data["left"][5, 2] = np.nan  # label 1
    data["right"][0] = np.nan  # label 0: nobody asks for it
    with pytest.raises(ValueError, match=r"1 of 6 have none in some image \(medial"):
        surface_responses(data, LABELS, 1)
    with caplog.at_level(logging.INFO, logger="versa"):
        found = surface_responses(data, LABELS, 1, missing="drop")
    assert "1 of 6 vertices without data dropped" in caplog.text
    np.testing.assert_array_equal(
        found, np.delete(surface_responses(DATA, LABELS, 1), 1, axis=1)
    )
    data["left"][:], data["right"][:] = np.nan, np.nan
    with pytest.raises(ValueError, match="6 of 6 have none"):
        surface_responses(data, LABELS, 1, missing="drop")
    with pytest.raises(ValueError, match="missing must be among refuse, drop"):
        surface_responses(DATA, LABELS, 1, missing="zero")


@pytest.mark.parametrize("side", ["left", "right"])
def test_fsaverage_is_cut_where_its_talairach_y_says(side):
    mesh = load_surf_mesh(load_fsaverage("fsaverage5")["pial"].parts[side])
    places = mesh.coordinates
    chosen = np.zeros(len(places), dtype=bool)
    chosen[::3] = True
    posterior, anterior = split_vertices_at_y(chosen, places, "MNI305")
    y = to_talairach(places, "MNI305")[:, 1]
    np.testing.assert_array_equal(posterior, chosen & (y <= -53))
    np.testing.assert_array_equal(anterior, chosen & (y > -53))
    # a quarter of the cortex, more or less, lies behind the cut
    assert 0.1 < posterior.sum() / chosen.sum() < 0.4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"vertices": [1, 0, 1]}, r"vertices must be boolean, .*got int64"),
        ({"coordinates": np.zeros((2, 3))}, r"must be \(3, 3\) .*got \(2, 3\)"),
        ({"y": -10.0}, "2 are posterior, 0 anterior. Check the space, and that"),
        ({"space": "individual"}, "got 'individual'"),
        ({"space": "fsaverage"}, "got 'fsaverage'"),
    ],
)
def test_bad_cuts_are_refused(change, text):
    fields = {
        "vertices": [True, False, True],
        "coordinates": [[30, -80, 0], [30, -60, 0], [30, -40, 0]],
        "space": "TAL",
    }
    with pytest.raises(ValueError, match=text):
        split_vertices_at_y(**fields | change)
