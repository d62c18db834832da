"""Dataset folders: exact round trips, nibabel as oracle, and refusals to write."""

import dataclasses
import json
import logging
import shutil

import nibabel
import numpy as np
import pytest

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.dataset.folder import read_dataset, write_dataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.sectors.sector import Sector

NAMES = ["ant", "bee", "cup", "dog"]
AFFINE = np.array(
    [[-3.1, 0.1, 0, 71 / 3], [0.1, 3, 0.2, -99], [0, -0.2, 3, -41], [0, 0, 0, 1]]
)
SHAPE = (4, 5, 6)
COUNTS = {"pOTC": (6, 7), "EarlyV": (9, 8)}


@pytest.fixture
def stimuli(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(f"picture of {name}".encode())
    return StimulusSet.from_folder(folder)


@pytest.fixture
def dataset(stimuli):
    """Two subjects, two sectors that share no voxel, float64 values."""
    rng = np.random.default_rng(0)
    sectors = {name: [] for name in COUNTS}
    for row in range(2):
        flat = rng.permutation(np.prod(SHAPE))
        for name, part in zip(COUNTS, (flat[:20], flat[20:]), strict=True):
            mask = np.isin(np.arange(np.prod(SHAPE)), part[: COUNTS[name][row]])
            sectors[name].append(Sector(name, mask.reshape(SHAPE), AFFINE, "TAL"))
    return BrainDataset(
        name="My data, é",
        stimuli=stimuli,
        subjects=["02", "P1"],
        responses={
            s: [rng.normal(size=(4, v)) for v in vs] for s, vs in COUNTS.items()
        },
        sectors=sectors,
        unit="% signal change",
        licence="CC0",
        citation="Somebody (2022)",
        description="Two lines\nof text.",
    )


@pytest.fixture
def rdm_dataset(stimuli):
    rng = np.random.default_rng(0)
    rdms = {"IT": rng.random((2, 6)), "EVC": rng.random((2, 6)).astype(np.float32)}
    rdms["IT"][0, 0] = 1 / 3
    rdms["IT"][1, 1] = 5e-324
    return BrainDataset("rdms", stimuli, ["01", "02"], rdms=rdms, space="MNI152")


@pytest.fixture
def folder(dataset, tmp_path):
    return write_dataset(dataset, tmp_path / "written")


@pytest.fixture
def rdm_folder(rdm_dataset, tmp_path):
    return write_dataset(rdm_dataset, tmp_path / "rdms")


def betas_of(folder, subject="02"):
    return folder / f"sub-{subject}" / "func" / f"sub-{subject}_desc-betas_stat.nii"


def assert_same(back, dataset):
    fields = "name subjects sector_names unit space licence citation description"
    for field in [*fields.split(), "fingerprint", "stimuli"]:
        assert getattr(back, field) == getattr(dataset, field), field
    assert (back.sectors is None) == (dataset.sectors is None)
    for name in dataset.sectors or {}:
        for one, two in zip(back.sectors[name], dataset.sectors[name], strict=True):
            np.testing.assert_array_equal(one.mask, two.mask)
            np.testing.assert_array_equal(one.affine, two.affine)
            assert one.space == two.space


# ---- round trips ----------------------------------------------------------------


def test_responses_come_back_bit_for_bit(dataset, folder):
    assert_same(read_dataset(folder), dataset)
    assert nibabel.load(betas_of(folder)).get_data_dtype() == np.float64


def test_reliabilities_come_back(dataset, tmp_path):
    rng = np.random.default_rng(5)
    known = {
        name: [rng.uniform(-1, 1, n) for n in counts] for name, counts in COUNTS.items()
    }
    known["pOTC"][1][2] = np.nan
    dataset = dataclasses.replace(dataset, reliability=known)
    folder = write_dataset(dataset, tmp_path / "known")
    back = read_dataset(folder)
    assert_same(back, dataset)
    for name, arrays in known.items():
        for one, two in zip(back.reliability[name], arrays, strict=True):
            np.testing.assert_array_equal(one, two)
    file = folder / "sub-02/func/sub-02_desc-reliability_statmap.nii"
    assert nibabel.load(file).shape == SHAPE
    assert not [one for one in check_dataset(folder) if "reliability" in str(one)]
    part = back.select("pOTC", ["P1"])
    np.testing.assert_array_equal(part.reliability["pOTC"][0], known["pOTC"][1])
    file.unlink()
    less = read_dataset(folder).reliability
    assert np.isnan(less["pOTC"][0]).all()
    np.testing.assert_array_equal(less["pOTC"][1], known["pOTC"][1])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda known: known.pop("pOTC"), "must have the names of responses"),
        (lambda known: known["pOTC"].pop(), "one entry per subject"),
        (lambda known: known["pOTC"].append(np.zeros(7)), "one entry per subject"),
        (
            lambda known: known.update(pOTC=[np.zeros(6), np.zeros(3)]),
            "one correlation for each of the 7 voxels",
        ),
        (
            lambda known: known.update(pOTC=[np.zeros(6), np.full(7, 2.0)]),
            "from -1 to 1; got 2",
        ),
    ],
)
def test_reliabilities_that_do_not_fit(dataset, change, text):
    known = {name: [np.zeros(n) for n in counts] for name, counts in COUNTS.items()}
    change(known)
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(dataset, reliability=known)


def test_a_map_on_another_grid_is_refused(dataset, folder):
    file = folder / "sub-02/func/sub-02_desc-reliability_statmap.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 7), np.float32), AFFINE), file)
    with pytest.raises(ValueError, match="must have the shape of"):
        read_dataset(folder)


def test_float32_values_are_stored_as_float32(dataset, tmp_path):
    short = {
        name: [values.astype(np.float32) for values in items]
        for name, items in dataset.responses.items()
    }
    dataset = BrainDataset("f", dataset.stimuli, dataset.subjects, short)
    folder = write_dataset(dataset, tmp_path / "f")
    assert nibabel.load(betas_of(folder)).get_data_dtype() == np.float32
    assert_same(read_dataset(folder), dataset)


def test_voxels_without_place_come_back(dataset, tmp_path):
    dataset = BrainDataset(
        "list", dataset.stimuli, dataset.subjects, dataset.responses, space="MNI152"
    )
    folder = write_dataset(dataset, tmp_path / "list")
    assert_same(read_dataset(folder), dataset)
    assert nibabel.load(betas_of(folder)).shape == (15, 1, 1, 4)
    sidecar = json.loads(betas_of(folder).with_suffix(".json").read_text())
    assert sidecar["Space"] == "none"


def test_more_voxels_than_a_nifti_axis_come_back(stimuli, tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 40_000))
    dataset = BrainDataset("l", stimuli, ["1"], {"A": [values], "B": [values[:, :7]]})
    folder = write_dataset(dataset, tmp_path / "l")
    assert_same(read_dataset(folder), dataset)


def test_nan_and_constant_voxels_come_back(dataset, tmp_path):
    responses = {name: list(items) for name, items in dataset.responses.items()}
    dirty = responses["EarlyV"][0].copy()
    dirty[1, 2] = np.nan
    dirty[:, 3] = -0.0
    responses["EarlyV"][0] = dirty
    dataset = BrainDataset(
        "d", dataset.stimuli, dataset.subjects, responses, sectors=dataset.sectors
    )
    back = read_dataset(write_dataset(dataset, tmp_path / "d"))
    assert_same(back, dataset)
    assert back.bad_voxels() == {("EarlyV", "02"): (1, 1)}


def test_sectors_may_share_voxels_of_equal_values(dataset, tmp_path):
    sectors = [
        Sector("all", s.mask, s.affine, s.space) for s in dataset.sectors["pOTC"]
    ]
    responses = {"pOTC": dataset.responses["pOTC"], "all": dataset.responses["pOTC"]}
    fields = {
        "name": "shared",
        "stimuli": dataset.stimuli,
        "subjects": dataset.subjects,
        "sectors": {"pOTC": dataset.sectors["pOTC"], "all": sectors},
    }
    whole = BrainDataset(responses=responses, **fields)
    assert_same(read_dataset(write_dataset(whole, tmp_path / "a")), whole)
    responses["all"] = [values + 1 for values in responses["all"]]
    with pytest.raises(
        ValueError, match="pOTC and all of subject 02 differ in 6 voxels"
    ):
        write_dataset(BrainDataset(responses=responses, **fields), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob("*.versa-tmp"))


def test_rdms_come_back_bit_for_bit(rdm_dataset, rdm_folder):
    assert_same(read_dataset(rdm_folder), rdm_dataset)
    lines = (rdm_folder / "sub-01" / "sub-01_desc-IT_rdm.tsv").read_text().split("\n")
    assert lines[:2] == ["stim_a\tstim_b\tdissimilarity", f"ant\tbee\t{1 / 3!r}"]


def test_real_rdms_and_photographs_come_back(shared, tmp_path):
    from scipy.spatial.distance import squareform

    data = shared / "data" / "images92"
    with np.load(data / "rdms_cichy2014_EVC_IT.npz") as file:
        rdms = {
            name: [squareform(rdm, checks=False) for rdm in file[name][:3]]
            for name in ("EVC", "IT")
        }
    stimuli = StimulusSet.from_folder(data / "stimuli")
    dataset = BrainDataset("cichy2014", stimuli, ["1", "2", "3"], rdms=rdms)
    folder = write_dataset(dataset, tmp_path / "out")
    assert_same(read_dataset(folder), dataset)
    assert not [one for one in check_dataset(folder) if one.level == "error"]


# ---- what other programs see ----------------------------------------------------


def test_nibabel_finds_every_value_at_its_place(dataset, folder):
    for row, subject in enumerate(dataset.subjects):
        image = nibabel.load(betas_of(folder, subject))
        assert image.shape == (*SHAPE, 4)
        assert image.header["sform_code"] == 3
        for name in dataset.sector_names:
            path = betas_of(folder, subject).with_name(
                f"sub-{subject}_desc-{name}_mask.nii"
            )
            mask = nibabel.load(path)
            np.testing.assert_array_equal(mask.affine, image.affine)
            inside = mask.get_fdata() > 0
            values = dataset.responses[name][row]
            np.testing.assert_array_equal(image.get_fdata()[inside].T, values)
            sector = dataset.sectors[name][row]
            i, j, k = np.argwhere(inside)[3]
            assert image.dataobj[i, j, k, 2] == values[2, 3]
            landmark = nibabel.affines.apply_affine(image.affine, [i, j, k])
            np.testing.assert_allclose(landmark, sector.coordinates[3], atol=1e-4)


def test_the_tables_and_images_are_plain(dataset, folder):
    about = json.loads((folder / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert (about["License"], about["HowToAcknowledge"]) == ("CC0", "Somebody (2022)")
    lines = (folder / "participants.tsv").read_text().split("\n")
    assert lines == ["participant_id", "sub-02", "sub-P1", ""]
    lines = (folder / "stimuli.tsv").read_text().split("\n")
    assert lines[1] == f"ant\tant.png\t{dataset.stimuli.hashes[0]}"
    assert (folder / "stimuli" / "cup.png").read_bytes() == b"picture of cup"
    sidecar = json.loads(betas_of(folder).with_suffix(".json").read_text())
    assert sidecar["Conditions"] == NAMES
    assert sidecar["Units"] == "% signal change"


def test_images_of_one_file_name_get_numbers(stimuli, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "ANT.png").write_bytes(b"another ant")
    both = StimulusSet.from_paths([stimuli.paths[0], other / "ANT.png"], ["a/1", "a 2"])
    dataset = BrainDataset("x", both, ["1"], {"V1": [[[1.0], [2.0]]]})
    folder = write_dataset(dataset, tmp_path / "out")
    files = sorted(path.name for path in (folder / "stimuli").iterdir())
    assert files == ["00000.png", "00001.png"]
    assert_same(read_dataset(folder), dataset)


# ---- writing refused ------------------------------------------------------------


def test_a_folder_in_use_is_refused(dataset, folder, tmp_path):
    with pytest.raises(ValueError, match=r"must be new or empty; .*written is not"):
        write_dataset(dataset, folder)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match=r"must not be a file; got .*file"):
        write_dataset(dataset, file)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_same(read_dataset(write_dataset(dataset, empty)), dataset)


@pytest.mark.parametrize(
    ("sectors", "subjects", "text"),
    [
        (["V1-V3"], ["1"], "sector names must be letters and digits .* got 'V1-V3'"),
        (["V1"], ["sub-01"], "subject names must be letters and digits .*'sub-01'"),
        (["V1", "v1"], ["1"], "differ by more than upper and lower case .* V1, v1"),
    ],
)
def test_names_beyond_bids_are_refused(stimuli, tmp_path, sectors, subjects, text):
    responses = {name: [np.ones((4, 2))] for name in sectors}
    dataset = BrainDataset("x", stimuli, subjects, responses)
    with pytest.raises(ValueError, match=text):
        write_dataset(dataset, tmp_path / "out")


def test_changed_images_are_not_written(dataset, tmp_path):
    (tmp_path / "images" / "bee.png").write_bytes(b"another bee")
    (tmp_path / "images" / "dog.png").unlink()
    with pytest.raises(ValueError, match=r"bee \(.*\), dog \(.*\) are missing or have"):
        write_dataset(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mask_beside_the_listed_sectors_is_reported(folder, dataset, caplog):
    mask = folder / "sub-P1" / "func" / "sub-P1_desc-EarlyV_mask.nii"
    shutil.copy(mask, mask.with_name("sub-P1_desc-V4_mask.nii"))
    with caplog.at_level(logging.WARNING, logger="versa"):
        assert_same(read_dataset(folder), dataset)
    assert "sub-P1_desc-V4_mask.nii is left out" in caplog.text
