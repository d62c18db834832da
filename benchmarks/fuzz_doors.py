"""The doors of `fuzz.py`: every reader that a user's file reaches, and whole samples.

A door makes its files in a folder, names those that may be damaged, and reads them.
"""

import gzip
import hashlib
import io
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # samples of the tests

from tests import archives, bv_bytes, card_files, scans, synthetic
from tests.fmri.betas import test_fsl, test_glmsingle, test_spm
from tests.fmri.volumes import test_surface_files as surfaces

SHAPE, AFFINE = (4, 5, 3), np.diag([2.0, 2, 2, 1])
RNG = np.random.default_rng(0)
_TORCH = {"epoch": 3, "state_dict": None, "note": "text"}


@dataclass(frozen=True)
class Door:
    """How samples are made and read."""

    name: str
    make: Callable[[Path], list[Path]]  # the files that may be damaged
    read: Callable[[Path, Path], object]  # the folder, and the damaged file
    # whether a check sum covers the file, so that no other value may be read from it
    sealed: Callable[[Path], bool] = lambda _: False


def _one(name: str, write: Callable[[Path], object]) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        write(folder / name)
        return [folder / name]

    return make


def _file(reader: Callable[[Path], object]) -> Callable[[Path, Path], object]:
    return lambda _, path: reader(path)


# ---- scans -----------------------------------------------------------------------


def _nifti(path: Path, *, mask: bool = False) -> None:
    values = RNG.normal(size=(*SHAPE, 3)).astype(np.float32)
    if mask:
        values = (values[..., 0] > 0).astype(np.uint8)
    nibabel.Nifti1Image(values, AFFINE).to_filename(path)


def _labels(path: Path) -> None:
    values = RNG.integers(0, 4, SHAPE).astype(np.int16)
    nibabel.Nifti1Image(values, AFFINE).to_filename(path)


def _image_facts(path: Path) -> object:
    from versa.fmri.volumes.nifti import (
        header_repetition_time,
        header_space,
        read_image,
    )

    return read_image(path), header_repetition_time(path), header_space(path)


def _mask(path: Path) -> object:
    from versa.fmri.volumes.nifti import read_mask

    return read_mask(path)


def _atlas(path: Path) -> object:
    from versa.fmri.sectors.atlases import atlas_sector

    options = {"table": {1: "V1", 2: "V2", 3: "V3"}, "space": "MNI152NLin6Asym"}
    sector = atlas_sector(str(path), "V1", name="V1", **options)
    return sector.mask, sector.affine


def _gifti(path: Path) -> None:
    columns = RNG.normal(size=(2, 12))
    surfaces.write_gifti(path, columns)


def _label_gifti(path: Path) -> None:
    surfaces.write_gifti(path, [np.arange(12) % 3], {0: "???", 1: "V1", 2: "V2"})


def _annot(path: Path) -> None:
    colours = np.array([[25, 5, 25, 0, 0], [1, 2, 3, 0, 0], [4, 5, 6, 0, 0]])
    names = ["unknown", "V1", "V2"]
    nibabel.freesurfer.write_annot(path, np.arange(12) % 3, colours, names)


def _curv(path: Path) -> None:
    nibabel.freesurfer.write_morph_data(path, RNG.normal(size=12))


def _mgz(path: Path) -> None:
    values = RNG.normal(size=(12, 1, 1, 2)).astype(np.float32)
    nibabel.save(nibabel.MGHImage(values, np.eye(4)), path)


def _cifti(path: Path, *, labels: bool = False) -> None:
    first = nibabel.cifti2.ScalarAxis(["cup", "dog"])
    if labels:
        table = {0: ("???", (0, 0, 0, 0)), 1: ("V1", (1, 0, 0, 1))}
        first = nibabel.cifti2.LabelAxis(["map"], [table])
    models = surfaces.brain_models()
    values = np.ones((1, len(models))) if labels else None
    surfaces.write_cifti(path, first, models, values)


def _surface(path: Path) -> object:
    from versa.fmri.volumes.surface_files import (
        read_cifti,
        read_hemispheres,
        surface_label_names,
    )

    named = path.name.endswith((".label.gii", ".annot", ".dlabel.nii"))
    names = surface_label_names(path) if named else {}
    read = read_cifti if path.name.endswith(".nii") else read_hemispheres
    return read(path).parts, names


def _vtc(path: Path) -> None:
    data = RNG.normal(size=(3, 4, 5, 2))
    path.write_bytes(bv_bytes.vtc_bytes(data, start=(100, 100, 100), resolution=3))


def _vmp(path: Path) -> None:
    data = RNG.normal(size=(2, 3, 4, 5))
    content = bv_bytes.vmp_bytes(data, ("a", "b"), start=(99, 99, 99), resolution=3)
    path.write_bytes(content)


def _msk(path: Path) -> None:
    data = RNG.integers(0, 2, (3, 4, 5))
    path.write_bytes(bv_bytes.msk_bytes(data, start=(99, 99, 99), resolution=3))


def _vmr(path: Path) -> None:
    path.write_bytes(bv_bytes.vmr_bytes(RNG.integers(0, 200, (3, 4, 5))))


def _brainvoyager(path: Path) -> object:
    from versa.fmri.betas.brainvoyager import read_vmp, read_voi, read_volumes

    stated = {"space": "TAL", "convention": "radiological"}
    if path.suffix == ".voi":
        return read_voi(path)
    if path.suffix == ".vmp":
        betas = read_vmp(path, subject="01", **stated)
        return betas.values, betas.conditions
    image = read_volumes(path, **stated)
    return image.values, image.affine


_PRT = """
FileVersion:        3
ResolutionOfTime:   msec
Experiment:         test
ParametricWeights:  0
NrOfConditions:     2

cup
2
  0 8000
 12000 14000
Color: 1 2 3

dog
1
  8000 12000
Color: 1 2 3
"""
_SDM = """FileVersion:             1

NrOfPredictors:          2
NrOfDataPoints:          3
IncludesConstant:        1
FirstConfoundPredictor:  2

255 0 0   255 255 255
"cup" "Constant"
0.5 1.0
0.25 1.0
0.125 1.0
"""


def _protocol(path: Path) -> object:
    from versa.fmri.betas.protocols import read_protocol, read_sdm

    return (read_sdm if path.suffix == ".sdm" else read_protocol)(path)


# ---- tables and texts ------------------------------------------------------------


def _events(path: Path) -> None:
    rows = ["onset\tduration\ttrial_type\tstim_file"]
    rows += [f"{4 * k}.5\t2\t{'ab'[k % 2]}\timg{k}.png" for k in range(8)]
    path.write_text("\n".join(rows) + "\n")


def _read_events(path: Path) -> object:
    from versa.fmri.betas.events import read_events

    return read_events(path)


_TABLES = {
    "labels.tsv": "index\tname\n0\tbackground\n1\tV1\n2\tV2\n",
    "labels.csv": "index,name\n0,background\n1,V1\n2,V2\n",
    "labels.txt": "# FreeSurfer\n0 Unknown 0 0 0 0\n1 V1 1 2 3 0\n2 V2 4 5 6 0\n",
    "labels.lut": "1 0.1 0.2 0.3 V1 left\n2 0.4 0.5 0.6 V2 left\n",
    "labels.xml": (
        '<?xml version="1.0"?>\n<atlas version="1.0"><header><name>A</name>'
        "<type>Label</type></header><data>"
        '<label index="0" x="1" y="2" z="3">V1</label>'
        '<label index="1" x="1" y="2" z="3">V2</label></data></atlas>\n'
    ),
}


def _all_tables(folder: Path) -> list[Path]:
    for name, text in _TABLES.items():
        (folder / name).write_text(text)
    return [folder / name for name in _TABLES]


def _label_table(path: Path) -> object:
    from versa.fmri.sectors.labels import read_label_table

    return read_label_table(path)


def _open(path: Path) -> object:
    from versa.fmri.published.files import open_file

    return open_file(path)


def _text_files(folder: Path) -> list[Path]:
    texts = {"b.csv": "n,v0,v1\na,1.5,2\nb,3,4\n", "b.tsv": "1.5\t2\n3\t4\n"}
    for name, text in {**texts, "n.txt": "dog\ncat\n"}.items():
        (folder / name).write_text(text)
    return [folder / name for name in (*texts, "n.txt")]


def _recipe(path: Path) -> None:
    from versa.models.ipcl.recipes import config_text, read_config

    path.write_text(config_text(read_config("ipcl_ref01")))


def _read_recipe(path: Path) -> object:
    from versa.models.ipcl.recipes import config_text, read_config

    return config_text(read_config(path))


def _card(folder: Path) -> list[Path]:
    fields = {"options": {"out_dim": 4}, "url": "https://x.org/w.pth"}
    fields = {**fields, "sha256": "a" * 64, "epochs": 3, "top1": 0.5}
    return [card_files.write_card(folder, "net", **fields)]


def _read_card(path: Path) -> object:
    from versa.models.zoo.cards import read_card

    return read_card(path)


def _mapping(path: Path) -> None:
    archives.write_mapping(path, archives.TABLES)


def _read_mapping(path: Path) -> object:
    from versa.fmri.published.mapping import read_mapping

    return read_mapping(path)


# ---- arrays, structs and results -------------------------------------------------


def _arrays(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", RNG.normal(size=(5, 6)))
    np.savez(folder / "a.npz", x=RNG.normal(size=(5, 6)), names=np.array(["a", "b"]))
    np.savez_compressed(folder / "z.npz", x=np.zeros((50, 60)))
    return [folder / name for name in ("a.npy", "a.npz", "z.npz")]


def _matlab(write: Callable[..., None], path: Path) -> None:
    write(path, archives.matlab_content())


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["deep/x"] = RNG.normal(size=(5, 6))
        file.create_dataset("z", data=np.zeros((50, 6)), compression="gzip")
        file["names"] = ["dog", "cat"]


def _glmsingle(folder: Path) -> list[Path]:
    betas = RNG.normal(size=(4, 5, 3, 6)).astype(np.float32)
    test_glmsingle.write_python(folder, betas)
    test_glmsingle.write_python(folder, betas, "TYPED_FITHRF_GLMDENOISE_RR.hdf5")
    test_glmsingle.write_matlab(folder, {"modelmd": betas})
    files = sorted(folder.iterdir())
    _nifti(folder / "like.nii")
    return files


def _read_glmsingle(path: Path) -> object:
    from versa.fmri.betas.glmsingle import read_glmsingle

    options = {"runs": [1, 1, 1, 2, 2, 2], "like": path.with_name("like.nii")}
    betas = read_glmsingle(path, "abcabc", subject="01", space="TAL", **options)
    return betas.values


def _spm(write: Callable[..., None], folder: Path) -> list[Path]:
    names = ["Sn(1) cup*bf(1)", "Sn(1) dog*bf(1)", "Sn(1) constant"]
    test_spm.write_betas(folder, names)
    write(folder, names)
    return [folder / "SPM.mat", folder / "beta_0001.nii"]


def _read_spm(folder: Path, _: Path) -> object:
    from versa.fmri.betas.spm import read_spm

    betas = read_spm(folder, subject="01", space="individual")
    return betas.values, betas.conditions


def _feat(folder: Path) -> list[Path]:
    run = folder / "run1.feat"
    test_fsl.write_feat(run, 0)
    test_fsl.write_fsf(run, {"face": (3, 3, 1), "house": (3, 3, 1)}, 4)
    (run / "reg").mkdir()
    matrix = "\n".join("  ".join(map(str, row)) for row in np.eye(4))
    (run / "reg" / "example_func2standard.mat").write_text(matrix + "\n")
    names = ("design.con", "design.fsf", "reg/example_func2standard.mat")
    return [*(run / name for name in names), run / "stats" / "cope1.nii.gz"]


def _read_feat(folder: Path, _: Path) -> object:
    from versa.fmri.betas.fsl import read_feat

    found = []
    for maps in ("cope", "pe"):
        betas = read_feat(
            folder / "run1.feat", subject="01", space="MNI152NLin6Asym", maps=maps
        )
        found.append((betas.values, betas.conditions))
    return found


def _bids(folder: Path) -> list[Path]:
    from tests.fmri.betas import test_runs

    scans.write_bids(folder, n_runs=2)
    test_runs.fmriprep(folder, spaces=("T1w",))
    func = folder / "sub-01" / "func"
    stem = func / "sub-01_task-view_run-1"
    endings = ("_events.tsv", "_desc-confounds_timeseries.tsv")
    endings += ("_space-T1w_desc-preproc_bold.json",)
    names = [Path(f"{stem}{ending}") for ending in endings]
    return [folder / "task-view_bold.json", *names]


def _read_bids(folder: Path, _: Path) -> object:
    from versa.fmri.betas.runs import find_runs

    options = {"filters": {"space": "T1w"}}
    found = []
    for confounds in (["csf", "trans_x"], "simple"):
        runs = find_runs(folder, "01", confounds=confounds, **options)
        found += [(run.events, run.confounds, run.t_r) for run in runs]
    return found


def _result(path: Path) -> None:
    synthetic.synthetic_fit().save(path)


def _unsealed_result(path: Path) -> None:
    """As versions before the check sum wrote it."""
    from versa.result import _FORMAT

    data = synthetic.synthetic_fit().data.assign_attrs(format=_FORMAT)
    path.write_bytes(data.to_netcdf(engine="h5netcdf"))


def _read_result(path: Path) -> object:
    from versa.result import load_result

    result = load_result(path)
    return result.layers(), result.best(), result.provenance, result.stimuli


def _cache(folder: Path) -> list[Path]:
    from versa.cache import ArrayStore

    store = ArrayStore(folder)
    store.write("ab" * 32, x=np.arange(12.0).reshape(3, 4))
    return [store.path("ab" * 32)]


def _read_cache(folder: Path, _: Path) -> object:
    from versa.cache import ArrayStore

    entry = ArrayStore(folder).read("ab" * 32)
    # a damaged entry is computed again
    return {"x": np.arange(12.0).reshape(3, 4)} if entry is None else entry


# ---- dataset folders -------------------------------------------------------------


def _dataset(folder: Path, *, rdms: bool = False) -> list[Path]:
    from versa.fmri.dataset import BrainDataset, StimulusSet, write_dataset
    from versa.fmri.sectors.sector import Sector

    images = folder / "images"
    images.mkdir()
    for k in range(4):
        pixels = RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"i{k}.png")
    stimuli = StimulusSet.from_folder(images)
    mask = np.arange(60).reshape(3, 4, 5) < 30
    subjects = ["01", "02", "03", "04"]
    values = {"rdms": {"IT": RNG.random((4, 6))}}
    if not rdms:
        values = {
            "responses": {"IT": [RNG.normal(size=(4, 30)) for _ in subjects]},
            "sectors": {"IT": [Sector("IT", mask, AFFINE, "TAL")] * 4},
        }
    dataset = BrainDataset("good", stimuli, subjects, **values)
    write_dataset(dataset, folder / "data")
    shutil.rmtree(images)
    subject = folder / "data" / "sub-01"
    tops = ("dataset_description.json", "participants.tsv", "stimuli.tsv")
    files = [folder / "data" / name for name in (*tops, "stimuli/i1.png")]
    return files + [path for path in subject.rglob("*") if path.is_file()]


def _read_dataset(folder: Path, _: Path) -> object:
    from versa.fmri.dataset import check_dataset, read_dataset

    problems = check_dataset(folder / "data")
    dataset = read_dataset(folder / "data")
    assert not any(one.level == "error" for one in problems), "two doors disagree"
    return dataset.responses, dataset.rdms, dataset.subjects, dataset.stimuli.hashes


# ---- archives, images, packed files ----------------------------------------------


def _packages(folder: Path) -> list[Path]:
    content = {"a/x.txt": b"hello " * 50, "y.npy": RNG.normal(size=30).tobytes()}
    with zipfile.ZipFile(folder / "p.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    for name, mode in (("p.tar", "w"), ("p.tar.gz", "w:gz"), ("p.tgz", "w:gz")):
        with tarfile.open(folder / name, mode) as packed:
            for member, data in content.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
    return sorted(folder.iterdir())


def _unpacked(folder: Path, path: Path) -> object:
    from versa.fmri.published.unpacking import unpack

    outside = set(folder.iterdir())
    target = unpack(path)
    new = {p.name for p in set(folder.iterdir()) - outside}
    assert new <= {target.name, f".{path.name}.unpacked.json"}, f"wrote {new}"
    if not target.is_dir():  # a warning, with the name, has told why
        raise ValueError(f"{path} must be a whole package")
    return {
        str(p.relative_to(target)): p.read_bytes()
        for p in sorted(target.rglob("*"))
        if p.is_file()
    }


def _images(folder: Path) -> list[Path]:
    tree = folder / "tree" / "class"
    tree.mkdir(parents=True)
    pixels = RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    for ending in ("png", "jpg", "gif", "bmp", "webp", "tif"):
        Image.fromarray(pixels).save(tree / f"i.{ending}")
    return sorted(tree.iterdir())


def _read_images(path: Path) -> object:
    from versa.models.images import read_rgb
    from versa.models.readouts.images import labelled_images

    first = np.asarray(read_rgb(path, convert=True))
    images = labelled_images(([path], [0]))
    return first, np.asarray(images.read(0))


def _read_training_images(folder: Path, path: Path) -> object:
    from versa.models.ipcl.loader import BadImages, ChunkLoader
    from versa.models.ipcl.sources import ImageTree

    source = ImageTree(folder / "tree")
    log = folder / "bad.csv"
    bad = BadImages(len(source), limit=1.0, log=log)
    loader = ChunkLoader(source, workers=1, bad=bad)
    place = next(k for k in range(len(source)) if path.name in source.name(k))
    (chunk,) = loader.chunks([np.array([place])], seed=0, epoch=0)
    if chunk.n_replaced:
        raise ValueError(log.read_text("utf-8", "replace") + " must be whole.")
    return chunk.canvases.numpy().copy()


def _packed(folder: Path) -> list[Path]:
    from versa.models.ipcl.packing import pack
    from versa.models.ipcl.sources import ImageTree

    _images(folder)
    pack(ImageTree(folder / "tree"), folder / "images.pack", workers=1)
    shutil.rmtree(folder / "tree")
    return [folder / "images.pack"]


def _read_packed(path: Path) -> object:
    from versa.models.readouts.images import labelled_images

    images = labelled_images(path)
    pixels = [np.asarray(images.read(k)) for k in range(len(images))]
    names = [images.name(k) for k in range(len(images))]
    return pixels, names, images.labels, images.classes


# ---- networks --------------------------------------------------------------------


def _module() -> object:
    from torch import nn

    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5)
    return nn.Sequential(*layers)


def _checkpoints(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    state = card_files.trained(_module()).state_dict()
    torch.save({**_TORCH, "state_dict": state}, folder / "a.pth")
    old = folder / "old.pt"
    torch.save(state, old, _use_new_zipfile_serialization=False)
    save_file(dict(state), folder / "a.safetensors", metadata={"format": "pt"})
    return sorted(folder.iterdir())


def _read_checkpoint(path: Path) -> object:
    from versa.models import Preprocess
    from versa.models.zoo.loading import load_model
    from versa.models.zoo.reading import training_record

    preprocess = Preprocess(5, 5, (0.5,) * 3, (0.2,) * 3)
    module = load_model(_module(), weights=path, preprocess=preprocess).module
    record = training_record(path) if path.suffix == ".safetensors" else None
    return {k: v.numpy() for k, v in module.state_dict().items()}, record


def _states(folder: Path) -> list[Path]:
    from versa.models.ipcl.checkpoint import save_state

    state = {"network": dict(_module().state_dict()), "step": 3, "classes": ["a"]}
    return [save_state(folder, state, step=3)]


def _read_state(path: Path) -> object:
    from versa.models.ipcl.checkpoint import read_state

    state = read_state(path)
    weights = state.pop("network") if isinstance(state.get("network"), dict) else {}
    return {k: np.asarray(v) for k, v in weights.items()}, state


def _known(folder: Path) -> list[Path]:
    """Weights in versa's cache whose hash a card states."""
    import torch

    content = io.BytesIO()
    torch.save(_module().state_dict(), content)
    os.environ["VERSA_CACHE"] = str(folder)
    from versa.models.zoo.weights import weights_path

    path = weights_path(_remote(content.getvalue()))
    path.parent.mkdir(parents=True)
    path.write_bytes(content.getvalue())
    (folder / "sha256").write_text(hashlib.sha256(content.getvalue()).hexdigest())
    return [path]


def _remote(content: bytes = b"", digits: str = "") -> object:
    from versa.download import RemoteFile

    digits = digits or hashlib.sha256(content).hexdigest()
    return RemoteFile("net", ("http://127.0.0.1:9/net.pth",), digits)


def _read_known(folder: Path, _: Path) -> object:
    from versa.models.zoo.reading import open_checkpoint
    from versa.models.zoo.weights import fetch

    os.environ["VERSA_CACHE"] = str(folder)
    os.environ["VERSA_OFFLINE"] = "1"
    path = fetch(_remote(digits=(folder / "sha256").read_text()))
    state = open_checkpoint(path, source="net")
    return {key: value.numpy() for key, value in state.items()}


def _hashed(path: Path) -> bool:
    """Files of a dataset folder whose hashes it holds."""
    return path.name.endswith((".nii", ".png", "_rdm.tsv"))


def _trailer(path: Path) -> bool:
    return path.name.endswith((".gz", ".tgz", ".zip", ".npz", ".mgz"))


def _always(_: Path) -> bool:
    return True


def _gz(path: Path) -> None:
    _vmp(path.with_name("plain.vmp"))
    path.write_bytes(gzip.compress(path.with_name("plain.vmp").read_bytes()))


_MAT5, _MAT73 = archives.write_mat5, archives.write_mat73
_NII = partial(_nifti, mask=True)
DOORS = [
    Door("nifti", _one("a.nii", _nifti), _file(_image_facts)),
    Door("nifti gz", _one("a.nii.gz", _nifti), _file(_image_facts), _trailer),
    Door("mask", _one("m.nii.gz", _NII), _file(_mask), _trailer),
    Door("atlas", _one("atlas.nii.gz", _labels), _file(_atlas), _trailer),
    Door("gifti", _one("lh.func.gii", _gifti), _file(_surface)),
    Door("gifti labels", _one("lh.a.label.gii", _label_gifti), _file(_surface)),
    Door("annotation", _one("lh.aparc.annot", _annot), _file(_surface)),
    Door("curvature", _one("lh.curv", _curv), _file(_surface)),
    Door("mgz", _one("lh.beta.mgz", _mgz), _file(_surface), _trailer),
    Door("cifti", _one("a.dscalar.nii", _cifti), _file(_surface)),
    Door(
        "cifti labels",
        _one("a.dlabel.nii", partial(_cifti, labels=True)),
        _file(_surface),
    ),
    Door("vtc", _one("a.vtc", _vtc), _file(_brainvoyager)),
    Door("vmp", _one("a.vmp", _vmp), _file(_brainvoyager)),
    Door("msk", _one("a.msk", _msk), _file(_brainvoyager)),
    Door("vmr", _one("a.vmr", _vmr), _file(_brainvoyager)),
    Door(
        "voi",
        _one("a.voi", lambda path: path.write_text(archives.voi_text())),
        _file(_brainvoyager),
    ),
    Door("prt", _one("a.prt", lambda p: p.write_text(_PRT)), _file(_protocol)),
    Door("sdm", _one("a.sdm", lambda p: p.write_text(_SDM)), _file(_protocol)),
    Door("events", _one("a_events.tsv", _events), _file(_read_events)),
    Door("label tables", _all_tables, _file(_label_table)),
    Door("csv tsv txt", _text_files, _file(_open)),
    Door("recipe yaml", _one("r.yaml", _recipe), _file(_read_recipe)),
    Door("card toml", _card, _file(_read_card)),
    Door("mapping toml", _one("m.toml", _mapping), _file(_read_mapping)),
    Door("npy npz", _arrays, _file(_open), _trailer),
    Door("mat 5", _one("a.mat", partial(_matlab, _MAT5)), _file(_open)),
    Door("mat 7.3", _one("b.mat", partial(_matlab, _MAT73)), _file(_open)),
    Door("hdf5", _one("a.h5", _hdf5), _file(_open)),
    Door("glmsingle", _glmsingle, _file(_read_glmsingle)),
    Door("spm 5", partial(_spm, test_spm.write_spm_mat), _read_spm),
    Door("spm 7.3", partial(_spm, test_spm.write_spm_mat_73), _read_spm),
    Door("feat", _feat, _read_feat, _trailer),
    Door("bids", _bids, _read_bids),
    Door("result", _one("r.nc", _result), _file(_read_result), _always),
    Door("old result", _one("r.nc", _unsealed_result), _file(_read_result)),
    Door("cache entry", _cache, _read_cache, _always),
    Door("dataset", _dataset, _read_dataset, _hashed),
    Door("dataset of rdms", partial(_dataset, rdms=True), _read_dataset, _hashed),
    Door("packages", _packages, _unpacked, _trailer),
    Door("images", _images, _file(_read_images)),
    Door("training images", _images, _read_training_images),
    Door("packed images", _packed, _file(_read_packed)),
    Door("checkpoints", _checkpoints, _file(_read_checkpoint)),
    Door("training states", _states, _file(_read_state), _always),
    Door("known weights", _known, _read_known, _always),
]
