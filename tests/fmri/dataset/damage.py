"""Ways to damage a dataset folder; most make a function of the folder."""

import json
import shutil

import nibabel
import numpy as np

from versa.cache import file_hash

NAMES = ["ant", "bee", "cup", "dog", "elk"]
SUBJECTS = ["01", "02", "03", "P4"]
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -99], [0, 0, 3, -41], [0, 0, 0, 1]])
SHAPE = (6, 5, 6)
GRID = np.arange(np.prod(SHAPE)).reshape(SHAPE)  # EarlyV is < 60, pOTC < 120
ABOUT = "dataset_description.json"
FUNC = "sub-02/func"
BETAS = f"{FUNC}/sub-02_desc-betas_stat.nii"
SIDECAR = f"{FUNC}/sub-02_desc-betas_stat.json"
MASK = f"{FUNC}/sub-02_desc-EarlyV_mask.nii"
RDM = "sub-02/sub-02_desc-IT_rdm.tsv"


def both(*damages):
    def damage(folder):
        for one in damages:
            one(folder)

    return damage


# ---- any file ---------------------------------------------------------------------


def remove(file):
    def damage(folder):
        path = folder / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def write(file, text):
    def damage(folder):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)

    return damage


def copy(file, other):
    def damage(folder):
        tool = shutil.copytree if (folder / file).is_dir() else shutil.copy
        tool(folder / file, folder / other)

    return damage


def cut(file, n_bytes=8):
    def damage(folder):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-n_bytes])

    return damage


# ---- texts ------------------------------------------------------------------------


def replace(file, old, new):
    def damage(folder):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return damage


def lines(file, function):
    """Change the lines of a table, a list whose first item is the header."""

    def damage(folder):
        found = (folder / file).read_text().rstrip("\n").split("\n")
        (folder / file).write_text("\n".join(function(found)) + "\n")

    return damage


def change(file, **fields):
    """Change fields of a JSON file; None removes one."""

    def damage(folder):
        content = {**json.loads((folder / file).read_text()), **fields}
        kept = {name: value for name, value in content.items() if value is not None}
        (folder / file).write_text(json.dumps(kept))

    return damage


def own(**fields):
    """Change what the description says to versa."""

    def damage(folder):
        old = json.loads((folder / ABOUT).read_text())["versa"] | fields
        kept = {name: value for name, value in old.items() if value is not None}
        change(ABOUT, versa=kept)(folder)

    return damage


def every_sidecar(**fields):
    return both(
        *(change(f"sub-{s}/func/sub-{s}_desc-betas_stat.json", **fields)
          for s in SUBJECTS)
    )  # fmt: skip


def keep_subjects(n):
    def damage(folder):
        for subject in SUBJECTS[n:]:
            shutil.rmtree(folder / f"sub-{subject}")
        lines("participants.tsv", lambda found: found[: n + 1])(folder)

    return damage


# ---- images of voxels -------------------------------------------------------------


def image(file, values=lambda x: x, affine=lambda a: a):
    def damage(folder):
        loaded = nibabel.load(folder / file)
        data = values(np.asarray(loaded.dataobj).copy())
        nibabel.Nifti1Image(data, affine(loaded.affine)).to_filename(folder / file)

    return damage


def responses(function):
    """Change the responses of subject 02 in place, (voxels of the grid, images)."""

    def changed(values):
        flat = values.reshape(-1, values.shape[3])
        function(flat)
        return flat.reshape(values.shape)

    return image(BETAS, changed)


def subject_affine(function):
    """Move all images of subject 02."""

    def damage(folder):
        for path in (folder / FUNC).glob("*.nii"):
            image(path, affine=function)(folder)
        change(SIDECAR, Affine=None)(folder)

    return damage


def header(function, files="*betas_stat.nii"):
    """Change headers of subject 02, where nibabel would put them right."""

    def damage(folder):
        for path in (folder / FUNC).glob(files):
            loaded = nibabel.load(path)
            changed = loaded.header.copy()
            function(changed)
            data = np.asarray(loaded.dataobj).copy()
            nibabel.Nifti1Image(data, None, changed).to_filename(path)

    return damage


def spoil_affine(value):
    def function(changed):
        changed["srow_x"][3] = value
        changed["sform_code"] = 2

    return header(function)


def flat_affine(changed):
    changed["srow_z"] = changed["srow_y"]
    changed["qform_code"], changed["sform_code"] = 0, 2


def packed_and_cut(folder):
    nibabel.load(folder / BETAS).to_filename(folder / f"{BETAS}.gz")
    (folder / BETAS).unlink()
    cut(f"{BETAS}.gz", 300)(folder)


def rewritten(file):
    """The same values in a file of other bytes."""

    def damage(folder):
        loaded = nibabel.load(folder / file)
        data = np.asarray(loaded.dataobj).copy()
        loaded.header["descrip"] = b"another"
        again = nibabel.Nifti1Image(data, loaded.affine, loaded.header)
        again.to_filename(folder / file)

    return damage


# ---- pictures ---------------------------------------------------------------------


def picture(name, make):
    """Change a picture by a function of its path, and its hash in the table."""

    def damage(folder):
        path = folder / "stimuli" / f"{name}.png"
        old = file_hash(path)
        make(path)
        replace("stimuli.tsv", old, file_hash(path))(folder)

    return damage


# ---- accidents --------------------------------------------------------------------


def random_damage(folder, rng):
    """One small accident to one file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    content = path.read_bytes()
    kind = rng.choice(["gone", "empty", "cut", "byte", "lines", "word", "name", "swap"])
    if kind == "gone":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif kind == "byte":
        head = min(len(content), 400)  # where NIfTI keeps its header
        place = rng.randrange(head + 1)
        changed = bytes([rng.randrange(256)])
        path.write_bytes(content[:place] + changed + content[place + 1 :])
    elif kind == "lines":
        parts = content.split(b"\n")
        rng.shuffle(parts)
        path.write_bytes(b"\n".join(parts))
    elif kind == "word":
        old = rng.choice([b"1", b"0", b"sub", b"a", b"\t", b'"', b"true", b"TAL", b"["])
        new = rng.choice([b"", b"null", b"-1", b"[]", b"{}", b"e", b"9" * 30, b"NaN"])
        path.write_bytes(content.replace(old, new, rng.choice([1, -1])))
    elif kind == "name":
        path.rename(path.with_name(rng.choice(["x", "_", "sub-02"]) + path.name[1:]))
    else:
        path.write_bytes(rng.choice(files).read_bytes())
