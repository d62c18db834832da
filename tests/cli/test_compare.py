"""versa-compare as a person types it: output, files, exit codes, one sentence."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

import versa
from tests.card_files import write_card
from tests.inference import test_partition
from tests.synthetic import LAYERS, METHODS, SECTORS, synthetic_fit
from versa.cli.compare import _file_name, _short_names, compare_command
from versa.cli.running import drawing
from versa.fmri.sectors.sector import Sector
from versa.result import FitResult

# A cheap pretrained-sized network: no weights, no download.
# A shell that starts the tests in the background has their children ignore SIGINT
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from versa.cli.compare import compare_command
sys.exit(compare_command())
"""
NETWORKS = ["torchvision/squeezenet1_1:untrained"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("VERSA_OFFLINE", "1")


@pytest.fixture
def dataset(tmp_path):
    """A dataset folder of 6 images and 4 subjects."""
    from PIL import Image

    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(6):
        pixels = (
            rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        )
        Image.fromarray(pixels).save(images / f"item-{i}.png")
    brain = versa.BrainDataset(
        name="tiny",
        stimuli=versa.StimulusSet.from_folder(images),
        subjects=["01", "02", "03", "04"],
        responses={"EarlyV": [rng.standard_normal((6, 12)) for _ in range(4)]},
    )
    return str(versa.write_dataset(brain, tmp_path / "tiny"))


@pytest.fixture
def saved(tmp_path):
    return [
        str(synthetic_fit(f"net{i}", seed=i, shift=0.1 * i).save(tmp_path / f"{i}.nc"))
        for i in range(3)
    ]


def complete(model, seed):
    """A result with RDMs and scores of its subjects."""
    result = test_partition.fit(model, test_partition.SHARED, seed)
    shape = (len(METHODS), len(SECTORS), len(LAYERS), test_partition.SUBJECTS)
    own = np.tanh(0.4 + 0.1 * np.random.default_rng(seed).standard_normal(shape))
    dims = ("methods", "sector", "layer", "subject")
    return FitResult(result.data.assign(subject_scores=(dims, own)))


def refused(capsys, *arguments, expected=2):
    """The one sentence of a refusal."""
    try:
        code = compare_command(arguments)
    except SystemExit as stop:  # argparse's own
        code = stop.code
    output = capsys.readouterr()
    assert code == expected
    assert output.out == ""
    last = output.err.strip().splitlines()[-1]
    assert last.startswith("versa-compare: error: ")
    assert "Traceback" not in output.err
    return last


def test_fit_and_files(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    layers = "features.3,features.6"
    code = compare_command(
        [
            "torchvision/squeezenet1_1:untrained",
            "torchvision/squeezenet1_1:untrained:seed=1",
            "--dataset", dataset, "--layers", layers, "--out", str(out), "--quiet",
            "--family", "30", "--all",
        ]
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "tiny: 4 subjects, 6 images, 3 half-splits" in printed
    for heading in ("Layer-wise scores", "Cross-validated best layer", "Pairwise"):
        assert heading in printed
    assert "Bonferroni family of 30: p < 0.00167" in printed
    tables = {
        name: pd.read_csv(out / f"{name}.csv") for name in ("layers", "best", "pairs")
    }
    assert len(tables["layers"]) == 2 * 2 * 3
    assert len(tables["best"]) == 2 * 3
    assert len(tables["pairs"]) == 3
    for name in tables:
        assert (out / f"{name}.md").read_text().startswith("| ")
        assert r"\begin{tabular}" in (out / f"{name}.tex").read_text()
    record = json.loads((out / "provenance.json").read_text())
    assert record["comparison"]["family"] == 30
    assert len(record["fits"]) == 2
    assert record["options"]["layers"] == layers.split(",")
    files = sorted(path.name for path in (out / "results").iterdir())
    assert files == [
        "torchvision-squeezenet1_1-untrained-2ce89c85.nc",
        "torchvision-squeezenet1_1-untrained-seed=1-3557df30.nc",
    ]
    again = tmp_path / "again"
    results = [str(out / "results" / name) for name in files]
    assert compare_command([*results, "--out", str(again), "--family", "30"]) == 0
    for name, table in tables.items():
        pd.testing.assert_frame_equal(pd.read_csv(again / f"{name}.csv"), table)


def test_saved_results_need_no_dataset(saved, capsys):
    assert compare_command([*saved, "--baseline", "net1", "--all"]) == 0
    printed = capsys.readouterr().out
    assert "made-up: 7 subjects" in printed
    pairs = printed.split("Pairwise comparisons")[1]
    assert "net0" in pairs
    assert pairs.count("net1") == 12  # two comparisons by two sectors by three methods


def test_saved_results_take_no_options_of_a_fit(saved, capsys):
    line = refused(capsys, *saved, "--layers", "fc6", "--dataset", "tiny")
    assert "--dataset, --layers must come with a model to fit" in line


def test_bad_options_cost_no_fit(dataset, capsys, monkeypatch):
    monkeypatch.setattr("versa.fit", None)
    for extra, text in (
        (["--baseline", "nope"], "nope"),
        (["--family", "-4"], "family must be"),
        (NETWORKS, "unique"),
    ):
        assert text in refused(capsys, *NETWORKS, *extra, "--dataset", dataset)


def test_baseline_by_alias(dataset, capsys):
    seeds = ["torchvision/squeezenet1_1:untrained:seed=1", *NETWORKS]
    options = ["--dataset", dataset, "--layers", "features.3", "--quiet"]
    alias = NETWORKS[0] + ":seed=0"
    assert compare_command([*seeds, *options, "--baseline", alias]) == 0


def test_many_alphas(dataset, capsys):
    grid = ",".join(str(k) for k in range(1, 131))
    options = ["--dataset", dataset, "--layers", "features.3", "--quiet"]
    assert compare_command([*NETWORKS, *options, "--alphas", grid]) == 0


def test_one_model_has_no_pairs(saved, capsys):
    assert compare_command([*saved[:1], "--all"]) == 0
    assert "Pairwise" not in capsys.readouterr().out


def test_new_images(dataset, tmp_path, capsys):
    first = ["torchvision/squeezenet1_1:untrained", "--dataset", dataset]
    fit = [*first, "--layers", "features.3", "--methods", "rsa", "--quiet"]
    out = ["--out", str(tmp_path / "out")]
    assert compare_command([*fit, *out, "--generalize", "images", "--all"]) == 0
    said = (
        "Intervals and tests are for new images and these 4 subjects where marked "
        "(images), else for new subjects and these 6 images."
    )
    assert capsys.readouterr().out.count(said) == 2
    for name in ("layers", "best"):
        for ending in ("md", "tex"):
            assert said in (tmp_path / "out" / f"{name}.{ending}").read_text()
    (result,) = (tmp_path / "out" / "results").iterdir()
    assert compare_command([str(result), "--generalize", "both", "--all"]) == 0
    assert "95% CI (both)" in capsys.readouterr().out
    assert compare_command([*fit, *out, "--no-rdms"]) == 0
    capsys.readouterr()
    (result,) = (tmp_path / "out" / "results").iterdir()
    said = refused(capsys, str(result), "--generalize", "both")
    assert "holds no RDMs of the subjects" in said


def test_equivalence(saved, capsys):
    assert compare_command([*saved, "--equivalence", "0.3", "--all"]) == 0
    printed = capsys.readouterr().out
    assert "p equiv." in printed
    assert "verdict" in printed


def in_a_row(text):
    """A text without the ends of its lines."""
    return " ".join(text.split())


def test_the_answer_is_printed_first(saved, tmp_path, capsys, monkeypatch):
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert compare_command(saved) == 0
        printed = capsys.readouterr().out
        made = versa.compare([versa.load_result(path) for path in saved])
        assert printed.startswith(made.answer(width=columns))
        assert "\x1b" not in printed
        assert "All rows and columns: --all; the paper's: --paper" in in_a_row(printed)
        assert max(map(len, printed.splitlines())) <= columns
    assert compare_command([*saved, "--out", str(tmp_path / "out")]) == 0
    assert f"All rows: --all. Tables in {tmp_path}" in in_a_row(capsys.readouterr().out)


def test_columns_of_the_paper(saved, capsys):
    assert compare_command([*saved, "--paper"]) == 0
    printed = capsys.readouterr().out.split("As in the paper: method versa")[1]
    assert "95% CI (J-1)" in printed
    assert "null r" in printed
    assert "sig. Bonf." in printed
    assert "S-1" not in printed
    assert "versa-debiased" not in printed


def test_colours_on_a_terminal_only(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert drawing() == {"width": 80, "styled": False, "ascii_only": True}
    monkeypatch.setattr("sys.stdout", Terminal(io.BytesIO(), "utf-8"))
    monkeypatch.setenv("TERM", "xterm")
    assert drawing() == {"width": 80, "styled": True, "ascii_only": False}
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
        assert not drawing()["styled"]


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


def headings(table):
    return " ".join(table.splitlines()[0].replace("|", "").split())


def test_partition_and_calibration(tmp_path, capsys):
    fits = [complete("a", 1), complete("b", 2)]
    saved = [str(fit.save(tmp_path / f"{fit.model}.nc")) for fit in fits]
    out = tmp_path / "out"
    options = ["--partition", "--calibration", "--out", str(out)]
    assert compare_command([*saved, *options]) == 0
    printed = capsys.readouterr().out
    assert "layers, best, pairs, partition, calibration as .csv" in in_a_row(printed)
    parts = printed.split("Variance that the networks explain")[1].split("\n\n")[1]
    assert headings(parts) == "method sector part R² 95% CI (S-1) R²/c²"
    assert all(f"| {part} " in parts for part in ("a only", "b only", "a & b", "total"))
    rates = printed.split("How often the tests would find")[1].split("\n\n")[1]
    assert headings(rates) == "method sector level J-1 S-1 flip spread"
    for table in (parts, rates):
        assert max(len(line) for line in table.splitlines()) <= 80
    expected = {
        "partition": versa.partition(fits),
        "calibration": versa.calibration(versa.compare(fits)),
    }
    for name, table in expected.items():
        pd.testing.assert_frame_equal(pd.read_csv(out / f"{name}.csv"), table)
        assert "new subjects and these 13 images" in (out / f"{name}.md").read_text()
        assert r"\begin{tabular}" in (out / f"{name}.tex").read_text()


def test_partition_of_a_fit(dataset, capsys):
    networks = [*NETWORKS, NETWORKS[0] + ":seed=1"]
    options = ["--layers", "features.3", "--methods", "rsa", "--quiet", "--partition"]
    assert compare_command([*networks, "--dataset", dataset, *options]) == 0
    assert f"{NETWORKS[0]} only" in capsys.readouterr().out


def test_multiverse(saved, tmp_path, capsys):
    command = [*saved, "--multiverse", "--out", str(tmp_path / "out")]
    assert compare_command(command) == 0
    assert "Share of the readings" in capsys.readouterr().out
    assert (tmp_path / "out" / "multiverse.csv").is_file()


def test_correction_halves_and_exact(saved, capsys):
    options = ["--correction", "holm", "--halves", "first", "--exact", "--all"]
    assert compare_command([*saved, *options]) == 0
    printed = capsys.readouterr().out
    assert "p Holm (S-1)" in printed
    assert "p sign-flip" in printed


def test_literal_ratio(saved, capsys):
    assert compare_command([*saved, "--ratio", "literal", "--all"]) == 0
    literal = capsys.readouterr().out
    assert compare_command([*saved, "--all"]) == 0
    assert literal != capsys.readouterr().out


def test_labels(saved, capsys):
    given = [f"first={saved[0]}", saved[1], "--baseline", saved[1]]
    assert compare_command(given) == 0
    printed = capsys.readouterr().out
    assert "A first" in printed
    assert "B net1" in printed
    assert "net0" not in printed


def test_labels_of_own_checkpoints(dataset, tmp_path, capsys):
    import torch
    from torchvision import models

    base = "torchvision/squeezenet1_1"
    state = models.squeezenet1_1(weights=None).state_dict()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.save(state, tmp_path / name / "last.pth")
    files = [f"{base}@{tmp_path}/{name}/last.pth" for name in ("a", "b")]
    options = ["--dataset", dataset, "--layers", "features.3", "--methods", "rsa"]
    out = tmp_path / "out"
    given = [*files, f"mine={files[0]}", *options, "--quiet", "--out", str(out)]
    assert compare_command(given) == 0
    printed = capsys.readouterr().out
    for row in ("a/last", "b/last", "mine"):
        assert f" {row} " in printed
    record = json.loads((out / "provenance.json").read_text())
    models = [fit["model"] for fit in record["fits"]]
    assert [model["name"] for model in models] == ["a/last", "b/last", "mine"]
    assert [model["source"] for model in models] == [*files, files[0]]


def test_short_names_of_files():
    files = ["/runs/a/w.pth", "/runs/b/w.pth", "/runs/b/v.pth"]
    short = _short_names(files, set())
    assert list(short.values()) == ["a/w", "b/w", "v"]
    assert _short_names(["/runs/w.pth"], {"w"}) == {"/runs/w.pth": "runs/w"}


def test_models_are_filtered(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert compare_command(["--list-models", "UNTRAINED"]) == 0
    printed = capsys.readouterr().out
    assert "alexnet_gn_untrained" in printed
    assert "ipcl_ref01" not in printed
    assert compare_command(["--list-models"]) == 0
    printed += capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "A wider terminal also shows" in printed
    assert "must be given a text that occurs" in refused(capsys, "--list-models", "xyz")


def test_unknown_names_come_without_a_list(dataset, capsys):
    line = refused(capsys, "alexnet_gn_untraned", "--dataset", dataset)
    assert "and 1" not in line
    assert "Did you mean alexnet_gn_untrained" in line


def test_lists(capsys):
    assert compare_command(["--list-models"]) == 0
    assert "alexnet_gn_ipcl_ref01" in capsys.readouterr().out
    assert compare_command(["--list-datasets"]) == 0
    assert "simulated-orientation" in capsys.readouterr().out


def test_layers_of_seeds_and_of_own_weights(tmp_path, capsys):
    import torch
    from torchvision import models

    base = "torchvision/squeezenet1_1"
    state = models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, tmp_path / "net.pth")
    tables = []
    for model in (base, f"{base}:untrained:seeds=0-2", f"{base}@{tmp_path}/net.pth"):
        assert compare_command([model, "--list-layers", "--quiet"]) == 0
        name, *rows = capsys.readouterr().out.splitlines()
        assert name == model
        tables.append(rows)
    assert tables[0] == tables[1] == tables[2]
    assert "features.12" in "".join(tables[0])


def test_names_of_result_files_differ():
    names = [
        "alexnet_gn_ipcl_ref01",
        "torchvision/resnet18",
        "torchvision-resnet18",
        "Net",
        "net",
        "net@/data/\u00e9.pth",
        "net@/data/\u00fc.pth",
        f"net@/{'very/' * 100}long.pth",
        f"net@/{'very/' * 100}longer.pth",
        "..",
        "../..",
    ]
    files = [_file_name(name) for name in names]
    assert len({name.lower() for name in files}) == len(names)
    assert files[0] == "alexnet_gn_ipcl_ref01"
    assert files[2] == "torchvision-resnet18"
    assert files[1].startswith("torchvision-resnet18-")
    for name in files:
        assert len(name) < 100
        assert name.isascii()
        assert "/" not in name


def test_help_and_version(capsys):
    for flag, text in (("--help", "versa-debiased"), ("--version", versa.__version__)):
        with pytest.raises(SystemExit) as stop:
            compare_command([flag])
        assert stop.value.code == 0
        assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "MODEL must be given"),
        (
            ["alexnet_gn_untrained"],
            "--dataset must be given to fit alexnet_gn_untrained",
        ),
        (["alexnet_gn_untraned", "--dataset", "{tiny}"], "Did you mean alexnet_gn_unt"),
        (
            ["{net}", "--dataset", "simulated-orientatoin"],
            "Did you mean simulated-orient",
        ),
        (["{net}", "--dataset", "no/such/folder"], "no/such/folder"),
        (["{net}", "--dataset", "orientation"], "simulated-orientation"),
        (
            ["{net}", "--dataset", "{tiny}", "--layers", "featurs.3"],
            "Did you mean feat",
        ),
        (["{net}", "--dataset", "{tiny}", "--layers", ","], "at least one layer"),
        (
            ["{net}", "--dataset", "{tiny}", "--sectors", "earlyv"],
            "Did you mean EarlyV",
        ),
        (["{net}", "--dataset", "{tiny}", "--methods", "RSA"], "Did you mean rsa"),
        (
            ["{net}", "--dataset", "{tiny}", "--alphas", "0,1"],
            "alphas must be positive",
        ),
        (
            ["{net}", "--dataset", "{tiny}", "--alphas", "wide"],
            "must be auto, sklearn or",
        ),
        (["{net}", "--dataset", "{tiny}", "--ratio", "half"], "number or 'literal'"),
        (
            ["{net}", "--dataset", "{tiny}", "--out", "{file}/x"],
            "--out must be a folder",
        ),
        (["{net}", "--dataset", "{tiny}", "--device", "cuda:9"], "device"),
        (["absent.nc"], "absent.nc must exist; it is missing"),
        (["{net}", "{net}", "--dataset", "{tiny}"], "networks must be unique"),
        (
            ["{net}", "--dataset", "{tiny}", "--family", "0"],
            "--family must be 1 or more",
        ),
        (
            ["{net}", "--dataset", "{tiny}", "--equivalence", "0"],
            "--equivalence must be between 0 and 2",
        ),
        (
            ["{net}", "--dataset", "{tiny}", "--partition"],
            "--partition must be given 2 to 6 networks; got 1",
        ),
        (
            [*["{net}:seeds=1-2", "--dataset", "{tiny}", "--partition"], "--no-rdms"],
            "Leave --no-rdms out",
        ),
        (
            [
                *["{net}:seeds=1-2", "--dataset", "{tiny}", "--partition"],
                *["--compare-by", "spearman"],
            ],
            "--partition must come with RDMs compared by pearson",
        ),
        (
            ["{net}", "--dataset", "{tiny}", "--ratio", "-1"],
            "--ratio must be 0 or more",
        ),
        (
            ["{net}", "--dataset", "{tiny}", "--baseline", "x"],
            "--baseline must be among",
        ),
        (["{net}", "--dataset", "{tiny}", "--batch-size", "0"], "batch_size must be 1"),
        (["{net}", "--dataset", ""], "--dataset must be given"),
        (["{tiny}", "--dataset", "{tiny}"], "is a folder"),
        (["{file}"], "must be a netCDF-4 file written by FitResult.save"),
        (["--datset", "x"], "unrecognized arguments: --datset"),
    ],
)
def test_bad_input(arguments, sentence, dataset, tmp_path, capsys):
    text = tmp_path / "notes.txt"
    text.write_text("nothing")
    places = {"{tiny}": dataset, "{net}": NETWORKS[0], "{file}": str(text)}
    filled = []
    for argument in arguments:
        for mark, place in places.items():
            argument = argument.replace(mark, place)
        filled.append(argument)
    assert sentence in refused(capsys, *filled)


def test_last_misspelt_name_costs_no_fit(dataset, capsys, monkeypatch):
    monkeypatch.setattr("versa.fit", None)
    line = refused(capsys, *NETWORKS, "nonsense_net", "--dataset", dataset)
    assert "'nonsense_net'" in line


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_images_of_other_modes(mode, dataset, capsys):
    from PIL import Image

    image = sorted((Path(dataset) / "stimuli").iterdir())[2]
    brain = versa.load_dataset(dataset)
    folder = Path(dataset).parent / "changed"
    folder.mkdir()
    for path in brain.stimuli.paths:
        picture = Image.open(path)
        if path.name == image.name:
            picture = picture.convert(mode)
            picture.save(folder / f"{path.stem}.tiff")
        else:
            picture.save(folder / path.name)
    changed = versa.BrainDataset(
        name="changed",
        stimuli=versa.StimulusSet.from_folder(folder),
        subjects=brain.subjects,
        responses=brain.responses,
    )
    written = str(versa.write_dataset(changed, folder.parent / "written"))
    arguments = [*NETWORKS, "--dataset", written, "--layers", "features.3", "--quiet"]
    line = refused(capsys, *arguments)
    assert image.stem in line
    assert mode in line
    assert compare_command([*arguments, "--convert-images"]) == 0


def test_constant_voxels(dataset, tmp_path, capsys):
    brain = versa.load_dataset(dataset)
    responses = [voxels.copy() for voxels in brain.responses["EarlyV"]]
    responses[1][:, 3] = 2.0
    dirty = versa.BrainDataset(
        name="dirty",
        stimuli=brain.stimuli,
        subjects=brain.subjects,
        responses={"EarlyV": responses},
    )
    written = str(versa.write_dataset(dirty, tmp_path / "dirty"))
    arguments = [*NETWORKS, "--dataset", written, "--layers", "features.3", "--quiet"]
    line = refused(capsys, *arguments)
    assert "EarlyV" in line
    assert "02" in line
    assert compare_command([*arguments, "--drop-bad-voxels"]) == 0


def test_results_that_do_not_belong_together(saved, tmp_path, capsys):
    other = synthetic_fit("other", dataset="elsewhere").save(tmp_path / "other.nc")
    assert "same dataset (made-up and elsewhere)" in refused(
        capsys, saved[0], str(other)
    )
    assert "--baseline must be among net0, net1" in refused(
        capsys, *saved[:2], "--baseline", "net9"
    )


def test_report_and_figures(saved, tmp_path, capsys):
    report, figures = tmp_path / "new" / "report.html", tmp_path / "figures"
    picture = tmp_path / "sectors.svg"
    picture.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    options = ["--report", str(report), "--picture", str(picture)]
    options += ["--figures", str(figures), "--format", "svg,pdf"]
    assert compare_command([*saved[:1], *options]) == 0
    printed = capsys.readouterr().out
    assert f"Report: {report}" in printed
    assert f"Drawn in {figures}{os.sep}: " in in_a_row(printed)
    text = report.read_text("utf-8")
    assert "Networks and brains: made-up" in text
    assert "<figcaption>sectors</figcaption>" in text
    drawn = {path.suffix for path in figures.iterdir()}
    assert drawn == {".svg", ".pdf"}
    assert not list(report.parent.glob("*tmp*"))


def test_report_without_other_output(saved, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    report = tmp_path / "report.html"
    assert compare_command([*saved[:1], "--report", str(report)]) == 0
    assert sorted(tmp_path.iterdir()) == sorted([*before, report])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--report", "{x}/report.pdf"], "report must be a file that ends with .html"),
        (["--report", "{x}"], "ends with .html or .htm; got"),
        (["--report", "{file}/r.html"], "--report must be a file that can be written"),
        (["--figures", "{file}/x"], "--figures must be a folder that can be written"),
        (["--figures", "{x}", "--format", "gif"], "--format must be among svg, pdf"),
        (["--picture", "a.png"], "--picture must come with --report"),
        (
            ["--report", "{x}/r.html", "--picture", "{x}/absent.png"],
            "absent.png does not exist",
        ),
        (["--report", "{x}/r.html", "--picture", "a.gif"], "pictures must end with"),
    ],
)
def test_bad_outputs_cost_no_fit(
    options, sentence, dataset, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("versa.fit", None)
    file = tmp_path / "notes.txt"
    file.write_text("nothing")
    places = {"{x}": str(tmp_path), "{file}": str(file)}
    filled = []
    for option in options:
        for mark, place in places.items():
            option = option.replace(mark, place)
        filled.append(option)
    assert sentence in refused(capsys, *NETWORKS, "--dataset", dataset, *filled)
    assert not (tmp_path / "r.html").exists()


def test_interrupted(dataset, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("versa.fit", interrupt)
    line = refused(capsys, *NETWORKS, "--dataset", dataset, expected=130)
    assert "interrupted; run the same command to resume" in line
    again = (*NETWORKS, "--dataset", dataset, "--no-cache")
    line = refused(capsys, *again, expected=130)
    assert "nothing was kept" in line


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_interrupted_for_real(dataset, tmp_path):
    out = tmp_path / "out"
    run = subprocess.Popen(
        [
            sys.executable, "-c", RUN, *NETWORKS, "--dataset", dataset,
            "--layers", "leaf", "--out", str(out),
        ],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    while not out.exists() and run.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    error = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 130, error
    assert "Traceback" not in error
    assert "interrupted" in error.strip().splitlines()[-1]
    assert not list(tmp_path.rglob("*.versa-tmp"))


def test_the_path_of_a_card_is_a_network(tmp_path, capsys):
    card = write_card(tmp_path, "mine", seed=0)
    assert compare_command([str(card), "--dataset", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err.splitlines()[-1]


def test_a_layout_comes_with_weights_of_ones_own(capsys):
    given = ["alexnet_gn_untrained", "--layout", "path=teacher", "--dataset", "x"]
    assert compare_command(given) == 2
    assert "--layout must come with weights of your own" in capsys.readouterr().err


def test_one_subject_with_scores_of_voxels(dataset, tmp_path, capsys):
    brain = versa.load_dataset(dataset)
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[:2, :2] = True
    sector = Sector("EarlyV", mask, np.eye(4), "individual")
    known = np.linspace(-0.1, 0.9, 12)
    one = dataclasses.replace(
        brain.select(subjects=["03"]),
        sectors={"EarlyV": [sector]},
        reliability={"EarlyV": [known]},
        space="individual",
    )
    folder, out = tmp_path / "one", tmp_path / "out"
    versa.write_dataset(one, folder)
    arguments = ["--dataset", str(folder), "--methods", "versa-debiased,rsa"]
    layers = ["--layers", "features.0,features.3", "--quiet"]
    files = ["--out", str(out), "--figures", str(out / "figures")]
    page = ["--report", str(out / "page.html")]
    assert not compare_command(
        [*NETWORKS, *arguments, *layers, "--voxel-scores", *files, *page]
    )
    text = capsys.readouterr().out
    assert "1 subject, 6 images, no half-splits" in text
    assert "not cross-validated" in text
    assert "voxel ceiling" in text
    (saved,) = (out / "results").glob("*.nc")
    result = versa.load_result(saved)
    table = pd.read_csv(out / "encoding.csv", dtype={"subject": str})
    pd.testing.assert_frame_equal(table, result.encoding())
    maps = {path.name.split("_sub-03_")[1]: path for path in out.glob("maps/*")}
    assert set(maps) == {"r.nii.gz", "r.json", "best-layer.nii.gz", "ceiling.nii.gz"}
    layers = json.loads(maps["r.json"].read_text())["Layers"]
    assert layers == list(result.layer_names)
    volumes = nibabel.load(maps["r.nii.gz"]).get_fdata()
    for k, layer in enumerate(layers):
        expected = result.voxel_map(layer, "03").get_fdata()
        np.testing.assert_array_equal(volumes[..., k], expected)
    ceiling = nibabel.load(maps["ceiling.nii.gz"]).get_fdata()[mask]
    by_hand = np.sqrt(np.maximum(2 * known / (1 + known), 0))
    np.testing.assert_allclose(ceiling, by_hand, atol=1e-6)
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert "encoding.svg" in drawn
    assert any(name.startswith("hierarchy_") for name in drawn)
    page = (out / "page.html").read_text()
    assert "How well voxels are predicted" in page
    assert "One subject" in page or "one subject" in page
