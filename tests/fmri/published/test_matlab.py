"""MATLAB files of all versions become one tree; what cannot be read says so."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from tests.archives import cells, matlab_content, put, write_mat5, write_mat73
from versa.fmri.published.contents import archive_contents
from versa.fmri.published.files import take
from versa.fmri.published.matlab import Unreadable, read_struct

REAL = Path(scipy.io.matlab.__file__).parent / "tests" / "data"
CONTENT = {
    "numbers": np.arange(6.0).reshape(2, 3),
    "row": np.arange(4.0)[None],
    "column": np.array([[1.5], [np.nan]]),
    "cube": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "small": np.array([[1, 2]], dtype=np.uint8),
    "single": np.array([[0.1]], dtype=np.float32),
    "flags": np.array([[True, False]]),
    "nothing": np.zeros((0, 0)),
    "flat": np.zeros((0, 3)),
    "text": "Größe 1",
    "blank": "",
    "names": ["ant", "bee", "cup"],
    "one": ["alone"],
    "none": [],
    "mixed": ["ant", np.eye(2), {"deep": ["x", np.ones((1, 3))]}],
    "struct": {"a": {"b": {"c": np.array([[7.0]])}}},
}


def check_same(found, known, where=""):
    assert type(found) is type(known), where
    if isinstance(known, dict):
        assert set(found) == set(known), where
        for name in known:
            check_same(found[name], known[name], f"{where}.{name}")
    elif isinstance(known, list):
        assert len(found) == len(known), where
        for row, item in enumerate(known):
            check_same(found[row], item, f"{where}[{row}]")
    elif isinstance(known, np.ndarray):
        assert found.dtype == known.dtype, where
        np.testing.assert_array_equal(found, known, err_msg=where, strict=True)
    else:
        assert found == known, where


@pytest.mark.parametrize("write", [write_mat5, write_mat73])
def test_both_formats_give_the_same_tree(tmp_path, write):
    write(tmp_path / "x.mat", CONTENT)
    check_same(read_struct(tmp_path / "x.mat"), CONTENT)


def test_listing_reads_no_numbers(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        made = file.create_dataset(
            "big", shape=(10**6, 10**6), dtype="f8", chunks=(9, 9)
        )
        made.attrs["MATLAB_class"] = np.bytes_("double")
    assert read_struct(tmp_path / "x.mat", load=False)["big"].shape == (10**6, 10**6)


@pytest.mark.parametrize("name", ["testhdf5_7.4_GLNX86", "testdouble_7.4_GLNX86"])
def test_files_that_matlab_wrote(name):
    path = REAL / f"{name}.mat"
    if not path.is_file():
        pytest.skip("needs the test data of scipy")
    known = np.linspace(0, 2 * np.pi, 9)[None]
    found = read_struct(path)["testdouble"]
    assert found.shape == (1, 9)
    np.testing.assert_allclose(found, known, atol=1e-9)


def test_structs_and_cells_that_matlab_wrote():
    if not REAL.is_dir():
        pytest.skip("needs the test data of scipy")
    found = read_struct(REAL / "teststructarr_7.4_GLNX86.mat")["teststructarr"]
    check_same(
        found,
        [
            {"one": np.array([[1.0]]), "two": np.array([[2.0]])},
            {"one": "number 1", "two": "number 2"},
        ],
    )
    found = read_struct(REAL / "teststringarray_7.4_GLNX86.mat")["teststringarray"]
    assert found == ["one", "two", "three"]
    assert read_struct(REAL / "test_empty_struct.mat")["a"] == {}
    found = read_struct(REAL / "testemptycell_7.4_GLNX86.mat")["testemptycell"]
    assert [x.shape for x in found] == [(1, 1), (1, 1), (0, 0), (0, 0), (1, 1)]
    found = read_struct(REAL / "testbool_8_WIN64.mat")["testbools"]
    check_same(found, np.array([[True], [False]]))
    whole = [path for path in REAL.glob("*7.4*.mat") if "complex" not in path.name]
    assert len(whole) > 10
    for path in whole:
        assert read_struct(path)


@pytest.mark.parametrize(
    ("file", "key", "kind"),
    [
        ("testcomplex_7.4_GLNX86", "testcomplex", "a complex array"),
        ("testsparse_7.4_GLNX86", "testsparse", "a sparse array"),
        ("testfunc_7.4_GLNX86", "testfunc", "a function handle"),
        ("testobject_7.4_GLNX86", "testobject", "an object"),
    ],
)
def test_what_is_neither_numbers_nor_texts_is_refused(file, key, kind):
    path = REAL / f"{file}.mat"
    if not path.is_file():
        pytest.skip("needs the test data of scipy")
    with pytest.raises(ValueError, match=f"{key} must be numbers or .*; it is {kind}"):
        take(read_struct(path), key, path.name)


def test_a_complex_array_does_not_spoil_the_others(tmp_path):
    numbers = np.arange(3.0)[None]
    item = {"z": np.array([[1 + 2j]]), "x": numbers, "deep": cells([1j, "ab"])}
    scipy.io.savemat(tmp_path / "x.mat", {"S": item})
    tree = read_struct(tmp_path / "x.mat")
    check_same(tree["S"]["x"], numbers)
    assert tree["S"]["z"] == tree["S"]["deep"][0] == Unreadable("a complex array")
    assert tree["S"]["deep"][1] == "ab"


def test_what_version_73_has_and_we_cannot_read(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        put(file, "good", np.eye(2), refs)
        pair = np.zeros((1, 2), dtype=[("real", "f8"), ("imag", "f8")])
        file.create_dataset("z", data=pair).attrs["MATLAB_class"] = np.bytes_("double")
        text = file.create_dataset("words", data=np.zeros((1, 6), dtype=np.uint32))
        text.attrs["MATLAB_class"] = np.bytes_("string")
        text.attrs["MATLAB_object_decode"] = np.int32(3)
        handle = file.create_group("f")
        handle.attrs["MATLAB_class"] = np.bytes_("function_handle")
        sparse = file.create_group("s")
        sparse.attrs["MATLAB_class"] = np.bytes_("double")
        sparse.attrs["MATLAB_sparse"] = np.uint64(5)
        file.create_dataset("foreign", data=np.eye(2))
    table = archive_contents(tmp_path)
    found = dict(zip(table["key"], table["type"], strict=True))
    assert found == {
        "good": "float64",
        "z": "a complex array",
        "words": "an object (string)",
        "f": "a function handle",
        "s": "a sparse array",
        "foreign": "an array that MATLAB did not write",
    }


def test_struct_arrays_and_matrices_of_cells_of_version_73(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        group = file.create_group("S")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for name, items in (("roi", ["V1", "IT"]), ("n", [np.eye(1), np.eye(2)])):
            column = group.create_dataset(name, (2, 1), dtype=h5py.ref_dtype)
            for row, item in enumerate(items):
                column[row, 0] = put(refs, f"{name}{row}", item, refs).ref
        grid = file.create_dataset("C", (3, 2), dtype=h5py.ref_dtype)  # 2 x 3 cells
        grid.attrs["MATLAB_class"] = np.bytes_("cell")
        for row in range(2):
            for col in range(3):
                text = put(refs, f"c{row}{col}", f"{row}{col}", refs)
                grid[col, row] = text.ref
        rows = np.array([["a", "b", " "], ["c", "d", "e"]])
        codes = np.vectorize(ord)(rows).astype(np.uint16)
        lines = file.create_dataset("L", data=codes.T)
        lines.attrs["MATLAB_class"] = np.bytes_("char")
    tree = read_struct(tmp_path / "x.mat")
    check_same(
        tree["S"], [{"roi": "V1", "n": np.eye(1)}, {"roi": "IT", "n": np.eye(2)}]
    )
    assert tree["C"] == [["00", "01", "02"], ["10", "11", "12"]]
    assert take(tree, "C[1][2]") == "12"
    assert tree["L"] == ["ab", "cde"]


def test_other_hdf5_files_are_read_as_they_are_stored(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["betas/S1.V1"] = values
        file["names"] = ["ant", "bee"]
    tree = read_struct(tmp_path / "x.h5")
    check_same(take(tree, "betas.S1.V1"), values)
    assert tree["names"] == ["ant", "bee"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("SECTORS.betas", "field of SECTORS must be among .* Did you mean Betas"),
        ("SECTOR", "field of x.mat must be among SECTORS; got 'SECTOR'"),
        ("SECTORS.Betas.EarlyV[3]",
         r"the index of SECTORS.Betas.EarlyV\[3\] must be below 3, counted from 0"),
        ("SECTORS.Betas.EarlyV[0][1]",
         r"EarlyV\[0\] is an array \(9, 6\), which has no part '\[1\]'"),
        ("SECTORS.Betas.EarlyV.x", r"is a list of 3, which has no part 'x'"),
    ],
)  # fmt: skip
def test_keys_that_lead_nowhere(tmp_path, key, text):
    write_mat5(tmp_path / "x.mat", matlab_content())
    with pytest.raises(ValueError, match=f"x.mat: .*{text}"):
        take(read_struct(tmp_path / "x.mat"), key, "x.mat")


@pytest.mark.parametrize("write", [write_mat5, write_mat73])
def test_cut_files_are_refused_with_a_sentence(tmp_path, write):
    path = tmp_path / "x.mat"
    write(path, matlab_content())
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.95):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"x\.mat must be a whole MATLAB or HDF5"):
            read_struct(path)
    path.write_bytes(b"no such thing" * 99)
    with pytest.raises(ValueError, match="must be a whole MATLAB or HDF5 file"):
        read_struct(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"x\.mat must exist; it is missing"):
        read_struct(path)


@pytest.mark.parametrize("place", ["x", "deep/x"])
@pytest.mark.parametrize("userblock_size", [0, 512])
def test_links_that_lead_nowhere(tmp_path, place, userblock_size):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=userblock_size) as file:
        file[place] = h5py.ExternalLink("elsewhere.h5", "/x")
    with pytest.raises(
        ValueError, match=r"cannot be opened|[Uu]nable to .*open|is in another file"
    ):
        read_struct(tmp_path / "x.h5")


@pytest.mark.parametrize(
    "name", ["corrupted_zlib_checksum", "corrupted_zlib_data", "malformed1"]
)
def test_damaged_files_of_scipy_s_own_tests(name):
    if not REAL.is_dir():
        pytest.skip("needs the test data of scipy")
    with pytest.raises(ValueError, match=f"{name}.mat must be a whole MATLAB"):
        read_struct(REAL / f"{name}.mat")


@pytest.mark.parametrize("n_bytes", [1, 4, 20, 52, 128, 200])
def test_texts_of_other_programs_are_refused_with_a_sentence(tmp_path, n_bytes):
    path = tmp_path / "flirt.mat"  # FSL's FLIRT writes an affine as text
    path.write_text(("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n" * 9)[:n_bytes])
    with pytest.raises(ValueError, match=r"flirt\.mat must be a whole MATLAB or HDF5"):
        read_struct(path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["4", "5"])
def test_files_with_other_bytes_are_read_or_refused_with_a_sentence(tmp_path, version):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"x": np.eye(3), "y": "text"}, format=version)
    whole = path.read_bytes()
    n_refused = 0
    for share in range(1, 20):
        path.write_bytes(whole[: share * len(whole) // 20])
        try:
            read_struct(path)
        except ValueError as error:
            n_refused += str(error).startswith(f"{path} must be a whole MATLAB")
    assert n_refused > 10
