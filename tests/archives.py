"""Archives as authors might leave them, with values that tests know."""

import json

import h5py
import numpy as np
import scipy.io
from PIL import Image

from tests.bv_bytes import msk_bytes, vmp_bytes
from versa.fmri.published.mapping import ArchiveMapping
from versa.records import typed_record

SUBJECTS = ("S1", "S2", "S3")
SECTORS = ("EarlyV", "pOTC", "aOTC")
NAMES = ("dog", "ant", "cup", "eel", "bee", "fan")  # not in the order of the alphabet
COUNTS = {"EarlyV": (9, 8, 7), "pOTC": (5, 4, 5), "aOTC": (4, 10, 11)}


def known_betas(seed=0):
    """{sector: one (n_conditions, n_voxels) array per subject}, in order of NAMES."""
    rng = np.random.default_rng(seed)
    return {
        sector: [rng.normal(size=(len(NAMES), n)) for n in counts]
        for sector, counts in COUNTS.items()
    }


def write_images(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for level, name in enumerate(names):
        Image.new("L", (4, 4), 10 * level).save(folder / f"{name}.png")


def cells(items):
    """A row of MATLAB cells, for scipy."""
    row = np.empty((1, len(items)), dtype=object)
    row[0, :] = [None] * len(items)
    for place, item in enumerate(items):
        row[0, place] = item
    return row


def matlab_content(betas=None, names=NAMES):
    """As the laboratory's later code reads them: betas are (voxels, conditions)."""
    betas = known_betas() if betas is None else betas
    return {
        "SECTORS": {
            "Betas": {s: [x.T for x in xs] for s, xs in betas.items()},
            "Reliability": {
                s: [np.linspace(0, 1, x.shape[1])[:, None] for x in xs]
                for s, xs in betas.items()
            },
            "conditions": list(names),
        }
    }


def write_mat5(path, content):
    def plain(value):
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return cells([plain(item) for item in value]) if type(value) is list else value

    scipy.io.savemat(path, plain(content), do_compression=True)


def write_mat73(path, content):
    """MATLAB's own HDF5: a user block, classes, references, axes in reverse."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        for name, value in content.items():
            put(file, name, value, refs)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 ."
    with open(path, "r+b") as file:
        file.write(head.ljust(116) + bytes(8) + b"\x00\x02IM")


def put(group, name, value, refs):
    """Write one value as MATLAB does."""
    if isinstance(value, dict):
        made = group.create_group(name)
        made.attrs["MATLAB_class"] = np.bytes_("struct")
        for field, item in value.items():
            put(made, field, item, refs)
        return made
    if isinstance(value, list | tuple):
        if not value:
            return empty(group, name, "cell", (0, 0))
        made = group.create_dataset(name, (len(value), 1), dtype=h5py.ref_dtype)
        for row, item in enumerate(value):
            made[row, 0] = put(refs, f"r{len(refs)}", item, refs).ref
        kind = "cell"
    elif isinstance(value, str):
        if not value:
            return empty(group, name, "char", (0, 0))
        codes = np.frombuffer(value.encode("utf-16-le"), dtype=np.uint16)
        made = group.create_dataset(name, data=codes[:, None])
        made.attrs["MATLAB_int_decode"] = np.int32(2)
        kind = "char"
    else:
        value = np.asarray(value)
        kind = {"float64": "double", "float32": "single", "bool": "logical"}.get(
            str(value.dtype), str(value.dtype)
        )
        if not value.size:
            return empty(group, name, kind, value.shape)
        stored = value.astype(np.uint8) if kind == "logical" else value
        made = group.create_dataset(name, data=stored.T)
        if kind == "logical":
            made.attrs["MATLAB_int_decode"] = np.int32(1)
    made.attrs["MATLAB_class"] = np.bytes_(kind)
    return made


def empty(group, name, kind, shape):
    made = group.create_dataset(name, data=np.array(shape, dtype=np.uint64))
    made.attrs["MATLAB_class"] = np.bytes_(kind)
    made.attrs["MATLAB_empty"] = np.uint8(1)
    return made


def matlab_archive(folder, version=5, **change):
    """One .mat file with structs of all subjects, and the images."""
    write_images(folder / "stimuli")
    write = {5: write_mat5, 73: write_mat73}[version]
    write(folder / "SECTORS.mat", matlab_content(**change))
    return folder


def table_archive(folder, betas=None, names=NAMES):
    """A CSV per subject and sector, with the conditions as its first column."""
    write_images(folder / "stimuli")
    for sector, per_subject in (known_betas() if betas is None else betas).items():
        for subject, values in zip(SUBJECTS, per_subject, strict=True):
            path = folder / "betas" / subject / f"{sector}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = [f"v{i}" for i in range(values.shape[1])]
            lines = [",".join(["condition", *columns])]
            lines += [
                ",".join([name, *map(repr, row)])
                for name, row in zip(names, values.tolist(), strict=True)
            ]
            path.write_text("\n".join(lines) + "\n")
    return folder


def array_archive(folder, betas=None):
    """An NPY per subject and sector as (voxels, conditions), and a list of names."""
    write_images(folder / "stimuli")
    for sector, per_subject in (known_betas() if betas is None else betas).items():
        for subject, values in zip(SUBJECTS, per_subject, strict=True):
            np.save(folder / f"{subject}_{sector}.npy", values.T)
    (folder / "conditions.txt").write_text("\n".join(NAMES) + "\n")
    return folder


BV_START = (150, 120, 90)  # X, Y, Z of BrainVoyager, of the first voxel
BV_SHAPE = (8, 6, 10)  # along X, Y, Z; voxels of 3 mm


def bv_maps(subject):
    """Maps of one subject along (map, Z, Y, X), as the files store them."""
    rng = np.random.default_rng(SUBJECTS.index(subject))
    return rng.normal(size=(len(NAMES), *BV_SHAPE[::-1])).astype(np.float32)


def bv_places(sector):
    """Stored indices (Z, Y, X) of a sector's voxels, and their TAL coordinates."""
    rng = np.random.default_rng(len(sector))
    start = {"EarlyV": 0, "pOTC": 80, "aOTC": 160}[sector]
    flat = start + rng.permutation(80)[:7]
    stored = np.array(np.unravel_index(flat, BV_SHAPE[::-1])).T
    z, y, x = (BV_START[::-1] + 3 * stored).T
    return stored, np.column_stack([128 - z, 128 - x, 128 - y])


def voi_text():
    lines = ["", "FileVersion: 4", "", "ReferenceSpace: TAL", ""]
    lines += [f"OriginalVMRResolution{axis}: 1" for axis in "XYZ"]
    lines += [f"OriginalVMROffset{axis}: 0" for axis in "XYZ"]
    lines += ["OriginalVMRFramingCubeDim: 256", "", "LeftRightConvention: 1", ""]
    lines += ["SubjectVOINamingConvention: <VOI>_<SUBJ>", "", ""]
    lines += [f"NrOfVOIs: {len(SECTORS)}", ""]
    for sector in SECTORS:
        _, places = bv_places(sector)
        lines += [f"NameOfVOI: {sector}", "ColorOfVOI: 255 0 0", ""]
        lines += [f"NrOfVoxels: {len(places)}"]
        lines += [" ".join(map(str, place)) for place in places] + [""]
    return "\n".join([*lines, "", "NrOfVOIVTCs: 0", ""])


def brainvoyager_archive(folder, masks="voi", names=NAMES):
    """A VMP of beta maps per subject, with one VOI file or an MSK per sector."""
    write_images(folder / "stimuli")
    for subject in SUBJECTS:
        path = folder / subject / "betas.vmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        maps = bv_maps(subject)[: len(names)]
        path.write_bytes(vmp_bytes(maps, names, start=BV_START, resolution=3))
        for sector in SECTORS if masks == "msk" else ():
            data = np.zeros(BV_SHAPE[::-1])
            data[tuple(bv_places(sector)[0].T)] = 1
            content = msk_bytes(data, start=BV_START, resolution=3)
            (folder / subject / f"{sector}.msk").write_bytes(content)
    if masks == "voi":
        (folder / "rois.voi").write_text(voi_text())
    return folder


# Mapping files of these archives, as {section__entry: value}

SAME = {sector: sector for sector in SECTORS}
COMMON = {
    "confirmed": True,
    "dataset__name": "known",
    "sectors": SAME,
    "conditions__number": 6,
    "images__file": "stimuli/{condition}.png",
}
MATLAB = COMMON | {
    "subjects__labels": ["01", "02", "03"],
    "responses__file": "SECTORS.mat",
    "responses__key": "SECTORS.Betas.{sector}[{index}]",
    "responses__axes": "voxels, conditions",
    "conditions__file": "SECTORS.mat",
    "conditions__key": "SECTORS.conditions",
}
TABLES = COMMON | {
    "subjects__labels": SUBJECTS,
    "responses__file": "betas/{subject}/{sector}.csv",
    "responses__axes": "conditions, voxels",
    "responses__header": True,
    "responses__label_column": "condition",
    "conditions__file": "betas/{subject}/{sector}.csv",
    "conditions__column": "condition",
}
ARRAYS = COMMON | {
    "subjects__labels": SUBJECTS,
    "responses__file": "{subject}_{sector}.npy",
    "responses__axes": "voxels, conditions",
    "conditions__file": "conditions.txt",
}
VOLUMES = COMMON | {
    "subjects__labels": SUBJECTS,
    "dataset__space": "TAL",
    "responses__file": "{subject}/betas.vmp",
    "responses__axes": "maps",
    "responses__convention": "radiological",
    "masks__file": "rois.voi",
    "conditions__from_maps": True,
}


def nested(entries):
    table = {}
    for name, value in entries.items():
        section, _, entry = name.rpartition("__")
        (table.setdefault(section, {}) if section else table)[entry] = value
    return table


def mapped(entries, **changes):
    """The mapping that a file with these entries gives."""
    return typed_record(ArchiveMapping, nested(entries | changes))


def write_mapping(path, entries, **changes):
    """Write the entries as TOML, whose texts, lists and truth values are JSON's."""
    lines = []
    for name, value in nested(entries | changes).items():
        if not isinstance(value, dict):
            lines.insert(0, f"{name} = {json.dumps(value)}")
            continue
        lines.append(f"[{name}]")
        lines += [f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path
