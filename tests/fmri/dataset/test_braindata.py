"""Brain datasets: what they hold, refuse, select and drop."""

import hashlib
import pickle
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from scipy.spatial.distance import squareform

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.rdm import to_rsatoolbox
from versa.fmri.sectors.sector import Sector

NAMES = ["ant", "bee", "cup", "dog", "ear"]
COUNTS = {"EarlyV": (6, 7), "pOTC": (4, 4)}


def make_stimuli():
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in NAMES]
    return StimulusSet(NAMES, [f"{name}.png" for name in NAMES], hashes)


def make_responses(seed=0):
    rng = np.random.default_rng(seed)
    return {s: [rng.normal(size=(5, v)) for v in vs] for s, vs in COUNTS.items()}


def make_halves(shift=0.0):
    return {s: [(x + shift, x) for x in xs] for s, xs in make_responses().items()}


def make_sector(name, n_voxels, space="TAL", shape=(3, 4, 5), affine=None):
    mask = np.zeros(np.prod(shape), dtype=bool)
    mask[np.random.default_rng(n_voxels).permutation(mask.size)[:n_voxels]] = True
    affine = np.diag([3.0, 3, 3, 1]) if affine is None else affine
    return Sector(name, mask.reshape(shape), affine, space)


def make_sectors():
    return {s: [make_sector(s, v) for v in vs] for s, vs in COUNTS.items()}


def make_dataset(**change):
    fields = {
        "name": "mine",
        "stimuli": make_stimuli(),
        "subjects": ["01", "02"],
        "responses": make_responses(),
    }
    return BrainDataset(**fields | change)


def make_rdms(n_pairs=10):
    rng = np.random.default_rng(1)
    return {"V1": rng.random((2, n_pairs)), "IT": rng.random((2, n_pairs))}


def test_what_a_dataset_says_about_itself():
    dataset = make_dataset(sectors=make_sectors())
    assert (dataset.n_subjects, dataset.n_images) == (2, 5)
    assert dataset.sector_names == ("EarlyV", "pOTC")
    assert dataset.has_responses
    assert dataset.space == "TAL"
    assert repr(dataset) == (
        "<BrainDataset 'mine': 2 subjects, 5 images, EarlyV (6-7 voxels), "
        "pOTC (4 voxels), space TAL>"
    )


def test_a_dataset_of_rdms():
    dataset = make_dataset(responses=None, rdms=make_rdms())
    assert not dataset.has_responses
    assert dataset.sector_names == ("V1", "IT")
    assert "V1 (RDMs), IT (RDMs)" in repr(dataset)
    assert dataset.bad_voxels() == {}
    dataset.require_clean_voxels()
    assert dataset.drop_bad_voxels() is dataset
    part = dataset.select("IT", "sub-02")
    np.testing.assert_array_equal(part.rdms["IT"], make_rdms()["IT"][1:])


def as_squares(stack, **names):
    return [pd.DataFrame(squareform(rdm), **names) for rdm in stack]


def as_rsatoolbox(stack, **descriptors):
    from rsatoolbox.rdm import RDMs

    return RDMs(stack, pattern_descriptors=descriptors)


def test_rdms_as_squares_and_objects_of_rsatoolbox():
    stack = make_rdms()["V1"]
    named = {"index": NAMES, "columns": NAMES}
    kinds = ["animal"] * 4 + ["thing"]
    for rdms in (
        np.stack([squareform(rdm) for rdm in stack]),
        [squareform(rdm).tolist() for rdm in stack],
        as_squares(stack, **named),
        [squareform(stack[0]), stack[1]],
        pd.DataFrame(stack, index=["01", "02"]),
        pd.DataFrame(stack),
        as_rsatoolbox(stack),
        as_rsatoolbox(stack, stim_id=NAMES),
        as_rsatoolbox(stack, kind=kinds, conds=NAMES, index=[4, 3, 2, 1, 0]),
        [as_rsatoolbox(rdm[None], conds=NAMES) for rdm in stack],
        to_rsatoolbox(stack, NAMES, subjects=["01", "02"]),
    ):
        held = make_dataset(responses=None, rdms={"V1": rdms}).rdms["V1"]
        np.testing.assert_array_equal(held, stack)


MOVED = [NAMES[1], NAMES[0], *NAMES[2:]]
OTHERS = ["x", *NAMES[1:]]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: as_squares(x, index=MOVED, columns=MOVED), "the index of .*order"),
        (lambda x: as_squares(x, index=NAMES, columns=MOVED), "the columns of.*order"),
        (lambda x: as_squares(x, index=OTHERS, columns=OTHERS), "unknown 'x'"),
        (lambda x: as_rsatoolbox(x, stim_id=MOVED), "descriptor 'stim_id' of.*order"),
        (lambda x: as_rsatoolbox(x, conds=MOVED), "descriptor 'conds' of.*order"),
        (lambda x: as_rsatoolbox(x, conds=OTHERS), "unknown 'x'"),
        (
            lambda x: [as_rsatoolbox(one[None], conds=MOVED) for one in x],
            "descriptor 'conds' of.*subject 01.*order",
        ),
        (lambda x: as_rsatoolbox(x[:, :6], stim_id=NAMES[:4]), "missing 'ear'"),
        (
            lambda x: to_rsatoolbox(x, NAMES, subjects=["02", "01"]),
            "'subject' of .* must be the subjects .*, 01, 02, in this order; got 02",
        ),
        (lambda x: pd.DataFrame(x, index=["02", "01"]), "got 02, 01"),
        (lambda x: as_rsatoolbox(x[:1], stim_id=NAMES), "one entry|n_subjects"),
    ],
)
def test_rdms_of_other_names_are_refused(make, text):
    rdms = {"V1": make(make_rdms()["V1"])}
    with pytest.raises(ValueError, match=text):
        make_dataset(responses=None, rdms=rdms)


def test_numbers_that_are_the_names_are_matched():
    names = ["3", "1", "2"]
    stimuli = StimulusSet(names, ["a.png", "b.png", "c.png"], ["0" * 64] * 3)
    fields = {"stimuli": stimuli, "subjects": ["a"], "responses": None}
    stack = np.ones((1, 3))
    for given in ([3, 1, 2], [0, 1, 2]):  # the second are counts, no names
        make_dataset(**fields, rdms={"V1": as_rsatoolbox(stack, number=given)})
    with pytest.raises(ValueError, match=r"descriptor 'number' of .* order"):
        make_dataset(**fields, rdms={"V1": as_rsatoolbox(stack, number=[1, 2, 3])})


def test_float64_is_not_copied_and_not_writable():
    responses = make_responses()
    dataset = make_dataset(responses=responses)
    held = dataset.responses["EarlyV"][0]
    assert np.shares_memory(held, responses["EarlyV"][0])
    assert responses["EarlyV"][0].flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        held[0, 0] = 1
    with pytest.raises(TypeError):
        dataset.responses["V4"] = held
    rdms = make_rdms()
    held = make_dataset(responses=None, rdms=rdms).rdms["V1"]
    assert np.shares_memory(held, rdms["V1"])


def test_array_likes_become_float64():
    values = np.random.default_rng(0).integers(0, 9, size=(5, 3))
    dataset = make_dataset(
        responses={"V1": [values.tolist(), values.astype(np.float32)]}
    )
    for held in dataset.responses["V1"]:
        assert held.dtype == np.float64
        np.testing.assert_array_equal(held, values)


def test_own_data_as_arrays(tmp_path):
    folder = tmp_path / "stimuli"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(name.encode())
    betas_01, betas_02 = make_responses()["EarlyV"]
    dataset = BrainDataset(
        name="own",
        stimuli=StimulusSet.from_folder(folder),
        subjects=["01", "02"],
        responses={"EarlyV": [betas_01, betas_02]},
    )
    assert dataset.stimuli == make_stimuli()
    assert (
        dataset.fingerprint
        == make_dataset(responses={"EarlyV": [betas_01, betas_02]}).fingerprint
    )


def test_real_voxels_enter_as_arrays(shared):
    with np.load(shared / "data" / "digits69" / "digits69.npz") as file:
        voxels = file["voxels"]
    names = [f"digit{i:03d}" for i in range(len(voxels))]
    stimuli = StimulusSet(names, names, ["0" * 64] * len(names))
    dataset = BrainDataset("digits69", stimuli, ["S1"], {"V1-V3": [voxels]})
    assert dataset.responses["V1-V3"][0].shape == (100, 3092)
    assert dataset.bad_voxels() == {}


def test_the_rows_of_a_dataframe_are_matched_by_name():
    responses = make_responses()
    tables = {s: [pd.DataFrame(x, index=NAMES) for x in responses[s]] for s in COUNTS}
    assert make_dataset(responses=tables).fingerprint == make_dataset().fingerprint
    tables["pOTC"][1] = tables["pOTC"][1].iloc[[0, 2, 1, 3, 4]]
    with pytest.raises(
        ValueError,
        match=r"index of responses\['pOTC'\] of subject 02: .* image 2 must be 'bee'",
    ):
        make_dataset(responses=tables)
    tables["pOTC"][1] = pd.DataFrame(responses["pOTC"][1])
    with pytest.raises(ValueError, match=r"missing 'ant', .* unknown '0', '1'"):
        make_dataset(responses=tables)


def test_the_fingerprint_follows_every_part():
    base = make_dataset()
    assert base.fingerprint == make_dataset(name="other", unit="%").fingerprint
    flipped = make_responses()
    flipped["pOTC"][1] = flipped["pOTC"][1].copy()
    flipped["pOTC"][1][4, 3] = np.nextafter(flipped["pOTC"][1][4, 3], 9)
    fortran = {
        s: [np.asfortranarray(x) for x in xs] for s, xs in make_responses().items()
    }
    assert make_dataset(responses=fortran).fingerprint == base.fingerprint
    renamed = StimulusSet(
        [*NAMES[:4], "eye"], make_stimuli().paths, make_stimuli().hashes
    )
    others = [
        make_dataset(responses=flipped),
        make_dataset(subjects=["01", "03"]),
        make_dataset(stimuli=renamed),
        base.select(["pOTC", "EarlyV"]),
        base.select(subjects=["02", "01"]),
        base.select("EarlyV"),
        make_dataset(halves=make_halves()),
        make_dataset(halves=make_halves(1.0)),
    ]
    prints = {base.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 9
    rdms = make_rdms()
    as_rdms = make_dataset(responses=None, rdms=rdms)
    as_rows = make_dataset(
        responses={s: list(x) for s, x in {"V1": np.ones((2, 5, 2))}.items()}
    )
    assert as_rdms.fingerprint != as_rows.fingerprint


def test_pickling_keeps_everything():
    dataset = make_dataset(sectors=make_sectors(), unit="% change", licence="CC0")
    back = pickle.loads(pickle.dumps(dataset))
    assert back.fingerprint == dataset.fingerprint
    assert (back.unit, back.licence, back.space) == ("% change", "CC0", "TAL")
    assert not back.responses["EarlyV"][0].flags.writeable
    mask = back.sectors["pOTC"][1].mask
    np.testing.assert_array_equal(mask, dataset.sectors["pOTC"][1].mask)


def bad_rdms(value):
    rdms = make_rdms()
    rdms["IT"][1, 3:5] = value
    return rdms


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "name must be a text; got ''"),
        ({"stimuli": "stimuli"}, "stimuli must be a StimulusSet; got str"),
        ({"subjects": "01"}, "subjects must be a list of names; got '01'"),
        ({"subjects": []}, "subjects must be one or more .*; got none"),
        ({"subjects": [1, 2]}, "non-empty texts; got 1, 2"),
        ({"subjects": ["01", "01"]}, "unique; repeated: '01'"),
        ({"responses": None}, "exactly one of responses and rdms; got neither"),
        ({"rdms": make_rdms()}, "exactly one of responses and rdms; got both"),
        ({"space": "Talairach"}, "space must be TAL.*got 'Talairach'"),
        ({"responses": [1, 2]}, "responses must map sector names to data; got list"),
        ({"responses": {}}, "names of sectors in responses .*; got none"),
        ({"responses": {1: []}}, "sectors in responses must be .* texts; got 1"),
        (
            {"responses": {"V1": make_responses()["EarlyV"][:1]}},
            r"responses\['V1'\] must hold one entry per subject; got 1 for 2 subjects",
        ),
        ({"responses": {"V1": {"01": 1, "02": 2}}}, "a list .* per subject; got dict"),
        (
            {"responses": {"V1": [np.ones((5, 2)), np.ones((4, 2))]}},
            r"\['V1'\] of subject 02 must have one row .* 4 conditions for 5 images.$",
        ),
        (
            {"responses": {"V1": [np.ones((5, 2)), np.ones((2, 5))]}},
            "2 conditions for 5 images. Is it transposed",
        ),
        (
            {"responses": {"V1": [np.ones(5), np.ones(5)]}},
            r"subject 01 must be \(n_images, n_voxels\); got \(5,\)",
        ),
        (
            {"responses": {"V1": [np.ones((5, 2)), np.ones((5, 0))]}},
            "subject 02 must have at least one voxel; got none",
        ),
        ({"responses": {"V1": [[["x"]] * 5] * 2}}, "numbers; its type is <U1"),
        ({"responses": {"V1": [np.ones((5, 1)) * 1j] * 2}}, "its type is complex128"),
        (
            {"responses": {"V1": [np.ma.masked_less(np.arange(5.0)[:, None], 2)] * 2}},
            "must not be a masked array",
        ),
        (
            {"responses": None, "rdms": make_rdms(9)},
            r"rdms\['V1'\] must be \(n_subjects, n_pairs\), that is \(2, 10\) for 5 "
            r"images; got \(2, 9\)",
        ),
        (
            {"responses": None, "rdms": {"V1": np.ones((2, 5, 5))}},
            "of subject 01 must have zeros on its diagonal.*1 - r, not r",
        ),
        (
            {"responses": None, "rdms": {"V1": np.triu(np.ones((2, 5, 5)), 1)}},
            "of subject 01 must be symmetric",
        ),
        (
            {"responses": None, "rdms": {"V1": np.zeros((2, 4, 4))}},
            r"must be \(n_images, n_images\), that is \(5, 5\).*got \(4, 4\)",
        ),
        (
            {"responses": None, "rdms": {"V1": np.zeros((2, 5, 5, 1))}},
            r"must be \(n_subjects, n_pairs\)",
        ),
        (
            {"responses": None, "rdms": {"V1": [[[1.0, 2], [3]]] * 2}},
            "of subject 01 must be an array of numbers",
        ),
        (
            {"responses": None, "rdms": bad_rdms(np.nan)},
            r"rdms\['IT'\] must be finite; subject 02 has 2 of 10 pairs",
        ),
        ({"responses": None, "rdms": bad_rdms(np.inf)}, "NaN or infinite"),
        (
            {"responses": None, "rdms": make_rdms(), "sectors": make_sectors()},
            "sectors must come with responses",
        ),
    ],
)
def test_bad_datasets_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        make_dataset(**change)


@pytest.mark.parametrize(
    ("name", "items", "text"),
    [
        ("V4", [1, 2], "the names of responses, EarlyV, pOTC; got EarlyV, pOTC, V4"),
        ("pOTC", [1, 2], r"\['pOTC'\] of subject 01 must be a Sector; got int"),
        ("pOTC", [make_sector("pOTC", 4)], "one entry per subject; got 1 for 2"),
        ("pOTC", [make_sector("IT", 4)] * 2, "must be called pOTC; got IT"),
        (
            "pOTC",
            [make_sector("pOTC", 4), make_sector("pOTC", 5)],
            "subject 02 must have as many voxels .* got 5 voxels for 4 columns",
        ),
        (
            "pOTC",
            [make_sector("pOTC", 4), make_sector("pOTC", 4, space="MNI152")],
            "must share one space; got MNI152, TAL",
        ),
        (
            "pOTC",
            [make_sector("pOTC", 4), make_sector("pOTC", 4, shape=(3, 4, 6))],
            r"subject 02: sectors must share one grid: EarlyV has shape \(3, 4, 5\)",
        ),
        (
            "pOTC",
            [make_sector("pOTC", 4, affine=np.eye(4)), make_sector("pOTC", 4)],
            "subject 01: sectors must share one grid: EarlyV has affine",
        ),
    ],
)
def test_sectors_that_do_not_fit_are_refused(name, items, text):
    with pytest.raises(ValueError, match=text):
        make_dataset(sectors=make_sectors() | {name: items})


def test_the_space_is_that_of_the_sectors():
    with pytest.raises(ValueError, match="that of the sectors, TAL; got MNI152"):
        make_dataset(sectors=make_sectors(), space="MNI152")


def test_select_keeps_the_order_given():
    dataset = make_dataset(sectors=make_sectors())
    part = dataset.select(sectors=["pOTC", "EarlyV"], subjects=["02"])
    assert part.sector_names == ("pOTC", "EarlyV")
    assert part.subjects == ("02",)
    assert np.shares_memory(part.responses["EarlyV"][0], dataset.responses["EarlyV"][1])
    assert part.sectors["EarlyV"] == (dataset.sectors["EarlyV"][1],)
    assert dataset.select().fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sectors": "pOTS"}, "sector must be among EarlyV, pOTC; got 'pOTS'. Did you"),
        ({"subjects": ["01", "3"]}, "subject must be among 01, 02; got '3'"),
        ({"sectors": []}, "sectors must be one or more .*; got none"),
        ({"subjects": ["01", "01"]}, "subjects must be unique; repeated: '01'"),
    ],
)
def test_bad_selections_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        make_dataset().select(**change)


def make_dirty():
    responses = make_responses()
    responses["EarlyV"][0][2, 1] = np.nan
    responses["EarlyV"][0][:, 4] = 0.5
    responses["EarlyV"][0][3, 5] = np.inf
    responses["pOTC"][1][:, 0] = np.nan
    return responses


def test_bad_voxels_are_counted_and_refused():
    dataset = make_dataset(responses=make_dirty())
    assert dataset.bad_voxels() == {("EarlyV", "01"): (2, 1), ("pOTC", "02"): (1, 0)}
    with pytest.raises(
        ValueError,
        match=r"EarlyV of subject 01 has 2 with NaN, 1 constant; pOTC of subject 02 "
        r"has 1 with NaN, 0 constant. Pass drop_bad_voxels=True",
    ):
        dataset.require_clean_voxels()
    make_dataset().require_clean_voxels()


def test_dropping_bad_voxels_drops_them_from_the_masks():
    responses, sectors = make_dirty(), make_sectors()
    dataset = make_dataset(responses=responses, sectors=sectors)
    clean = dataset.drop_bad_voxels()
    clean.require_clean_voxels()
    np.testing.assert_array_equal(
        clean.responses["EarlyV"][0], responses["EarlyV"][0][:, [0, 2, 3]]
    )
    np.testing.assert_array_equal(
        clean.sectors["EarlyV"][0].coordinates,
        sectors["EarlyV"][0].coordinates[[0, 2, 3]],
    )
    assert clean.sectors["EarlyV"][1] is sectors["EarlyV"][1]
    assert dataset.sectors["EarlyV"][0].n_voxels == 6
    assert clean.drop_bad_voxels() is clean
    without = make_dataset(responses=responses).drop_bad_voxels()
    assert without.fingerprint == clean.fingerprint


def test_a_sector_without_any_good_voxel_is_refused():
    responses = make_responses()
    responses["pOTC"][1][:] = 1.0
    with pytest.raises(ValueError, match=r"pOTC of subject 02 must keep .* all 4 have"):
        make_dataset(responses=responses).drop_bad_voxels()


@pytest.mark.parametrize("factor", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("kind", ["responses", "rdms"])
def test_values_whose_squares_are_nothing_or_infinite_are_refused(
    tmp_path, factor, kind
):
    for n in range(4):
        Image.fromarray(np.full((4, 4, 3), n, np.uint8)).save(tmp_path / f"{n}.png")
    stimuli = StimulusSet.from_folder(tmp_path)
    rng = np.random.default_rng(0)
    sound = {"responses": rng.normal(size=(2, 4, 5)), "rdms": rng.random((2, 6))}[kind]
    make = {"name": "x", "stimuli": stimuli, "subjects": ["1", "2"]}
    BrainDataset(**make, **{kind: {"V1": list(sound * factor**0.1)}})
    values = sound * factor
    with pytest.raises(ValueError, match=r"differ by 1e-140 to 1e\+140; .* Scale them"):
        BrainDataset(**make, **{kind: {"V1": list(values)}}).require_clean_voxels()


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_an_image_that_was_never_estimated_is_refused(nothing):
    responses = make_responses()
    responses["pOTC"][1][2] = nothing
    with pytest.raises(ValueError, match=r"'pOTC'] of subject 02 .* is 0 or NaN"):
        make_dataset(responses=responses)
    responses["pOTC"][1][2, 0] = 0.1
    make_dataset(responses=responses)
    responses["pOTC"] = [values[:, 1:2] for values in responses["pOTC"]]
    make_dataset(responses=responses)  # a single voxel may be 0
    responses["pOTC"] = [np.full((5, 3), nothing)] * 2
    assert make_dataset(responses=responses).bad_voxels()  # nothing at all: found there


def test_names_that_arrays_of_xarray_bring_are_checked():
    responses = make_responses()
    names = list(make_dataset().stimuli.names)

    def labelled(order):
        return {
            sector: [
                xr.DataArray(a, dims=("image", "voxel"), coords={"image": order})
                for a in arrays
            ]
            for sector, arrays in responses.items()
        }

    same = make_dataset(responses=labelled(names))
    assert same.fingerprint == make_dataset(responses=responses).fingerprint
    with pytest.raises(ValueError, match=r"the coordinate 'image' of .* in the order"):
        make_dataset(responses=labelled(names[::-1]))


def test_pairs_that_name_the_columns_of_rdms_are_checked():
    rdms = make_rdms()["V1"]
    names = list(make_dataset().stimuli.names)
    columns = pd.MultiIndex.from_tuples(combinations(names, 2))
    table = pd.DataFrame(rdms, index=["01", "02"], columns=columns)
    found = make_dataset(responses=None, rdms={"V1": table})
    np.testing.assert_array_equal(found.rdms["V1"], rdms)
    table.columns = pd.MultiIndex.from_tuples(combinations(names[::-1], 2))
    with pytest.raises(ValueError, match=r"pairs of the images in the order of pdist"):
        make_dataset(responses=None, rdms={"V1": table})


def test_halves_follow_their_voxels():
    dataset = make_dataset(halves=make_halves())
    part = dataset.select("pOTC", subjects=["02"])
    np.testing.assert_array_equal(
        part.halves["pOTC"][0], [part.responses["pOTC"][0]] * 2
    )
    responses = make_responses()
    responses["EarlyV"][0][:, 2] = 1.0
    kept = make_dataset(responses=responses, halves=make_halves()).drop_bad_voxels()
    assert [half.shape for half in kept.halves["EarlyV"][0]] == [(5, 5), (5, 5)]
    back = pickle.loads(pickle.dumps(dataset))
    assert back.fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("halves", "message"),
    [
        ({"EarlyV": make_halves()["EarlyV"]}, "must have the names of responses"),
        ({**make_halves(), "pOTC": [(1, 2)]}, r"halves\['pOTC'\] must"),
        (
            {s: [(x, x[:4]) for x in xs] for s, xs in make_responses().items()},
            r"shape of the responses, \(5, 6\); got \(5, 6\), \(4, 6\)",
        ),
    ],
)
def test_halves_that_do_not_fit(halves, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(halves=halves)
