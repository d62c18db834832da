"""Checks of dataset folders: what they say, and that they agree with the reader."""

import itertools
import json
import random
import re
import shutil

import nibabel
import numpy as np
import pytest
from PIL import Image

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.dataset.folder import read_dataset, write_dataset
from versa.fmri.dataset.problems import Problem
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.sectors.sector import Sector

NAMES = ["ant", "bee", "cup", "dog", "elk"]
SUBJECTS = ["01", "02", "03", "P4"]
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -99], [0, 0, 3, -41], [0, 0, 0, 1]])
SHAPE = (6, 5, 6)
ABOUT = "dataset_description.json"
FUNC = "sub-02/func"
BETAS = f"{FUNC}/sub-02_desc-betas_stat.nii"
SIDECAR = f"{FUNC}/sub-02_desc-betas_stat.json"
MASK = f"{FUNC}/sub-02_desc-EarlyV_mask.nii"
RDM = "sub-02/sub-02_desc-IT_rdm.tsv"


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder of responses and one of RDMs, both without any fault."""
    home = tmp_path_factory.mktemp("checking")
    rng = np.random.default_rng(0)
    (home / "images").mkdir()
    for name in NAMES:
        pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / "images" / f"{name}.png")
    stimuli = StimulusSet.from_folder(home / "images")
    grid = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    masks = {"EarlyV": grid < 60, "pOTC": (grid >= 60) & (grid < 120)}
    dataset = BrainDataset(
        "good",
        stimuli,
        SUBJECTS,
        responses={s: [rng.normal(size=(5, 60)) for _ in SUBJECTS] for s in masks},
        sectors={s: [Sector(s, m, AFFINE, "TAL")] * 4 for s, m in masks.items()},
        unit="% signal change",
        licence="CC0",
    )
    write_dataset(dataset, home / "good")
    rdms = {"IT": rng.random((4, 10)), "EVC": rng.random((4, 10))}
    of_rdms = BrainDataset("rdms", stimuli, SUBJECTS, rdms=rdms, licence="CC0")
    write_dataset(of_rdms, home / "rdms")
    return home


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made / "good", tmp_path / "good")


@pytest.fixture
def rdm_folder(made, tmp_path):
    return shutil.copytree(made / "rdms", tmp_path / "rdms")


def is_read(folder):
    try:
        read_dataset(folder)
    except (ValueError, OSError):
        return False
    return True


def errors_of(findings):
    return [one for one in findings if one.level == "error"]


# ---- ways to damage a folder ----------------------------------------------------


def remove(file):
    return lambda folder: (folder / file).unlink()


def write(file, text):
    def damage(folder):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)

    return damage


def replace(file, old, new):
    def damage(folder):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return damage


def change(file, **fields):
    def damage(folder):
        content = {**json.loads((folder / file).read_text()), **fields}
        kept = {name: value for name, value in content.items() if value is not None}
        (folder / file).write_text(json.dumps(kept))

    return damage


def image(file, values=lambda x: x, affine=lambda a: a):
    def damage(folder):
        loaded = nibabel.load(folder / file)
        data = values(np.asarray(loaded.dataobj).copy())
        nibabel.Nifti1Image(data, affine(loaded.affine)).to_filename(folder / file)

    return damage


def cut(file, n_bytes=8):
    def damage(folder):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-n_bytes])

    return damage


def copy(file, other):
    return lambda folder: shutil.copy(folder / file, folder / other)


def both(*damages):
    def damage(folder):
        for one in damages:
            one(folder)

    return damage


def pack_and_cut(folder):
    loaded = nibabel.load(folder / BETAS)
    loaded.to_filename(folder / f"{BETAS}.gz")
    (folder / BETAS).unlink()
    cut(f"{BETAS}.gz", 300)(folder)


def spoil_affine(value):
    def damage(folder):
        loaded = nibabel.load(folder / BETAS)
        header = loaded.header.copy()
        header["srow_x"][3] = value
        header["sform_code"] = 2
        data = np.asarray(loaded.dataobj).copy()
        nibabel.Nifti1Image(data, None, header).to_filename(folder / BETAS)

    return damage


def flatten_affine(folder):
    flat = AFFINE.copy()
    flat[2] = flat[1]
    for path in (folder / FUNC).glob("*.nii"):
        loaded = nibabel.load(path)
        header = nibabel.Nifti1Header()
        header.set_data_dtype(loaded.get_data_dtype())
        header.set_sform(flat, code=2)
        data = np.asarray(loaded.dataobj).copy()
        nibabel.Nifti1Image(data, None, header).to_filename(path)
    change(SIDECAR, Affine=None)(folder)


def drop_sectors(folder):
    own = json.loads((folder / ABOUT).read_text())["versa"]
    del own["Sectors"]
    change(ABOUT, versa=own)(folder)


def own(**fields):
    def damage(folder):
        old = json.loads((folder / ABOUT).read_text())["versa"]
        change(ABOUT, versa={**old, **fields})(folder)

    return damage


SWAPPED = ["ant", "cup", "bee", "dog", "elk"]
OTHER = f"{FUNC}/sub-02_space-TAL_desc-EarlyV_mask.nii"
V4 = f"{FUNC}/sub-02_desc-V4_mask.nii"

ERRORS = {
    "no description": (remove(ABOUT), ABOUT, "must exist; it is missing"),
    "no JSON": (write(ABOUT, "{'Name'"), ABOUT, "must be JSON; "),
    "no name": (change(ABOUT, Name=None), ABOUT, "must have a text Name"),
    "empty name": (change(ABOUT, Name=""), ABOUT, "must have a text Name; it is empt"),
    "later format": (own(Format=7), ABOUT, "must have versa format 1; got 7"),
    "sector twice": (
        own(Sectors=["pOTC"] * 2),
        ABOUT,
        "Sectors must be unique",
    ),
    "place unclear": (own(HasCoordinates=0), ABOUT, "must have true or false as HasC"),
    "space unclear": (
        own(HasCoordinates=False, Space="Tal"),
        ABOUT,
        "space must be TAL, MNI152",
    ),
    "no images": (remove("stimuli.tsv"), "stimuli.tsv", "must exist; it is missing"),
    "image gone": (remove("stimuli/bee.png"), "stimuli/bee.png", "must exist; it is t"),
    "image changed": (
        copy("stimuli/cup.png", "stimuli/bee.png"),
        "stimuli/bee.png",
        "must be the file that stimuli.tsv describes; its SHA-256 is ",
    ),
    "hash cut": (replace("stimuli.tsv", "a", ""), "stimuli.tsv", ""),
    "outside": (
        replace("stimuli.tsv", "bee.png", "../../bee.png"),
        "stimuli.tsv",
        "must name files inside stimuli; got '../../bee.png'",
    ),
    "id twice": (
        replace("stimuli.tsv", "bee\t", "cup\t"),
        "stimuli.tsv",
        "stim_id must be",
    ),
    "no text": (
        lambda folder: (folder / "stimuli.tsv").write_bytes(b"\xff\xfe"),
        "stimuli.tsv",
        "must be a text in UTF-8",
    ),
    "no subjects": (remove("participants.tsv"), "participants.tsv", "must exist"),
    "short line": (
        write("participants.tsv", "participant_id\tage\nsub-01\n"),
        "participants.tsv",
        "must have 2 cells in every line",
    ),
    "subject without folder": (
        lambda folder: shutil.rmtree(folder / "sub-03"),
        "participants.tsv",
        "must list the subject folders; there is no folder for sub-03",
    ),
    "folder without subject": (
        lambda folder: shutil.copytree(folder / "sub-03", folder / "sub-05"),
        "sub-05",
        "must have a line in participants.tsv",
    ),
    "no func": (lambda folder: shutil.rmtree(folder / FUNC), FUNC, "must exist, with"),
    "no responses": (remove(BETAS), FUNC, r"must have exactly one .* got none"),
    "two responses": (copy(BETAS, f"{BETAS}.gz"), FUNC, "must have exactly one"),
    "cut": (cut(BETAS), BETAS, "must be a whole NIfTI image"),
    "cut gz": (pack_and_cut, f"{BETAS}.gz", "must be a whole NIfTI image"),
    "no image": (write(BETAS, "hello"), BETAS, "must be a whole NIfTI image"),
    "no sidecar": (remove(SIDECAR), SIDECAR, "must exist; it is missing"),
    "list": (write(SIDECAR, "[]"), SIDECAR, "must hold a JSON object; got list"),
    "swapped": (
        change(SIDECAR, Conditions=SWAPPED),
        SIDECAR,
        "Conditions of sub-02/.*json: the images must be in the order .* 'bee', got 'c",
    ),
    "no conditions": (change(SIDECAR, Conditions=None), SIDECAR, "must list the stim_"),
    "fewer volumes": (
        image(BETAS, lambda x: x[..., :4]),
        BETAS,
        r"must be \(x, y, z, n_images\) with 5 images; got \(6, 5, 6, 4\)",
    ),
    "complex": (image(BETAS, lambda x: x.astype(complex)), BETAS, "must hold real num"),
    "NaN affine": (spoil_affine(np.nan), BETAS, "affine of finite numbers"),
    "Inf affine": (spoil_affine(np.inf), BETAS, "affine of finite numbers"),
    "flat affine": (flatten_affine, BETAS, ""),
    "noted affine": (
        change(SIDECAR, Affine=np.eye(4).tolist()),
        SIDECAR,
        "must have the image's own affine as Affine",
    ),
    "other unit": (
        change(SIDECAR, Units="z"),
        BETAS,
        "must have the unit of sub-01_desc-betas_stat.nii, '% signal change'; got 'z'",
    ),
    "other space": (change(SIDECAR, Space="MNI152"), BETAS, "must have the space of"),
    "no space": (change(SIDECAR, Space="Tal"), SIDECAR, "space must be TAL"),
    "no mask": (remove(MASK), MASK, "must exist; every subject must have every sector"),
    "mask twice": (copy(MASK, OTHER), FUNC, "must have one file per sector; EarlyV"),
    "empty mask": (image(MASK, lambda x: x * 0), MASK, "mask with at least one voxel"),
    "labels": (
        image(MASK, lambda x: x + (np.arange(6) % 2).astype(np.uint8)),
        MASK,
        "must be a mask of 0 and one other value",
    ),
    "mask elsewhere": (
        image(MASK, affine=lambda a: a + np.eye(4, k=3)),
        MASK,
        "must have the affine of sub-02_desc-betas_stat.nii",
    ),
    "small mask": (image(MASK, lambda x: x[:5]), MASK, "must have the shape of"),
    "sector of one": (
        both(drop_sectors, copy(MASK, V4)),
        "sub-01/func/sub-01_desc-V4_mask.nii",
        "must exist; every subject",
    ),
    "responses and RDMs": (
        write("sub-01/sub-01_desc-IT_rdm.tsv", ""),
        "sub-01",
        "must hold either func or",
    ),
}

RDM_ERRORS = {
    "gone": (remove(RDM), RDM, "must exist; every subject must have every sector"),
    "short": (cut(RDM, 30), RDM, ""),
    "moved": (replace(RDM, "ant\tcup", "ant\tdog"), RDM, "must have the pairs of stim"),
    "no number": (replace(RDM, "0.", "x"), RDM, "must hold numbers"),
    "NaN": (replace(RDM, "\t0.", "\tnan\t0."), RDM, "must have 3 cells"),
    "space": (own(Space="somewhere"), ABOUT, "space must be TAL"),
    "with func": (write("sub-01/func/x", ""), "sub-01", "must hold either func or"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_refused_has_an_error_at_its_file(folder, case):
    damage, file, text = ERRORS[case]
    damage(folder)
    assert not is_read(folder)
    errors = errors_of(check_dataset(folder))
    assert file in [one.file for one in errors], errors

    assert any(one.file == file and re.search(text, one.text) for one in errors), errors
    assert all(str(folder) not in one.text for one in errors)


@pytest.mark.parametrize("case", RDM_ERRORS)
def test_what_is_refused_of_rdms_has_an_error(rdm_folder, case):
    damage, file, text = RDM_ERRORS[case]
    damage(rdm_folder)
    assert not is_read(rdm_folder)
    errors = errors_of(check_dataset(rdm_folder))

    assert any(one.file == file and re.search(text, one.text) for one in errors), errors


def test_good_folders_have_no_findings(folder, rdm_folder):
    assert check_dataset(folder) == []
    assert check_dataset(rdm_folder) == []


def test_all_problems_are_found_at_once(folder):
    kept = ["no name", "image gone", "swapped", "no mask", "folder without subject"]
    for case in kept:
        ERRORS[case][0](folder)
    cut("sub-P4/func/sub-P4_desc-pOTC_mask.nii")(folder)
    files = [one.file for one in errors_of(check_dataset(folder))]
    assert sorted(files) == sorted(
        [
            *(ERRORS[case][1] for case in kept),
            "sub-P4/func/sub-P4_desc-pOTC_mask.nii",
        ]
    )


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
        lines = content.split(b"\n")
        rng.shuffle(lines)
        path.write_bytes(b"\n".join(lines))
    elif kind == "word":
        old = rng.choice([b"1", b"0", b"sub", b"a", b"\t", b'"', b"true", b"TAL", b"["])
        new = rng.choice([b"", b"null", b"-1", b"[]", b"{}", b"e", b"9" * 30, b"NaN"])
        path.write_bytes(content.replace(old, new, rng.choice([1, -1])))
    elif kind == "name":
        path.rename(path.with_name(rng.choice(["x", "_", "sub-02"]) + path.name[1:]))
    else:
        other = rng.choice(files)
        path.write_bytes(other.read_bytes())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # nibabel, of absurd headers
@pytest.mark.parametrize("kind", ["good", "rdms"])
def test_any_accident_is_judged_like_the_reader_does(made, tmp_path, kind):
    refused = 0
    for seed in range(100):
        rng = random.Random(seed)
        folder = shutil.copytree(made / kind, tmp_path / str(seed))
        for _ in range(rng.choice([1, 1, 2])):
            random_damage(folder, rng)
        errors = errors_of(check_dataset(folder))
        read = is_read(folder)
        refused += not read
        assert read or errors, seed
        # the reader does not look into images, everything else it does
        blamed = [one for one in errors if "Pillow" not in one.text]
        assert not (read and blamed), (seed, blamed)
        shutil.rmtree(folder)
    assert 30 < refused < 100


# ---- warnings -------------------------------------------------------------------


def set_values(folder, function, subject="02"):
    """Change the responses of one subject, (voxels of the grid, images)."""

    def change(values):
        flat = values.reshape(-1, values.shape[3])
        function(flat)
        return flat.reshape(values.shape)

    image(f"sub-{subject}/func/sub-{subject}_desc-betas_stat.nii", change)(folder)


def spoil_voxels(flat):
    flat[3, 1] = np.nan
    flat[4] = 7.0
    flat[5] = 0.0


def standardise(flat):
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.where(flat.std(axis=1) > 0, flat.std(axis=1), 1)[:, None]


def repeat_volume(flat):
    flat[:, 3] = flat[:, 1]


def flip_subject(folder):
    for path in (folder / FUNC).glob("*.nii"):
        loaded = nibabel.load(path)
        data = np.asarray(loaded.dataobj).copy()
        affine = loaded.affine @ np.diag([-1, 1, 1, 1])
        nibabel.Nifti1Image(data, affine).to_filename(path)
    change(SIDECAR, Affine=None)(folder)


def scale_subject(folder):
    for path in (folder / FUNC).glob("*.nii"):
        loaded = nibabel.load(path)
        data = np.asarray(loaded.dataobj).copy()
        affine = loaded.affine @ np.diag([2, 1, 1, 1])
        nibabel.Nifti1Image(data, affine).to_filename(path)
    change(SIDECAR, Affine=None)(folder)


def shift_subject(folder):
    for path in (folder / FUNC).glob("*.nii"):
        loaded = nibabel.load(path)
        data = np.asarray(loaded.dataobj).copy()
        affine = loaded.affine + np.eye(4, k=3)
        nibabel.Nifti1Image(data, affine).to_filename(path)
    change(SIDECAR, Affine=None)(folder)


def keep_subjects(n):
    def damage(folder):
        for subject in SUBJECTS[n:]:
            shutil.rmtree(folder / f"sub-{subject}")
        lines = "\n".join(["participant_id", *(f"sub-{s}" for s in SUBJECTS[:n])])
        (folder / "participants.tsv").write_text(lines)

    return damage


def new_image(name, picture):
    """Put a picture in the place of another, with its hash in the table."""

    def damage(folder):
        from versa.cache import file_hash

        path = folder / "stimuli" / f"{name}.png"
        old = file_hash(path)
        picture.save(path)
        replace("stimuli.tsv", old, file_hash(path))(folder)

    return damage


def broken_image(folder):
    from versa.cache import file_hash

    path = folder / "stimuli" / "bee.png"
    old = file_hash(path)
    path.write_bytes(path.read_bytes()[:-40])
    replace("stimuli.tsv", old, file_hash(path))(folder)


def same_image(folder):
    from versa.cache import file_hash

    old = file_hash(folder / "stimuli" / "bee.png")
    copy("stimuli/cup.png", "stimuli/bee.png")(folder)
    replace("stimuli.tsv", old, file_hash(folder / "stimuli" / "bee.png"))(folder)


def drop_space(folder):
    for subject in SUBJECTS:
        change(f"sub-{subject}/func/sub-{subject}_desc-betas_stat.json", Space=None)(
            folder
        )


COPY = "sub-03/func/sub-03_desc-betas_stat.nii"
POTC = f"{FUNC}/sub-02_desc-pOTC_mask.nii"
WARNINGS = {
    "licence": (change(ABOUT, License=None), ABOUT, "has no License"),
    "two subjects": (keep_subjects(2), "participants.tsv", "which give 1 half-split:"),
    "three": (keep_subjects(3), "participants.tsv", "3 subjects, which give 3 half-"),
    "one subject": (keep_subjects(1), "participants.tsv", "who cannot be split"),
    "unit": (
        both(
            *(
                change(f"sub-{s}/func/sub-{s}_desc-betas_stat.json", Units=None)
                for s in SUBJECTS
            )
        ),
        SIDECAR,
        "has no Units, so they are taken to be a.u.",
    ),
    "space": (drop_space, SIDECAR, "says nothing about the space of the voxels"),
    "bad voxels": (
        lambda folder: set_values(folder, spoil_voxels),
        BETAS,
        "has 1 voxels with NaN or infinity and 2 constant ones among the 60 of EarlyV",
    ),
    "no voxel": (
        lambda folder: set_values(folder, lambda flat: flat.fill(np.nan)),
        BETAS,
        "has 60 voxels with NaN or infinity and 0 constant ones among the 60 of pOTC",
    ),
    "z-scored": (
        lambda folder: set_values(folder, standardise),
        BETAS,
        "looks z-scored: every voxel of EarlyV has mean 0",
    ),
    "one volume twice": (
        lambda folder: set_values(folder, repeat_volume),
        BETAS,
        "has the same response to 'bee' and 'dog' in every voxel of EarlyV",
    ),
    "copied file": (
        copy(BETAS, COPY),
        COPY,
        "is byte for byte sub-02_desc-betas_stat.nii, of another subject",
    ),
    "copied values": (
        both(copy(BETAS, COPY), lambda f: nibabel_rewrite(f / COPY)),
        COPY,
        "has the very values of sub-02_desc-betas_stat.nii, of another subject, in Ear",
    ),
    "few voxels": (
        image(POTC, lambda x: x * (np.arange(180).reshape(SHAPE) < 70)),
        POTC,
        "has 10 voxels; an RDM of fewer than 50 is noisy",
    ),
    "overlap": (
        image(POTC, lambda x: (np.arange(180).reshape(SHAPE) < 70).astype(np.uint8)),
        FUNC,
        r"has sectors that share voxels: EarlyV and pOTC \(60\)",
    ),
    "flipped": (flip_subject, BETAS, "has the orientation RAS, and .* has LAS; were"),
    "other voxels": (scale_subject, BETAS, "has voxels of 54 mm3, and .* has 27"),
    "other grid": (shift_subject, BETAS, "is on another grid than .* both are in TA"),
    "left-out sector": (copy(MASK, V4), V4, "is left out, because Sectors in"),
    "unread": (write(f"{FUNC}/sub-02_V4_mask.nii", ""), FUNC, "not read: sub-02_V"),
    "unread responses": (
        write(f"{FUNC}/x_desc-betas_stat.nii", ""),
        FUNC,
        "not read: x_desc-betas_stat.nii",
    ),
    "unread image": (write("stimuli/owl.png", ""), "stimuli", "not read: owl.png"),
    "unread folder": (write("sub-02/anat/T1w.nii", ""), "sub-02/anat", "is not read"),
    "grey": (
        new_image("bee", Image.new("L", (9, 8))),
        "stimuli",
        r"has 1 of 5 images that are not RGB: bee \(L\)",
    ),
    "size": (
        new_image("bee", Image.new("RGB", (9, 7))),
        "stimuli",
        r"has images of 2 sizes: 9 x 8 \(ant, cup, dog and 1 more\), 9 x 7 \(bee\)",
    ),
    "same image": (same_image, "stimuli.tsv", "has one image under 2 names: bee, cup"),
}


def nibabel_rewrite(path):
    """The same values in a file of other bytes."""
    loaded = nibabel.load(path)
    data = np.asarray(loaded.dataobj).copy()
    loaded.header["descrip"] = b"another"
    nibabel.Nifti1Image(data, loaded.affine, loaded.header).to_filename(path)


@pytest.mark.parametrize("case", WARNINGS)
def test_what_looks_wrong_is_a_warning(folder, case):

    damage, file, text = WARNINGS[case]
    damage(folder)
    assert is_read(folder)
    findings = check_dataset(folder)
    assert not errors_of(findings)
    assert any(one.file == file and re.search(text, one.text) for one in findings), (
        findings
    )


def test_warnings_are_not_given_in_addition(folder):
    copy(MASK, V4)(folder)
    (one,) = check_dataset(folder)
    assert (one.file, one.level) == (V4, "warning")


def test_rdms_that_look_wrong(rdm_folder):
    lines = (rdm_folder / RDM).read_text().split("\n")
    flat = [lines[0], *(line.rsplit("\t", 1)[0] + "\t0.1" for line in lines[1:-1]), ""]
    (rdm_folder / RDM).write_text("\n".join(flat))
    (rdm_folder / RDM.replace("02", "03")).write_text("\n".join(flat))
    write(RDM.replace("02", "01"), lines[0] + "\n")(rdm_folder)
    negative = [line.replace("\t0.", "\t-0.") for line in lines]
    (rdm_folder / RDM.replace("02", "01")).write_text("\n".join(negative))
    found = {(one.file, one.text.split(";")[0]) for one in check_dataset(rdm_folder)}
    assert (RDM, "has one dissimilarity for all pairs") in found
    assert (
        "sub-03",
        "has the very values of sub-02, of another subject, in IT",
    ) in found
    assert any("has 10 of 10 dissimilarities below 0" in text for _, text in found)
    assert is_read(rdm_folder)


def test_an_image_that_cannot_be_decoded_is_an_error(folder):
    broken_image(folder)
    (one,) = check_dataset(folder)
    assert (one.file, one.level) == ("stimuli/bee.png", "error")
    assert "must be an image that Pillow reads; reading it fails with:" in one.text


def test_files_for_people_are_passed_over(folder):
    for name in ("README.md", "CHANGES", "LICENSE", "participants.json", ".DS_Store"):
        (folder / name).write_text("")
    write("code/run.py", "")(folder)
    write("stimuli/.hidden", "")(folder)
    write(MASK.replace(".nii", ".json"), "{}")(folder)
    write(f"{FUNC}/sub-02_desc-oddbetas_stat.nii.gz", "")(folder)
    write(f"{FUNC}/sub-02_desc-reliability_statmap.json", "")(folder)
    assert check_dataset(folder) == []


def test_voxels_without_place(folder, tmp_path):
    dataset = read_dataset(folder)
    plain = BrainDataset(
        "list", dataset.stimuli, SUBJECTS, dataset.responses, licence="CC0"
    )
    assert check_dataset(write_dataset(plain, tmp_path / "list")) == []


# ---- other folders --------------------------------------------------------------


RAW = "sub-01/func/sub-01_task-x_run-1_bold.nii.gz"
SESSION = "sub-01/ses-1/func/sub-01_ses-1_task-x_bold.nii.gz"
PREPROCESSED = "sub-01/func/sub-01_task-x_space-T1w_desc-preproc_bold.nii.gz"
MAKER = '{"Name": "x", "GeneratedBy": [{"Name": "%s"}]}'


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({RAW: ""}, "is a raw BIDS dataset, .* versa-data betas then makes a dataset"),
        ({SESSION: "", "participants.tsv": "x"}, "is a raw BIDS dataset"),
        ({PREPROCESSED: ""}, "is the output of fMRIPrep, .* versa-data betas makes"),
        ({ABOUT: MAKER % "fMRIPrep"}, "is the output of fMRIPrep"),
        (
            {ABOUT: '{"Name": "x", "PipelineDescription": {"Name": "fmriprep"}}'},
            "is the output of fMRIPrep",
        ),
        ({ABOUT: MAKER % "QSIPrep"}, "is a BIDS derivative of QSIPrep without stimuli"),
        (
            {"mat/a.mat": "", "b.vtc.gz": ""},
            r"looks like an archive, with \.mat, \.vtc",
        ),
        (
            {"notes.txt": ""},
            f"is not a dataset folder: it has no {ABOUT}, .* but notes",
        ),
        ({".hidden": ""}, "is empty"),
    ],
)
def test_other_folders_are_named(tmp_path, files, text):
    for file, content in files.items():
        write(file, content)(tmp_path)
    (one,) = check_dataset(tmp_path)

    assert (one.file, one.level) == (".", "error")
    assert re.search(text, one.text)
    assert not is_read(tmp_path)


def test_a_folder_of_one_subject_is_named(folder, monkeypatch):
    (one,) = check_dataset(folder / "sub-02")
    assert "is one subject of a dataset; check the dataset," in one.text
    monkeypatch.chdir(folder / "sub-02")
    assert [finding.text for finding in check_dataset(".")] == [one.text]
    monkeypatch.chdir(folder)
    assert check_dataset(".") == []


def test_how_the_folder_is_written_does_not_matter(folder, monkeypatch):
    for case in ("swapped", "no mask", "outside"):
        ERRORS[case][0](folder)
    expected = check_dataset(folder)
    monkeypatch.chdir(folder.parent)
    for name in ("good", "good/", "./good"):
        assert check_dataset(name) == expected
    monkeypatch.chdir(folder)
    assert check_dataset(".") == expected


def test_no_folder_is_an_error(tmp_path):
    (one,) = check_dataset(tmp_path / "nowhere")
    assert str(one) == "error: .: must be a folder that exists."


def test_a_dataset_without_images_is_checked_all_the_same(folder):
    remove("stimuli.tsv")(folder)
    shutil.rmtree(folder / "stimuli")
    image(MASK, lambda x: x * 0)(folder)
    files = [one.file for one in errors_of(check_dataset(folder))]
    assert files == ["stimuli.tsv", MASK]


def test_real_raw_bids_is_named(shared):
    (one,) = check_dataset(shared / "data" / "haxby2001")
    assert one.text.startswith("is a raw BIDS dataset")


def test_real_rdms_are_without_errors(shared, tmp_path):
    from scipy.spatial.distance import squareform

    data = shared / "data" / "images92"
    with np.load(data / "rdms_cichy2014_EVC_IT.npz") as file:
        rdms = {
            name: [squareform(rdm, checks=False) for rdm in file[name][:4]]
            for name in ("EVC", "IT")
        }
    stimuli = StimulusSet.from_folder(data / "stimuli")
    dataset = BrainDataset("cichy2014", stimuli, list("1234"), rdms=rdms)
    findings = check_dataset(write_dataset(dataset, tmp_path / "out"))
    assert not errors_of(findings)


def test_findings_know_their_levels():
    with pytest.raises(ValueError, match="level must be error or warning; got 'bad'"):
        Problem("x", "bad", "y")
    levels = itertools.product(["error", "warning"], ["a"])
    assert [str(Problem(file, level, "t")) for level, file in levels] == [
        "error: a: t",
        "warning: a: t",
    ]
