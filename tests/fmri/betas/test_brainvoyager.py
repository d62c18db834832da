"""BrainVoyager's volumes and VOIs: landmarks in files of known bytes, real files."""

import dataclasses
import gzip
import itertools
import sys

import nibabel
import numpy as np
import pytest

from tests.bv_bytes import msk_bytes, vmp_bytes, vmr_bytes, vtc_bytes
from versa.fmri.betas.brainvoyager import (
    read_file,
    read_vmp,
    read_voi,
    read_volumes,
    unpacked,
    voi_sector,
)

pytest.importorskip("bvbabel")

START = (57, 52, 59)  # X, Y, Z of BrainVoyager
STATED = {"space": "TAL", "convention": "radiological"}


def hot(shape, voxel):
    """Data (Z, Y, X) that are 0 but at voxel (X, Y, Z)."""
    data = np.zeros(shape[::-1])
    data[voxel[::-1]] = 7
    return data


def write(folder, kind, data, **options):
    content = {
        "vtc": lambda: vtc_bytes(np.stack([data, data * 2], axis=3), **options),
        "vmp": lambda: vmp_bytes(np.stack([data, data * 2]), "ab", **options),
        "msk": lambda: msk_bytes(data, **options),
        "vmr": lambda: vmr_bytes(data, **options),
    }[kind]()
    path = folder / f"file.{kind}"
    path.write_bytes(content)
    return path


def hottest(image):
    """mm of the one voxel that is not 0."""
    volume = image.values if image.values.ndim == 3 else image.values[..., 0]
    (index,) = np.argwhere(volume)
    return nibabel.affines.apply_affine(image.affine, index)


@pytest.mark.parametrize("convention", ["radiological", "neurological"])
@pytest.mark.parametrize("resolution", [1, 2, 3])
@pytest.mark.parametrize("kind", ["vtc", "vmp", "msk"])
def test_a_voxel_lies_where_brainvoyager_counts_it(
    tmp_path, kind, resolution, convention
):
    options = {"start": START, "resolution": resolution}
    if kind == "vtc":
        options["convention"] = 1 + (convention == "neurological")
    shape, voxel = (7, 5, 9), (2, 4, 1)
    path = write(tmp_path, kind, hot(shape, voxel), **options)
    image = read_volumes(path, space="TAL", convention=convention)
    bv = [start + resolution * k for start, k in zip(START, voxel, strict=True)]
    x = 128 - bv[2] if convention == "radiological" else bv[2] - 128
    np.testing.assert_array_equal(hottest(image), [x, 128 - bv[0], 128 - bv[1]])
    assert image.values.shape[:3] == (9, 7, 5)
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.space == "TAL"
    if image.values.ndim == 4:
        np.testing.assert_array_equal(image.values[..., 1], 2 * image.values[..., 0])
    assert image.names == (("a", "b") if kind == "vmp" else ())


def test_the_cut_of_the_paper(tmp_path):
    # y = -53 is X = 181 of BrainVoyager
    path = write(
        tmp_path,
        "vtc",
        hot((58, 40, 46), ((183 - 57) // 3, 0, 0)),
        start=START,
        resolution=3,
    )
    image = read_volumes(path)
    assert hottest(image)[1] == -55
    y = nibabel.affines.apply_affine(image.affine, [[0, j, 0] for j in range(58)])[:, 1]
    assert (y <= -53).sum() == len(range(183, 231, 3))


@pytest.mark.parametrize("convention", [1, 2])
def test_a_vmr_has_voxels_of_its_own_size(tmp_path, convention):
    path = write(
        tmp_path,
        "vmr",
        hot((6, 5, 4), (5, 1, 3)),
        offset=(100, 110, 120),
        cube=320,
        sizes=(0.7, 0.8, 0.9),
        space=2,
        convention=convention,
    )
    image = read_volumes(path)
    x = (160 - 123) * 0.9
    expected = [x if convention == 1 else -x, (160 - 105) * 0.7, (160 - 111) * 0.8]
    np.testing.assert_allclose(hottest(image), expected, atol=1e-4)
    assert image.space == "individual"
    assert image.values.dtype == np.uint8


def test_a_vmr_places_the_files_that_belong_to_it(tmp_path):
    options = {"cube": 512, "sizes": (0.5, 0.5, 0.5), "space": 4}
    vmr = write(tmp_path, "vmr", hot((512, 2, 2), (0, 0, 0)), **options)
    start = (400, 200, 300)
    data = hot((3, 3, 3), (2, 1, 0))
    for kind, extra in (
        ("msk", {}),
        ("vmp", {"cube": (512, 512, 512)}),
        ("vtc", {"space": 0, "convention": 0}),
    ):
        path = write(tmp_path, kind, data, start=start, resolution=2, **extra)
        image = read_volumes(path, vmr=vmr)
        assert image.space == "MNI152"
        np.testing.assert_allclose(
            hottest(image), [(256 - 300) / 2, (256 - 404) / 2, (256 - 202) / 2]
        )
        with pytest.raises(ValueError, match=r"Pass the VMR|pass it as space="):
            read_volumes(path)
        with pytest.raises(ValueError, match="Pass the VMR"):
            read_volumes(path, **STATED)
    variant = read_volumes(path, vmr=vmr, space="MNI152NLin6Asym")
    assert variant.space == "MNI152NLin6Asym"
    with pytest.raises(ValueError, match=r"its VMR says 'MNI152', space= says 'TAL'"):
        read_volumes(path, vmr=vmr, space="TAL")
    flat = write(tmp_path, "vmr", hot((2, 2, 2), (0, 0, 0)), sizes=(1, 0, 1))
    with pytest.raises(ValueError, match="must have a frame and voxels with a size"):
        read_volumes(path, vmr=flat)


@pytest.mark.parametrize("kind", [1, 2])
def test_values_keep_their_type_and_places(tmp_path, kind):
    data = np.random.default_rng(0).integers(-99, 999, size=(4, 3, 2, 5))
    path = tmp_path / "run.vtc"
    path.write_bytes(vtc_bytes(data, start=START, kind=kind, prt="run.prt"))
    image = read_volumes(path)
    assert image.values.dtype == {1: np.int16, 2: np.float32}[kind]
    assert image.header["Protocol name"] == "run.prt"
    assert image.header["TR (ms)"] == 2000.0
    for z, y, x in np.ndindex(4, 3, 2):
        np.testing.assert_array_equal(image.values[3 - z, 1 - x, 2 - y], data[z, y, x])
    packed = tmp_path / "run.vtc.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_volumes(packed).values, image.values)


def test_one_map_is_one_volume(tmp_path):
    path = tmp_path / "one.vmp"
    path.write_bytes(vmp_bytes(np.ones((1, 2, 3, 4)), ["all > rest"], start=START))
    image = read_volumes(path, **STATED)
    assert image.values.shape == (2, 4, 3)
    assert image.names == ("all > rest",)


def test_what_a_file_does_not_say_must_be_stated(tmp_path):
    data = hot((2, 2, 2), (0, 0, 0))
    mask = write(tmp_path, "msk", data, start=START)
    with pytest.raises(ValueError, match="in which space it is; pass it as space="):
        read_volumes(mask, convention="radiological")
    with pytest.raises(ValueError, match="where left is; pass convention="):
        read_volumes(mask, space="TAL")
    with pytest.raises(ValueError, match="space must be TAL, MNI152"):
        read_volumes(mask, space="Talairach", convention="radiological")
    with pytest.raises(ValueError, match="Did you mean radiological"):
        read_volumes(mask, space="TAL", convention="radiologic")
    run = write(tmp_path, "vtc", data, start=START, space=1, convention=2)
    with pytest.raises(
        ValueError, match=r"one space; file.vtc says 'individual', space= says 'TAL'"
    ):
        read_volumes(run, space="TAL")
    with pytest.raises(ValueError, match="must have one convention"):
        read_volumes(run, convention="radiological")


@pytest.mark.parametrize("kind", ["vtc", "vmp", "msk"])
def test_native_space_needs_the_vmr(tmp_path, kind):
    stated = {"space": "individual", "convention": "radiological"}
    options = {"start": START} | ({"space": 1} if kind == "vtc" else {})
    path = write(tmp_path, kind, hot((2, 2, 2), (0, 0, 0)), **options)
    with pytest.raises(ValueError, match=r"place in native or .* Pass the VMR as vmr="):
        read_volumes(path, **stated)
    sizes = (0.8, 0.8, 0.8)
    vmr = write(tmp_path, "vmr", hot((2, 2, 2), (0, 0, 0)), sizes=sizes, space=2)
    image = read_volumes(path, vmr=vmr)
    assert image.space == "individual"
    np.testing.assert_allclose(
        hottest(image), 0.8 * (128 - np.array(START)[[2, 0, 1]]), rtol=1e-6
    )


def test_a_map_belongs_to_the_frame_of_its_vmr(tmp_path):
    data = np.ones((1, 2, 2, 2))
    path = tmp_path / "x.vmp"
    inner = {"cube": 384, "sizes": (0.5, 0.5, 0.5)}
    vmr = write(tmp_path, "vmr", np.zeros((2, 3, 4)), **inner)
    for sides in ((384, 384, 384), (4, 3, 2)):
        path.write_bytes(vmp_bytes(data, ["a"], start=START, cube=sides))
        assert read_volumes(path, vmr=vmr).affine[0, 0] == 0.5
    path.write_bytes(vmp_bytes(data, ["a"], start=START, cube=(256, 256, 256)))
    with pytest.raises(ValueError, match=r"one of 256, 256, 256 .* a frame of 384"):
        read_volumes(path, vmr=vmr)


def test_maps_that_are_not_what_they_seem(tmp_path):
    path = tmp_path / "x.vmp"
    data = np.zeros((1, 2, 2, 2))
    path.write_bytes(vmp_bytes(data, ["lags"], start=START, kind=3))
    with pytest.raises(ValueError, match="lags packs a lag and a correlation"):
        read_volumes(path, **STATED)
    path.write_bytes(vmp_bytes(data, ["old"], start=START, magic=4))
    with pytest.raises(ValueError, match="must be a VMP of native resolution"):
        read_volumes(path, **STATED)
    path.write_bytes(vmp_bytes(data, ["large"], start=START, cube=(512, 512, 512)))
    with pytest.raises(ValueError, match=r"VMR of 512, 512, 512 voxels .* as vmr="):
        read_volumes(path, **STATED)
    beyond = write(tmp_path, "msk", data[0], start=(57, 255, 59))
    with pytest.raises(ValueError, match=r"along Y it goes from 255 to 256. Pass the"):
        read_volumes(beyond, **STATED)


@pytest.mark.parametrize("kind", ["vtc", "vmp", "msk", "vmr"])
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path, kind):
    options = {} if kind == "vmr" else {"start": START}
    whole = write(tmp_path, kind, np.ones((2, 2, 2)), **options).read_bytes()
    path = tmp_path / f"cut.{kind}"
    for n_bytes in range(len(whole)):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(ValueError, match=f"must be a whole {kind.upper()} file"):
            read_volumes(path, **STATED)
    path.write_bytes(whole)
    assert read_volumes(path, **STATED).values.shape[:3] == (2, 2, 2)


def test_a_mask_becomes_a_sector(tmp_path):
    path = write(tmp_path, "msk", hot((3, 4, 5), (1, 2, 3)), start=START, resolution=3)
    image = read_volumes(path, **STATED)
    sector = image.sector("OTC")
    assert (sector.name, sector.space, sector.n_voxels) == ("OTC", "TAL", 1)
    np.testing.assert_array_equal(
        sector.coordinates, [[128 - 59 - 9, 128 - 57 - 3, 128 - 52 - 6]]
    )
    two = dataclasses.replace(image, values=np.arange(60).reshape(5, 3, 4))
    with pytest.raises(ValueError, match=r"one mask .* values from 0 to 59"):
        two.sector("OTC")
    with pytest.raises(ValueError, match="at least one voxel"):
        dataclasses.replace(image, values=np.zeros((5, 3, 4))).sector("OTC")


@pytest.fixture
def vmp(tmp_path):
    """A file of two maps, and a function that writes others."""
    import bvbabel

    def write(name, titles, values, x_start=100):
        header, _ = bvbabel.vmp.create_vmp()
        shape = values.shape[:3]  # (x, y, z) in the head, 2-mm voxels
        header["Map"] = [{**header["Map"][0], "MapName": title} for title in titles]
        header["NrOfSubMaps"] = len(titles)
        header["Resolution"] = 2
        for axis, n in zip("ZXY", shape, strict=True):
            start = x_start if axis == "X" else 80
            header[f"{axis}Start"], header[f"{axis}End"] = start, start + 2 * n
        if len(titles) == 1:
            values = values[..., 0]
        bvbabel.vmp.write_vmp(str(tmp_path / name), header, values)
        return tmp_path / name

    return write


def test_maps_of_brainvoyager_are_conditions(vmp):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 5, 6, 2)).astype(np.float32)
    more = rng.normal(size=(4, 5, 6, 1)).astype(np.float32)
    values[0, 0, 0] = more[0, 0, 0] = 0
    first = vmp("a.vmp", ["dog", "cup"], values)
    second = vmp("b.vmp", ["ear"], more)
    options = {"subject": "01", "space": "TAL", "convention": "radiological"}
    betas = read_vmp([first, second], **options)
    assert betas.conditions == ("dog", "cup", "ear")
    assert betas.space == "TAL"
    assert betas.n_voxels == 4 * 5 * 6 - 1
    everything = np.concatenate([values, more], axis=-1)
    found = betas.volumes(betas.values)
    np.testing.assert_array_equal(
        np.sort(found[betas.mask], axis=0),
        np.sort(everything[(everything[..., :2] != 0).any(axis=-1)], axis=0),
    )
    turned = read_vmp([first, second], conditions=["ear", "dog"], **options)
    np.testing.assert_array_equal(turned.values, betas.values[[2, 0]])
    assert read_vmp(second, **options).conditions == ("ear",)
    with pytest.raises(ValueError, match=r"map 'dog' .* it occurs 2 times among"):
        read_vmp([first, vmp("c.vmp", ["dog"], more)], **options)
    with pytest.raises(ValueError, match=r"map 'fan' .* it occurs 0 times among"):
        read_vmp(first, conditions=["fan"], **options)
    with pytest.raises(ValueError, match="map ear must have its voxels where"):
        read_vmp([first, vmp("d.vmp", ["ear"], more, x_start=101)], **options)
    with pytest.raises(ValueError, match="share one space; got no file"):
        read_vmp([], **options)


VOI = """
FileVersion:                4

ReferenceSpace:             {space}

OriginalVMRResolutionX:     0.5
OriginalVMRResolutionY:     0.6
OriginalVMRResolutionZ:     0.7
OriginalVMROffsetX:         10
OriginalVMROffsetY:         20
OriginalVMROffsetZ:         30
OriginalVMRFramingCubeDim:  400

LeftRightConvention:        {side}

SubjectVOINamingConvention: <VOI>_<SUBJ>


NrOfVOIs:                   3

NameOfVOI:  left OTC
ColorOfVOI: 255 0 0

NrOfVoxels: 3
-35 -53 -12
-34 -53 -12
-35 -53 -12

NameOfVOI:  nothing
ColorOfVOI: 255 0 0

NrOfVoxels: 0

NameOfVOI:  right OTC
ColorOfVOI: 255 0 0

NrOfVoxels: 1
35 -53 -12


NrOfVOIVTCs: 1
/data/run.vtc
"""


def write_voi(folder, *, space="TAL", side=1, text=VOI):
    path = folder / "areas.voi"
    path.write_text(text.format(space=space, side=side))
    return path


def test_vois_in_talairach_space(tmp_path):
    coordinates, space = read_voi(write_voi(tmp_path))
    assert space == "TAL"
    assert list(coordinates) == ["left OTC", "nothing", "right OTC"]
    np.testing.assert_array_equal(
        coordinates["left OTC"], [[-35, -53, -12], [-34, -53, -12]]
    )
    assert coordinates["nothing"].shape == (0, 3)
    path = write_voi(tmp_path, space="MNI")
    assert read_voi(path, space="MNI152NLin6Asym")[1] == "MNI152NLin6Asym"
    with pytest.raises(ValueError, match="says 'MNI152', space= says 'TAL'"):
        read_voi(path, space="TAL")


@pytest.mark.parametrize(("side", "sign"), [(1, 1), (2, -1)])
def test_vois_in_axes_of_brainvoyager(tmp_path, side, sign):
    path = write_voi(tmp_path, space="BV", side=side)
    coordinates, space = read_voi(path, space="individual")
    assert space == "individual"
    mm = [sign * (200 - 30 + 12) * 0.7, (200 - 10 - 35) * 0.5, (200 - 20 + 53) * 0.6]
    np.testing.assert_allclose(coordinates["right OTC"], [mm])
    with pytest.raises(ValueError, match="pass it as space="):
        read_voi(path)
    with pytest.raises(ValueError, match="must have one convention"):
        read_voi(
            path,
            space="individual",
            convention=("neuro", "radio")[side - 1] + "logical",
        )


def test_vois_that_are_not_as_they_should_be(tmp_path):
    path = write_voi(tmp_path, space="BV", side=0)
    with pytest.raises(ValueError, match="where left is"):
        read_voi(path, space="TAL")
    path = write_voi(tmp_path, space="ACPC")
    with pytest.raises(ValueError, match=r"in TAL, MNI, BV; its reference space is"):
        read_voi(path, space="individual")
    for old, new, message in (
        ("right OTC", "left OTC", "VOIs must be unique; repeated: 'left OTC'"),
        ("NrOfVoxels: 3", "NrOfVoxels: 4", "left OTC announces 4 voxels and has 3"),
        (VOI[VOI.index("NameOfVOI:  right") :], "", "announces 3 VOIs and has 2"),
        ("LeftRightConvention:        {side}", "", "must be a whole VOI file"),
        ("35 -53 -12", "35 -53,-12", "must be a whole VOI file"),
    ):
        with pytest.raises(ValueError, match=message):
            read_voi(write_voi(tmp_path, text=VOI.replace(old, new)))


@pytest.mark.parametrize("flips", list(itertools.product([1, -1], repeat=3)))
def test_ties_go_right_front_and_up_however_the_grid_is_stored(flips):
    shape = np.array([6, 6, 6])
    affine = np.diag([2.0 * flip for flip in flips] + [1.0])
    affine[:3, 3] = [0 if flip > 0 else 2 * 5 for flip in flips]
    sector = voi_sector("V1", [[3, 3, 3], [4.9, 4, 4]], shape, affine, "TAL")
    np.testing.assert_array_equal(
        sorted(map(tuple, sector.coordinates)), [(4.0, 4.0, 4.0)]
    )


def test_a_voi_at_2_mm_takes_the_voxels_brainvoyager_takes(tmp_path):
    # BrainVoyager takes voxel floor((128 - coordinate - start) / 2) along each axis
    path = write(tmp_path, "msk", np.ones((9, 9, 9)), start=START, resolution=2)
    image = read_volumes(path, **STATED)
    grid = image.values.shape, image.affine, image.space
    for bv in itertools.product(range(5), repeat=3):
        at = [start + k for start, k in zip(START, bv, strict=True)]
        mm = [128 - at[2], 128 - at[0], 128 - at[1]]
        (index,) = np.argwhere(voi_sector("V1", [mm], *grid).mask)
        np.testing.assert_array_equal(8 - index, np.array(bv)[[2, 0, 1]] // 2)


def test_points_outside_the_data_are_told(caplog):
    grid = (4, 4, 4, 10), np.diag([3.0, 3, 3, 1]), "TAL"
    sector = voi_sector("V1", [[0, 0, 0], [-2, 0, 0], [99, 0, 0]], *grid)
    assert sector.n_voxels == 1
    assert "VOI V1: 2 of 3 voxels are outside the data" in caplog.text
    for nothing in ([[99, 0, 0]], []):
        with pytest.raises(ValueError, match="VOI V1 must have voxels in the data"):
            voi_sector("V1", nothing, *grid)


def test_real_volumes(real):
    folder, expected = real
    for name in ("sub-test03.vmr.gz", "sub-test03.vtc.gz"):
        facts = expected[name]
        vmr = folder / "sub-test03.vmr.gz"
        image = read_volumes(folder / name, vmr=vmr)
        for key, value in facts.items():
            if key not in ("shape", "dtype", "mean", "min", "max"):
                assert image.header[key] == pytest.approx(value), key
        assert image.values.dtype == facts["dtype"]
        assert image.values.mean(dtype=np.float64) == pytest.approx(facts["mean"])
        assert image.values.max() == pytest.approx(facts["max"])
        assert image.space == "individual"
        if name.endswith("vmr.gz"):
            assert image.values.shape == tuple(facts["shape"])
        else:  # these facts have BrainVoyager's order, Z, Y, X
            z, y, x, n_volumes = facts["shape"]
            assert image.values.shape == (z, x, y, n_volumes)
            assert image.values.min() == pytest.approx(facts["min"])


def test_a_real_run_lies_on_its_anatomy(real):
    folder, _ = real
    vmr = folder / "sub-test03.vmr.gz"
    anatomy = read_volumes(vmr)
    run = read_volumes(folder / "sub-test03.vtc.gz", vmr=vmr)
    with pytest.raises(ValueError, match="must have its VMR to have a place in native"):
        read_volumes(folder / "sub-test03.vtc.gz")
    np.testing.assert_allclose(np.diag(run.affine), np.diag(anatomy.affine))
    to_anatomy = np.linalg.solve(anatomy.affine, run.affine)
    shift = np.rint(to_anatomy[:3, 3]).astype(int)
    np.testing.assert_allclose(to_anatomy[:3, 3], shift, atol=1e-6)
    inner = run.values[2:-2, 2:-2, 2:-2, 0]

    def similarity(offset):
        first = shift + 2 + offset
        region = tuple(slice(a, a + n) for a, n in zip(first, inner.shape, strict=True))
        return np.corrcoef(anatomy.values[region].ravel(), inner.ravel())[0, 1]

    here = similarity(np.zeros(3, int))
    assert here > 0.95
    for offset in np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)]):
        if (shift + 2 + offset >= 0).all():
            assert similarity(offset) < here - 0.05


def test_real_vois(real):
    folder, expected = real
    path = folder / "sub-test03.voi"
    coordinates, space = read_voi(path, space="individual")
    anatomy = read_volumes(folder / "sub-test03.vmr.gz")
    facts = expected["sub-test03.voi"]["vois"]
    assert list(coordinates) == [voi["name"] for voi in facts]
    for voi in facts:
        points = coordinates[voi["name"]]
        assert len(points) == voi["n"]
        grid = anatomy.values.shape, anatomy.affine, space
        assert voi_sector(voi["name"], points, *grid).n_voxels == voi["n"]
        (index,) = np.argwhere(voi_sector(voi["name"], points[:1], *grid).mask)
        z, x, y = np.array(anatomy.values.shape) - 1 - index
        assert [x, y, z] == voi["first"]


def test_files_of_other_kinds_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"must be of kind vtc, msk, .* got map.vmp"):
        read_file(tmp_path / "map.vmp", ("vtc", "msk"))
    with pytest.raises(ValueError, match=r"run.vtc.gz must exist; it is missing"):
        read_file(tmp_path / "run.vtc.gz", ("vtc",))


def test_bvbabel_is_optional(tmp_path, monkeypatch):
    path = tmp_path / "run.vtc"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "bvbabel", None)
    monkeypatch.delitem(sys.modules, "bvbabel.vtc", raising=False)
    with pytest.raises(ImportError, match=r'pip install "versa-fmri\[brainvoyager\]"'):
        read_file(path, ("vtc",))


@pytest.mark.parametrize("kind", ["vtc", "vmp", "vmr", "voi", "prt", "sdm"])
def test_other_bytes_are_refused(tmp_path, kind):
    path = tmp_path / f"file.{kind}"
    message = f"must be a whole {kind.upper()} file; read"
    for content in (b"", b"\3", b"\1" * 999, bytes(999), b"NIfTI"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_file(path, (kind,))


def test_damaged_packing_is_refused(tmp_path):
    packed = gzip.compress(bytes(range(256)) * 9)
    path = tmp_path / "file.VTC.gz"
    for content in (packed[:50], b"no gzip", packed[:20] + b"\0" + packed[21:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be a whole VTC file"):
            read_file(path, ("vtc",))


def test_a_packed_file_is_plain_for_a_while(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    with unpacked(path) as plain:
        assert plain == path
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"text"))
    with unpacked(packed) as plain:
        assert (plain.name, plain.read_text()) == ("a.txt", "text")
    assert not plain.exists()
