"""Files as GLMsingle writes them, in Python and in MATLAB; and dangerous pickles."""

import os
import pickle
from itertools import product

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from versa.fmri.betas.glmsingle import read_glmsingle
from versa.fmri.betas.trials import average_trials, trials_from_events

SHAPE = (3, 4, 5)
AFFINE = np.diag([2.0, 2, 2, 1])
TRIALS = ["dog", "cup", "ear", "cup", "dog", "ear", "ear", "cup", "dog"]
NUMBERS = [7, 2, 5, 2, 7, 5, 5, 2, 7]  # columns of the design
RUN_LENGTHS = [3, 3, 3]
RUNS = [1, 1, 1, 2, 2, 2, 3, 3, 3]
OPTIONS = {"subject": "01", "space": "individual"}


@pytest.fixture
def betas():
    betas = np.random.default_rng(0).normal(size=(*SHAPE, 9)).astype(np.float32)
    betas[0, 0, 0] = np.nan  # a voxel whose mean signal is 0
    betas[0, 0, 1] = 0
    return betas


@pytest.fixture
def mask():
    """A mask whose voxels have another order in C than in Fortran."""
    mask = np.random.default_rng(1).random(SHAPE) > 0.4
    mask[0, 0, :2] = False
    assert not np.array_equal(np.argwhere(mask), np.argwhere(mask.T)[:, ::-1])
    return mask


def image(folder, values, affine=AFFINE, name="image.nii.gz"):
    path = folder / name
    nibabel.Nifti1Image(np.asarray(values, dtype=np.uint8), affine).to_filename(path)
    return path


@pytest.mark.parametrize(("voxels", "same"), [(0.009, True), (0.011, False)])
def test_mask_and_image_agree_up_to_a_hundredth_of_a_voxel(
    tmp_path, betas, mask, voxels, same
):
    path = write_python(tmp_path, betas)
    like = image(tmp_path, np.ones(SHAPE))
    moved = AFFINE @ np.array(
        [[1, 0, 0, voxels], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    own = image(tmp_path, mask, moved, "mask.nii.gz")
    options = {"like": like, "mask": own, "runs": RUNS, **OPTIONS}
    if same:
        assert read_glmsingle(path, TRIALS, **options).mask.sum() == mask.sum()
        return
    with pytest.raises(ValueError, match=r"mask.nii.gz must have the affine of "):
        read_glmsingle(path, TRIALS, **options)


def write_python(folder, betas, name="TYPED_FITHRF_GLMDENOISE_RR.npy"):
    content = {
        "HRFindex": np.zeros(SHAPE, int),
        "glmbadness": None,
        "pcnum": np.int64(3),
        "pcregressors": [np.zeros((5, 2)), np.zeros((5, 2))],
        "betasmd": betas,
        "R2": np.zeros(SHAPE, np.float32),
    }
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, content)
        return path
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            value = np.array(value) if isinstance(value, list) else value
            file[key] = h5py.Empty("f") if value is None else value
    return path


def write_matlab(folder, arrays, name="TYPED_FITHRF_GLMDENOISE_RR.mat"):
    path = folder / name
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in arrays.items():
            file[key] = np.asarray(value).T
            file[key].attrs["MATLAB_class"] = np.bytes_("single")
    return path


def write_design(folder, numbers=NUMBERS, lengths=RUN_LENGTHS):
    design = {
        "design": [np.eye(9, 8), np.eye(9, 8)],
        "stimdur": 4.0,
        "tr": 2,
        "params": {"fracs": np.linspace(1, 0.05, 20), "wantlibrary": 1, "xval": [[0]]},
        "stimorder": [np.int64(number) for number in numbers],
        "numtrialrun": lengths,
        "condcounts": [np.int64(3)],
    }
    np.save(folder / "DESIGNINFO.npy", design)


def truth(betas, inside):
    return average_trials(betas[inside].T, TRIALS, RUNS, halves="runs")


@pytest.mark.parametrize("kind", ["npy", "hdf5", "mat", "mat v5", "bare npy"])
def test_all_formats_give_the_same_betas(tmp_path, betas, kind):
    if kind == "mat":
        path = write_matlab(tmp_path, {"modelmd": betas, "R2": betas[..., 0]})
    elif kind == "mat v5":
        path = tmp_path / "TYPEB_FITHRF.mat"
        scipy.io.savemat(path, {"modelmd": betas})
    elif kind == "bare npy":
        path = tmp_path / "betas.npy"
        np.save(path, betas)
    else:
        path = write_python(tmp_path, betas, f"TYPED_FITHRF_GLMDENOISE_RR.{kind}")
    like = image(tmp_path, np.ones(SHAPE))
    found = read_glmsingle(path, TRIALS, like=like, runs=RUNS, **OPTIONS)
    inside = np.ones(SHAPE, bool)
    inside[0, 0, :2] = False
    names, mean, odd, even = truth(betas, inside)
    np.testing.assert_array_equal(found.mask, inside)
    assert found.conditions == names == ("dog", "cup", "ear")
    np.testing.assert_array_equal(found.values, mean)
    np.testing.assert_array_equal(found.odd, odd)
    np.testing.assert_array_equal(found.even, even)
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert found.unit == "% signal change"


@pytest.mark.parametrize(
    ("kind", "order", "flat"),
    [*product(["npy", "mat"], [None, "C", "F"], [True]), ("npy", None, False)],
)
def test_voxels_of_a_mask_go_to_their_places(tmp_path, betas, mask, kind, order, flat):
    numbered = order or {"npy": "C", "mat": "F"}[kind]
    places = np.argwhere(mask)
    if numbered == "F":
        places = np.argwhere(mask.T)[:, ::-1]
    rows = np.stack([betas[tuple(place)] for place in places])  # (n_voxels, n_trials)
    rows = rows[:, None, None] if flat else rows
    if kind == "npy":
        path = write_python(tmp_path, rows)
    else:
        path = write_matlab(tmp_path, {"modelmd": rows})
    own = image(tmp_path, mask)
    found = read_glmsingle(
        path, TRIALS, mask=own, runs=RUNS, voxel_order=order, **OPTIONS
    )
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_array_equal(found.values, truth(betas, mask)[1])


def test_runs_and_the_order_of_trials_come_from_the_design(tmp_path, betas, caplog):
    path = write_python(tmp_path, betas)
    like = image(tmp_path, np.ones(SHAPE))
    with pytest.raises(ValueError, match="halves by runs need the run of each trial"):
        read_glmsingle(path, TRIALS, like=like, **OPTIONS)
    write_design(tmp_path)
    found = read_glmsingle(path, TRIALS, like=like, **OPTIONS)
    np.testing.assert_array_equal(found.odd, truth(betas, found.mask)[2])
    named = [f"run-{run}" for run in RUNS]
    again = read_glmsingle(path, TRIALS, like=like, runs=named, **OPTIONS)
    np.testing.assert_array_equal(again.even, found.even)
    swapped = [*TRIALS[:7], "dog", "cup"]
    with pytest.raises(
        ValueError,
        match=r"in the order of .*DESIGNINFO.npy: its condition 2 is 'cup' at first, "
        r"but 'dog' at trial 8",
    ):
        read_glmsingle(path, swapped, like=like, **OPTIONS)
    with pytest.raises(
        ValueError, match=r"runs must be those of .* with 3, 3, 3 trials"
    ):
        read_glmsingle(path, TRIALS, like=like, runs=[*RUNS[1:], 3], **OPTIONS)
    assert "some are averaged" not in caplog.text
    animals = ["animal" if name == "dog" else "thing" for name in TRIALS]
    coarse = read_glmsingle(path, animals, like=like, **OPTIONS)
    assert coarse.conditions == ("animal", "thing")
    assert "has 3 conditions, trials name 2: some are averaged" in caplog.text
    write_design(tmp_path, NUMBERS[:-1], [3, 3, 2])
    with pytest.raises(ValueError, match="must describe the 9 trials; it has 8"):
        read_glmsingle(path, TRIALS, like=like, **OPTIONS)


def test_the_design_of_matlab_is_read_too(tmp_path, betas):
    path = write_matlab(tmp_path, {"modelmd": betas})
    design = {"stimorder": np.array([NUMBERS]), "numtrialrun": np.array([[3, 3, 3]])}
    write_matlab(tmp_path, design, "DESIGNINFO.mat")
    like = image(tmp_path, np.ones(SHAPE))
    found = read_glmsingle(path, TRIALS, like=like, **OPTIONS)
    np.testing.assert_array_equal(found.even, truth(betas, found.mask)[3])
    with pytest.raises(ValueError, match="trials must be in the order of"):
        read_glmsingle(path, sorted(TRIALS), like=like, **OPTIONS)


def test_trials_of_events_are_in_the_order_of_the_design(tmp_path, betas):
    pandas = pytest.importorskip("pandas")
    path = write_python(tmp_path, betas)
    write_design(tmp_path)
    tables = []
    for run in (1, 2, 3):
        names = [name for name, own in zip(TRIALS, RUNS, strict=True) if own == run]
        table = pandas.DataFrame({"onset": [4.0, 8.0, 12.0], "trial_type": names})
        tables.append(table.sample(frac=1, random_state=run))
    trials, runs = trials_from_events(tables)
    like = image(tmp_path, np.ones(SHAPE))
    found = read_glmsingle(path, trials, runs=runs, like=like, **OPTIONS)
    np.testing.assert_array_equal(found.values, truth(betas, found.mask)[1])


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("where", ["content", "value", "array", "design"])
def test_a_pickle_that_runs_code_is_refused(tmp_path, betas, where):
    trace = tmp_path / "trace"
    evil = Evil(f"touch {trace}")
    path = write_python(tmp_path, betas)
    if where == "design":
        np.save(tmp_path / "DESIGNINFO.npy", {"stimorder": evil})
    elif where == "content":
        np.save(path, np.array(evil, dtype=object))
    elif where == "value":
        np.save(path, {"betasmd": betas, "R2": evil})
    else:
        np.save(path, {"betasmd": betas, "R2": np.array([evil, 1], dtype=object)})
    like = image(tmp_path, np.ones(SHAPE))
    with pytest.raises(ValueError, match=r"arrays only; .* asks for posix.system"):
        read_glmsingle(path, TRIALS, like=like, runs=RUNS, **OPTIONS)
    assert not trace.exists()
    if where == "value":  # the file does run code when it is trusted
        np.load(path, allow_pickle=True)
        assert trace.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy._core.multiarray", "fromfile"),
        ("numpy.core.multiarray", "frombuffer"),
    ],
)
def test_no_other_function_is_reached(tmp_path, module, name):
    path = tmp_path / "a.npy"
    call = b"".join(
        (
            pickle.PROTO + b"\x04",
            pickle.SHORT_BINUNICODE + bytes([len(module)]) + module.encode(),
            pickle.SHORT_BINUNICODE + bytes([len(name)]) + name.encode(),
            pickle.STACK_GLOBAL + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.STOP,
        )
    )
    with open(path, "wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(call)
    with pytest.raises(ValueError, match=r"arrays only; .* it asks for "):
        read_glmsingle(path, TRIALS, runs=RUNS, **OPTIONS)


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles_of_older_numpy_are_read(tmp_path, betas, protocol):
    path = tmp_path / "TYPEB_FITHRF.npy"
    content = np.array({"betasmd": betas, "n": np.float32(3)}, dtype=object)
    old = pickle.dumps(content, protocol=protocol)
    if protocol == 3:  # names are lines; the module had another name before NumPy 2
        old = old.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    with open(path, "wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(old)
    like = image(tmp_path, np.ones(SHAPE))
    found = read_glmsingle(path, TRIALS, like=like, runs=RUNS, **OPTIONS)
    np.testing.assert_array_equal(found.values, truth(betas, found.mask)[1])


def test_files_without_single_trials_are_refused(tmp_path, betas):
    like = image(tmp_path, np.ones(SHAPE))
    options = {**OPTIONS, "like": like, "runs": RUNS}
    path = write_python(tmp_path, betas[..., :1], "TYPEA_ONOFF.npy")
    with pytest.raises(
        ValueError, match=r"betas of 9 trials, .*\(3, 4, 5, 1\). Model A"
    ):
        read_glmsingle(path, TRIALS, **options)
    path = write_matlab(tmp_path, {"R2": betas[..., 0]})
    with pytest.raises(ValueError, match="as betasmd or modelmd; it holds R2"):
        read_glmsingle(path, TRIALS, **options)
    with pytest.raises(
        ValueError, match=r"it is a folder, with TYPEA_ONOFF.npy, TYPED_"
    ):
        read_glmsingle(tmp_path, TRIALS, **options)
    with pytest.raises(ValueError, match="must exist; it is missing"):
        read_glmsingle(tmp_path / "absent.npy", TRIALS, **options)
    np.save(tmp_path / "list.npy", np.array([{}, {}], dtype=object))
    with pytest.raises(ValueError, match="must hold a dict of arrays"):
        read_glmsingle(tmp_path / "list.npy", TRIALS, **options)


@pytest.mark.parametrize("ending", ["npy", "hdf5", "mat"])
def test_damaged_files_are_refused(tmp_path, betas, ending):
    name = f"TYPED_FITHRF_GLMDENOISE_RR.{ending}"
    if ending == "mat":
        path = write_matlab(tmp_path, {"modelmd": betas})
    else:
        path = write_python(tmp_path, betas, name)
    content = path.read_bytes()
    like = image(tmp_path, np.ones(SHAPE))
    for size in (0, 40, 700, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{name} must (be an?|hold) .*"):
            read_glmsingle(path, TRIALS, like=like, runs=RUNS, **OPTIONS)


def test_the_place_of_voxels_must_be_known(tmp_path, betas, mask):
    path = write_python(tmp_path, betas)
    with pytest.raises(
        ValueError, match="does not say where its voxels are; pass like="
    ):
        read_glmsingle(path, TRIALS, runs=RUNS, **OPTIONS)
    other = image(tmp_path, np.ones((3, 4, 6)), name="other.nii")
    with pytest.raises(ValueError, match=r"other.nii must have the grid of the betas"):
        read_glmsingle(path, TRIALS, runs=RUNS, like=other, **OPTIONS)
    like = image(tmp_path, np.ones(SHAPE))
    moved = image(tmp_path, mask, AFFINE + np.eye(4, k=3), name="moved.nii")
    with pytest.raises(ValueError, match=r"moved.nii must have the affine of"):
        read_glmsingle(path, TRIALS, runs=RUNS, like=like, mask=moved, **OPTIONS)
    own = image(tmp_path, mask, name="mask.nii")
    found = read_glmsingle(path, TRIALS, runs=RUNS, mask=own, **OPTIONS)
    np.testing.assert_array_equal(found.mask, mask)
    flat = write_python(tmp_path, betas[mask][:, None, None])
    with pytest.raises(ValueError, match=r"voxels without their places; pass mask="):
        read_glmsingle(flat, TRIALS, runs=RUNS, like=like, **OPTIONS)
    with pytest.raises(ValueError, match=rf"the voxels of .*, {mask.sum()}; got 60"):
        read_glmsingle(flat, TRIALS, runs=RUNS, mask=like, **OPTIONS)
    with pytest.raises(ValueError, match="voxel_order must be among C, F"):
        read_glmsingle(flat, TRIALS, runs=RUNS, mask=own, voxel_order="A", **OPTIONS)
    with pytest.raises(ValueError, match="space must be TAL"):
        read_glmsingle(path, TRIALS, subject="01", space="T1w", like=like)


@pytest.mark.parametrize("nothing", [0.0, np.nan])
@pytest.mark.parametrize("kind", ["volumes", "voxels"])
def test_trials_without_estimate_are_left_out(
    tmp_path, betas, mask, caplog, nothing, kind
):
    options = {**OPTIONS, "mask": image(tmp_path, mask), "halves": None}
    rows = betas[mask]
    rows[:, 3] = nothing  # the second trial of cup
    betas[..., 3] = nothing
    path = write_python(tmp_path, betas if kind == "volumes" else rows)
    found = read_glmsingle(path, TRIALS, **options)
    expected = rows[:, [1, 7]].astype(float).mean(axis=1)
    np.testing.assert_allclose(found.values[found.conditions.index("cup")], expected)
    assert found.n_voxels == mask.sum()
    assert "1 of 9 trials have no estimate" in caplog.text
    assert "'cup', trial 4" in caplog.text
    betas[..., [1, 3, 7]] = nothing
    path = write_python(tmp_path, betas)
    with pytest.raises(ValueError, match="cup has none in any trial"):
        read_glmsingle(path, TRIALS, **options)


def test_an_estimate_is_looked_for_within_the_mask(tmp_path, betas, mask, caplog):
    betas[mask, 3] = 0
    betas[~mask, 3] = 5
    path = write_python(tmp_path, betas)
    options = {**OPTIONS, "mask": image(tmp_path, mask), "halves": None}
    found = read_glmsingle(path, TRIALS, **options)
    assert "'cup', trial 4" in caplog.text
    expected = betas[mask][:, [1, 7]].astype(float).mean(axis=1)
    np.testing.assert_allclose(found.values[found.conditions.index("cup")], expected)


def test_files_that_fill_the_memory_are_refused(tmp_path, mask):
    path = tmp_path / "TYPED_FITHRF_GLMDENOISE_RR.hdf5"
    packing = {"chunks": (100, 100, 10, 9), "compression": "gzip"}
    with h5py.File(path, "w") as file:
        file.create_dataset("betasmd", (1000, 1000, 100, 9), "f4", **packing)
    like = image(tmp_path, mask)
    with pytest.raises(ValueError, match=r"must unpack to at most .* fill 3600000000"):
        read_glmsingle(path, TRIALS, like=like, **OPTIONS)
