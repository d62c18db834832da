"""versa-data betas, images, sectors, check: what a user types."""

import sys

import numpy as np
import pytest
from PIL import Image

import versa
from tests.fmri.study.test_sectors import sources, study
from tests.scans import (
    CONDITIONS,
    N_LARGE,
    run_in_little_memory,
    write_bids,
    write_large_mask,
    write_large_run,
)
from versa.cli.data import data_command
from versa.fmri.betas.events import read_events
from versa.fmri.betas.glm import GLMSettings
from versa.fmri.study.files import read_betas, read_subject_map
from versa.fmri.volumes.nifti import read_mask

__all__ = ["sources", "study"]


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    folder = write_bids(tmp_path_factory.mktemp("cli") / "bids", ("01", "02"), n_runs=2)
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in CONDITIONS:
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    return folder


def betas_command(bids, out, *more):
    return [
        "betas",
        str(bids),
        *("--out", str(out)),
        *("--mask", f"{bids}/mask-{{subject}}.nii.gz"),
        *("--noise", "ols"),
        "--quiet",
        *more,
    ]


def test_from_scans_to_a_dataset(bids, tmp_path, capsys):
    out = tmp_path / "study"
    images = ["--images", str(bids / "images"), "--name", "my study"]
    options = ["--hrf", "spm", "--high-pass", "0.008", "--filter", "task=view"]
    assert data_command(betas_command(bids, out, *images, *options)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[:5] == ["subject", "conditions", "voxels", "median", "r"]
    assert said[1].split()[:3] == ["01", "4", "60"]
    drawn = [out / "figures" / f"sub-{s}_{what}.png"
             for s in ("01", "02") for what in ("design", "reliability")]  # fmt: skip
    assert said[3:] == [str(path) for path in drawn]
    for path in drawn:
        assert np.asarray(Image.open(path)).std() > 10  # not an empty page
    expected = GLMSettings(noise_model="ols", hrf_model="spm", high_pass=0.008)
    assert str(expected) in read_betas(out, "01").source
    assert data_command(["check", str(out)]) == 2
    assert "desc-<Sector>_mask.nii" in capsys.readouterr().out
    command = ["sectors", str(out), "--sector"]
    whole = f"EarlyV={bids}/mask-{{subject}}.nii.gz"
    assert data_command([*command, whole, "--most-active", "EarlyV=50"]) == 0
    said = capsys.readouterr().out
    assert (out / "figures" / "sub-02_sectors.png").is_file()
    assert said.splitlines()[1].split()[:4] == ["01", "EarlyV", "individual", "50"]
    assert data_command(["check", str(out)]) == 0
    assert "no errors, 2 warnings." in capsys.readouterr().out
    dataset = versa.load_dataset(str(out))
    assert dataset.name == "my study"
    assert [x.shape for x in dataset.responses["EarlyV"]] == [(4, 50), (4, 50)]


def test_images_later(bids, tmp_path, capsys):
    out = tmp_path / "study"
    assert data_command(betas_command(bids, out, "--no-figures")) == 0
    assert not (out / "figures").exists()
    capsys.readouterr()
    assert data_command(["images", str(out), str(bids / "images")]) == 0
    assert (
        capsys.readouterr().out == "<StimulusSet: 4 images, cup, dog, key and 1 more>\n"
    )


def test_the_recipe(study, sources, tmp_path, capsys):
    command = ["sectors", str(study), "--early-v", sources["early"]]
    assert data_command([*command, "--n-voxels", "100"]) == 2
    assert "--early-v and --otc must be given together" in capsys.readouterr().err
    command += ["--otc", sources["occipito_temporal"]]
    assert data_command([*command, "--sector", "V1=x.nii"]) == 2
    assert "from --sector; got both" in capsys.readouterr().err
    assert data_command(["sectors", str(study)]) == 2
    assert "from --sector; got neither" in capsys.readouterr().err
    options = ["--n-voxels", "300", "--cut", "-60", "--transform", "brett", "--group"]
    (study / "dataset_description.json").write_text('{"Name": "mine"}')
    assert data_command([*command, *options]) == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()[1:10]]
    assert [row[:2] for row in rows] == [
        [s, name] for s in ("01", "02", "03") for name in ("EarlyV", "pOTC", "aOTC")
    ]
    counts = {(row[0], row[1]): int(row[3]) for row in rows}
    assert counts["01", "pOTC"] + counts["01", "aOTC"] == 300
    for kind in ("sectors", "glass"):
        assert (study / "figures" / f"sub-03_{kind}.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter", "task"], "--filter must be KEY=VALUE; got 'task'"),
        (["--filter", "a=1", "--filter", "a=2"], "--filter must name a once"),
        (["--filter", "task=nothing"], "task must be among view; got 'nothing'"),
        (["--hrf", "fir"], "hrf_model must be among glover"),
        (["--confounds", "trans_x"], "must have a table of confounds beside it"),
        (["--subjects", "07"], "subject must be among 01, 02; got '07'"),
        (["--mask", "nothing.nii"], r"nothing.nii must exist; it is missing"),
    ],
)
def test_one_sentence_and_code_2(bids, tmp_path, capsys, arguments, message):
    assert data_command(betas_command(bids, tmp_path / "s", *arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("versa-data: error: ")
    assert message in said
    assert not list((tmp_path / "s").glob("sub-*"))


@pytest.mark.parametrize("count", ["V1=0", "V1=many", "V1"])
def test_counts(study, sources, capsys, count):
    command = ["sectors", str(study), "--sector", f"V1={sources['early']}"]
    assert data_command([*command, "--most-active", count]) == 2
    assert "--most-active must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--group"], ["--n-voxels", "9"], ["--closed", "anterior"]]
)
def test_options_that_would_do_nothing(study, sources, capsys, options):
    command = ["sectors", str(study), "--sector", f"V1={sources['early']}"]
    assert data_command([*command, *options]) == 2
    said = capsys.readouterr().err
    assert f"{options[0]} has no effect with --sector" in said
    recipe = ["--early-v", sources["early"], "--otc", sources["occipito_temporal"]]
    command = ["sectors", str(study), *recipe, "--most-active", "pOTC=10"]
    assert data_command(command) == 2
    said = capsys.readouterr().err
    assert "--most-active has no effect with --early-v and --otc" in said
    assert not list(study.rglob("*_mask.nii"))


def test_check_counts_what_is_wrong(tmp_path, capsys):
    assert data_command(["check", str(tmp_path / "nothing")]) == 2
    said = capsys.readouterr()
    assert "error: " in said.out
    assert "has 1 error and 0 warnings. Correct the errors" in said.err


def test_haxby(shared, tmp_path, capsys):
    """Real scans, from BIDS to a folder that check passes."""
    root = shared / "data" / "haxby2001"
    masks = root / "derivatives/masks/sub-{subject}"
    mask = masks / "sub-{subject}_acq-slice_desc-brain_mask.nii.gz"
    images = tmp_path / "images"
    images.mkdir()
    events = next(root.rglob("*acq-slice_run-01_events.tsv"))
    names = sorted(set(read_events(events)["trial_type"]))
    for level, name in enumerate(names):
        Image.new("RGB", (16, 16), (30 * level, 0, 0)).save(images / f"{name}.png")
    out = tmp_path / "study"
    glm = ["--hrf", "spm", "--noise", "ols", "--high-pass", "0.0078125"]
    command = ["betas", str(root), "--out", str(out), "--filter", "acq=slice", *glm]
    command += ["--mask", str(mask), "--images", str(images), "--quiet"]
    assert data_command(command) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:4] == ["01", "8", "530", "0.214285"]
    command = ["sectors", str(out), "--sector", f"active={mask}"]
    assert data_command([*command, "--most-active", "active=100"]) == 0
    assert data_command(["check", str(out)]) == 0
    assert ": no errors" in capsys.readouterr().out
    dataset = versa.read_dataset(out)
    assert dataset.stimuli.names == tuple(names)
    assert dataset.responses["active"][0].shape == (8, 100)
    r = read_subject_map(out, "01", "reliability_statmap")
    assert np.isfinite(r).sum() == 530


LARGE_FOLDER = """
from versa.fmri.betas import GLMSettings
from versa.fmri.study import estimate_betas
raw = GLMSettings(noise_model="ols", signal_scaling=False)
estimate_betas("bids", "study", mask="mask.nii", settings=raw)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_dataset_of_64_gb(tmp_path):
    """10 subjects x 6 runs, 64 GiB in all, with 400 MB beyond the imports."""
    write_large_mask(tmp_path / "mask.nii")
    bids = tmp_path / "bids"
    bids.mkdir()
    (bids / "task-x_bold.json").write_text('{"RepetitionTime": 2.0}')
    (bids / "task-x_events.tsv").write_text(
        "onset\tduration\ttrial_type\n10\t8\tcup\n60\t8\tdog\n110\t8\tsaw\n"
    )
    rng = np.random.default_rng(0)
    for subject in range(1, 11):
        func = bids / f"sub-{subject:02d}" / "func"
        func.mkdir(parents=True)
        for run in range(1, 7):
            path = func / f"sub-{subject:02d}_task-x_run-{run}_bold.nii"
            write_large_run(path, 350, rng)
    assert sum(path.stat().st_size for path in bids.rglob("*.nii")) > 64 * 2**30
    run_in_little_memory(LARGE_FOLDER, tmp_path, 400 * 2**20)
    assert len(list((tmp_path / "study").glob("sub-*"))) == 10
    assert read_betas(tmp_path / "study", "10").n_voxels == N_LARGE


def test_a_region_in_two_files(study, sources, capsys):
    first, second = (sources["early"].replace("1+2+3", n) for n in ("1", "3"))
    place = study / "sub-01" / "func" / "sub-01_desc-V13_mask.nii"
    masks = []
    for given in ([f"{first}+3"], [first, second], [f"{first}+{second}"]):
        options = [part for source in given for part in ("--sector", f"V13={source}")]
        assert data_command(["sectors", str(study), "--no-figures", *options]) == 0
        masks.append(read_mask(place)[0])
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
