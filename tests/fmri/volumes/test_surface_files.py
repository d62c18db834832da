"""Surface files against nibabel: what is written comes back at its vertex."""

import base64
import gzip
import re
import zlib

import nibabel
import numpy as np
import pytest
from nibabel import cifti2, gifti
from nilearn.surface import PolyData

from versa.fmri.volumes.surface_files import (
    read_cifti,
    read_hemispheres,
    surface_label_names,
)

N_VERTICES = {"left": 12, "right": 10}


def write_gifti(path, columns, labels=None, structure=None, of_array=None):
    image = gifti.GiftiImage()
    if structure:
        image.meta = gifti.GiftiMetaData(
            Name="a", AnatomicalStructurePrimary=structure, Version="2"
        )
    for column in columns:
        kind = "NIFTI_INTENT_LABEL" if labels else "NIFTI_INTENT_NONE"
        dtype = np.int32 if labels else np.float32
        image.add_gifti_data_array(
            gifti.GiftiDataArray(np.asarray(column, dtype), intent=kind)
        )
    if of_array:
        image.darrays[0].meta = gifti.GiftiMetaData(AnatomicalStructurePrimary=of_array)
    for number, name in (labels or {}).items():
        label = gifti.GiftiLabel(key=number, red=1, green=0, blue=0, alpha=1)
        label.label = name
        image.labeltable.labels.append(label)
    nibabel.save(image, path)
    return path


def brain_models(order=("left", "right"), step=2):
    """Every second vertex of both sides, and some voxels below the cortex."""
    parts = {}
    for side, n in N_VERTICES.items():
        name = f"CIFTI_STRUCTURE_CORTEX_{side.upper()}"
        vertices = np.arange(1, n, step)
        parts[side] = cifti2.BrainModelAxis.from_surface(vertices, n, name)
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1, 1] = True
    parts["voxels"] = cifti2.BrainModelAxis.from_mask(
        mask, "CIFTI_STRUCTURE_THALAMUS_LEFT", np.eye(4)
    )
    axis = parts[order[0]]
    for name in order[1:]:
        axis = axis + parts[name]
    return axis


def write_cifti(path, first, models, values=None):
    if values is None:
        values = np.arange(len(first) * len(models), dtype=np.float32)
        values = values.reshape(len(first), len(models))
    image = cifti2.Cifti2Image(values, header=(first, models))
    nibabel.save(image, path)
    return path, values


def test_gifti_of_both_hemispheres(tmp_path):
    rng = np.random.default_rng(0)
    columns = {side: rng.normal(size=(3, n)) for side, n in N_VERTICES.items()}
    files = {
        side: write_gifti(tmp_path / f"[{side}].func.gii", data)
        for side, data in columns.items()
    }
    data = read_hemispheres(**files)
    assert isinstance(data, PolyData)
    for side, part in data.parts.items():
        np.testing.assert_array_equal(part, columns[side].astype(np.float32).T)
    assert list(read_hemispheres(right=files["right"]).parts) == ["right"]


def test_labels_of_gifti_and_their_names(tmp_path):
    table = {0: "???", 1: "V1", 2: "V2", 5: "Medial_Wall"}
    labels = np.arange(12) % 3
    path = write_gifti(tmp_path / "lh.label.gii", [labels], table)
    np.testing.assert_array_equal(read_hemispheres(path).parts["left"], labels)
    assert surface_label_names(path) == {1: "V1", 2: "V2"}
    path = write_gifti(tmp_path / "lh.func.gii", [labels])
    with pytest.raises(ValueError, match="must name its labels; it has none"):
        surface_label_names(path)


def test_annotations_of_freesurfer(tmp_path):
    labels = np.arange(12) % 3
    colours = np.array([[25, 5, 25, 0, 0], [1, 2, 3, 0, 0], [4, 5, 6, 0, 0]])
    path = tmp_path / "lh.aparc.annot"
    nibabel.freesurfer.write_annot(path, labels, colours, ["unknown", "V1", "V2"])
    np.testing.assert_array_equal(read_hemispheres(path).parts["left"], labels)
    assert surface_label_names(path) == {1: "V1", 2: "V2"}


def test_damaged_files_of_freesurfer(tmp_path):
    path = tmp_path / "lh.curv"
    nibabel.freesurfer.write_morph_data(path, np.arange(12.0))
    assert read_hemispheres(path).parts["left"].tolist() == list(range(12))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"lh\.curv .*announces 12 .* has 10"):
        read_hemispheres(path)
    path = tmp_path / "lh.aparc.annot"
    colours = np.array([[25, 5, 25, 0, 0], [1, 2, 3, 0, 0]])
    nibabel.freesurfer.write_annot(path, np.arange(12) % 2, colours, ["no", "V1"])
    whole = path.read_bytes()
    place = 4 + 12 * 8 + 8  # the number of labels, after the vertices
    assert int.from_bytes(whole[place : place + 4], "big") == 2
    path.write_bytes(whole[:place] + b"\x7f\xff\xff\xff" + whole[place + 4 :])
    for read in (read_hemispheres, surface_label_names):  # nibabel takes minutes
        with pytest.raises(ValueError, match=r"lh\.aparc\.annot must"):
            read(path)


def test_mgz_of_freesurfer(tmp_path):
    values = np.random.default_rng(1).normal(size=(12, 1, 1, 4)).astype(np.float32)
    path = tmp_path / "lh.beta.mgz"
    nibabel.save(nibabel.MGHImage(values, np.eye(4)), path)
    np.testing.assert_array_equal(
        read_hemispheres(path).parts["left"], values.squeeze()
    )


@pytest.mark.parametrize(
    "order", [("left", "right"), ("voxels", "right", "left"), ("left", "voxels")]
)
@pytest.mark.parametrize("kind", ["dscalar", "dtseries"])
def test_cifti_values_lie_at_their_vertices(tmp_path, order, kind):
    first = {
        "dscalar": cifti2.ScalarAxis(["cup", "dog"]),
        "dtseries": cifti2.SeriesAxis(0, 2.0, 2),
    }[kind]
    models = brain_models(order)
    path, values = write_cifti(tmp_path / f"a.{kind}.nii", first, models)
    parts = read_cifti(path).parts
    assert set(parts) == set(order) - {"voxels"}
    for name, slab, model in models.iter_structures():
        side = name.rsplit("_", 1)[1].lower()
        if "CORTEX" not in name:
            continue
        assert parts[side].shape == (N_VERTICES[side], 2)
        np.testing.assert_array_equal(parts[side][model.vertex], values[:, slab].T)
        others = np.setdiff1d(np.arange(N_VERTICES[side]), model.vertex)
        assert np.isnan(parts[side][others]).all()


def test_cifti_of_a_structure_in_pieces(tmp_path):
    left, right = brain_models(("left",)), brain_models(("right",))
    models = left[:2] + right + left[2:]
    first = cifti2.ScalarAxis(["cup"])
    path, values = write_cifti(tmp_path / "a.dscalar.nii", first, models)
    part = read_cifti(path).parts["left"]
    here = models.name == "CIFTI_STRUCTURE_CORTEX_LEFT"
    np.testing.assert_array_equal(part[models.vertex[here], 0], values[0, here])


def test_cifti_labels_are_numbers_with_names(tmp_path):
    colour = (1.0, 0.0, 0.0, 1.0)
    table = {0: ("???", colour), 1: ("L_V1_ROI", colour), 7: ("R_V1_ROI", colour)}
    models = brain_models()
    values = np.full((1, len(models)), 1.0, dtype=np.float32)
    values[0, 6:] = 7
    first = cifti2.LabelAxis(["parcels"], table)
    path, _ = write_cifti(tmp_path / "a.dlabel.nii", first, models, values)
    assert surface_label_names(path) == {1: "L_V1_ROI", 7: "R_V1_ROI"}
    parts = read_cifti(path).parts
    assert parts["left"][:, 0].tolist() == [0, 1] * 6
    assert parts["right"][:, 0].tolist() == [0, 7] * 5


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have a file for left, right, or both"):
        read_hemispheres()
    with pytest.raises(ValueError, match=r"a\.gii must exist; it is missing"):
        read_hemispheres(tmp_path / "a.gii")
    for name in ("b.gii", "b.mgz", "b.func.gii.gz"):
        (tmp_path / name).write_text("nothing")
        with pytest.raises(ValueError, match="must be surface data; reading it fails"):
            read_hemispheres(tmp_path / name)
    (tmp_path / "lh.V1.label").write_text("#!ascii label\n1\n3 0 0 0 0\n")
    with pytest.raises(ValueError, match=r"a \.label file is a list of vertices"):
        read_hemispheres(tmp_path / "lh.V1.label")
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4)), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(ValueError, match=r"got float64 of \(2, 3, 4\)"):
        read_hemispheres(tmp_path / "c.nii")
    (tmp_path / "d.gii").write_text("nothing")
    with pytest.raises(ValueError, match="must be a GIFTI file; reading it fails"):
        surface_label_names(tmp_path / "d.gii")
    (tmp_path / "e.annot").write_bytes(b"\0\0\0")
    with pytest.raises(ValueError, match="must be an annotation of FreeSurfer"):
        surface_label_names(tmp_path / "e.annot")


def test_hemispheres_of_different_numbers_of_images_are_refused(tmp_path):
    left = write_gifti(tmp_path / "l.func.gii", np.ones((3, 12)))
    right = write_gifti(tmp_path / "r.func.gii", np.ones((2, 10)))
    with pytest.raises(ValueError, match=r"has \(12, 3\), .* has \(10, 2\)"):
        read_hemispheres(left, right)


@pytest.mark.parametrize("where", ["structure", "of_array"])
def test_hemispheres_are_not_exchanged(tmp_path, where):
    table = {0: "???", 1: "V1"}
    left, right, any_side = (
        write_gifti(tmp_path / f"{name}.gii", np.ones((2, 9)), table, **{where: name})
        for name in ("CortexLeft", "CortexRight", "Cortex")
    )
    assert set(read_hemispheres(left, right).parts) == {"left", "right"}
    assert set(read_hemispheres(any_side, right).parts) == {"left", "right"}
    with pytest.raises(ValueError, match=r"the left hemisphere .* says CortexRight"):
        read_hemispheres(right, left)
    packed = tmp_path / "packed.gii.gz"
    packed.write_bytes(gzip.compress(left.read_bytes()))
    assert read_hemispheres(packed).parts["left"].shape == (9, 2)
    with pytest.raises(ValueError, match=r"the right hemisphere .* says CortexLeft"):
        read_hemispheres(right=packed)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("sub-01_hemi-R_bold.func.gii", "right"),
        ("lh.V1.label.gii", "left"),
        ("100307.R.thickness.shape.gii", "right"),
        ("betas_left.func.gii", "left"),
        ("betasRight.func.gii", "right"),
        ("sub-01_stat-r_map.func.gii", None),
        ("left_and_right.func.gii", None),
    ],
)
def test_names_of_files_tell_the_hemisphere(tmp_path, name, side):
    path = write_gifti(tmp_path / name, np.ones((2, 9)))
    for asked in ("left", "right"):
        if side in (None, asked):
            assert set(read_hemispheres(**{asked: path}).parts) == {asked}
        else:
            text = rf"as the {asked} .* says .*{re.escape(name)}. Exchange left and"
            with pytest.raises(ValueError, match=text):
                read_hemispheres(**{asked: path})


@pytest.mark.parametrize("packed", [False, True])
def test_gifti_whose_data_are_in_other_files_is_refused(tmp_path, packed):
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(9, dtype=np.float32).tobytes())
    path = write_gifti(tmp_path / "plain.gii", np.ones((1, 9)))
    text = re.sub(r"<Data>.*?</Data>", "<Data></Data>", path.read_text(), flags=re.S)
    text = text.replace("GZipBase64Binary", "ExternalFileBinary")
    text = text.replace('ExternalFileName=""', f'ExternalFileName="{secret}"')
    path = tmp_path / ("a.gii.gz" if packed else "a.gii")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    for read in (read_hemispheres, surface_label_names):
        with pytest.raises(
            ValueError, match=r"a\.gii.* must hold its data itself; .*t"
        ):
            read(path)


def damages(sound, header, step):
    """Contents of a file with one wrong bit or a missing byte, or cut."""
    for at in range(0, header, step):
        for bit in (1, 4, 32):
            yield sound[:at] + bytes([sound[at] ^ bit]) + sound[at + 1 :]
    for at in range(6, header, 14 * step - 1):
        yield sound[:at] + sound[at + 1 :]
        yield sound[:at]


@pytest.mark.filterwarnings("ignore")  # of nibabel and NumPy, before they fail
@pytest.mark.parametrize("kind", ["dscalar.nii", "dlabel.nii", "func.gii", "mgz"])
@pytest.mark.parametrize("step", [61, pytest.param(7, marks=pytest.mark.slow)])
def test_damaged_files_are_refused_by_name_or_read(tmp_path, kind, step):
    path = tmp_path / f"a.{kind}"
    if kind.endswith(".nii"):
        first = cifti2.ScalarAxis(["cup"])
        if kind == "dlabel.nii":
            first = cifti2.LabelAxis(["cup"], [{0: ("???", (0,) * 4)}])
        write_cifti(path, first, brain_models())
        reader = read_cifti
    else:
        if kind == "mgz":
            image = nibabel.MGHImage(np.ones((9, 1, 1), np.float32), np.eye(4))
            nibabel.save(image, path)
        else:
            write_gifti(path, np.ones((2, 9)), structure="CortexLeft")
        reader = read_hemispheres
    sound = path.read_bytes()
    n_refused = 0
    for content in damages(sound, min(len(sound), 2500), step):
        path.write_bytes(content)
        for read in (reader, surface_label_names):
            try:
                read(path)
            except ValueError as error:
                assert str(error).startswith(str(path)), error  # noqa: PT017
                n_refused += 1
    assert n_refused


def test_cifti_of_other_kinds_is_refused(tmp_path):
    scalar = cifti2.ScalarAxis(["cup"])
    path, _ = write_cifti(tmp_path / "a.dscalar.nii", scalar, brain_models(("voxels",)))
    with pytest.raises(ValueError, match="cortical surface; it holds CIFTI_STRUCTURE_"):
        read_cifti(path)
    path, _ = write_cifti(
        tmp_path / "b.dscalar.nii", cifti2.SeriesAxis(0, 1, 2), scalar
    )
    with pytest.raises(ValueError, match="its axes are SeriesAxis, ScalarAxis"):
        read_cifti(path)
    volume = tmp_path / "c.dscalar.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4)), np.eye(4)), volume)
    with pytest.raises(ValueError, match="CIFTI-2 file; it is a Nifti1Image"):
        read_cifti(volume)
    (tmp_path / "d.dscalar.nii").write_text("nothing")
    with pytest.raises(ValueError, match="must be a whole CIFTI-2 file; reading it"):
        read_cifti(tmp_path / "d.dscalar.nii")
    with pytest.raises(ValueError, match="must be a dense CIFTI-2 file"):
        read_cifti(tmp_path / "e.pscalar.nii")
    with pytest.raises(ValueError, match="of one hemisphere; it is CIFTI"):
        read_hemispheres(path)


def test_a_cut_cifti_file_is_refused(tmp_path):
    path, _ = write_cifti(
        tmp_path / "a.dscalar.nii", cifti2.ScalarAxis(["cup"] * 9), brain_models()
    )
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="must be a whole CIFTI-2 file"):
        read_cifti(path)


def test_gifti_that_fills_the_memory_is_refused(tmp_path):
    path = tmp_path / "lh.x.gii"
    data = base64.b64encode(zlib.compress(bytes(10**6))).decode()
    path.write_text(
        '<?xml version="1.0"?><GIFTI Version="1.0" NumberOfDataArrays="1"><DataArray '
        'Intent="NIFTI_INTENT_SHAPE" DataType="NIFTI_TYPE_FLOAT32" Dimensionality="1" '
        'ArrayIndexingOrder="RowMajorOrder" Dim0="200000000" Endian="LittleEndian" '
        'Encoding="GZipBase64Binary" ExternalFileName="" ExternalFileOffset="">'
        f"<Data>{data}</Data></DataArray></GIFTI>"
    )
    with pytest.raises(ValueError, match=r"must unpack to at most .* fill 800000000"):
        read_hemispheres(left=path)
