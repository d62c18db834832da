"""The examples of the documentation give the numbers that it prints."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import versa
from versa.stats.intervals import corrected_interval, fisher_mean, fisher_z

DOCS = Path(__file__).parents[1] / "docs"

pytestmark = pytest.mark.skipif(
    not (DOCS / "examples").is_dir(), reason="needs the source tree"
)


def example(name):
    specification = importlib.util.spec_from_file_location(
        f"example_{name}", DOCS / "examples" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# ---- the leak, on pure noise --------------------------------------------------


def test_leak():
    leak = example("leak").leak
    table = leak()
    for method in ("versa-debiased", "rsa"):
        assert (table[f"{method} low"] < 0).all()
        assert (table[f"{method} high"] > 0).all()
    assert abs(table.attrs["ceiling"]) < 0.05
    assert (table["null"] > 0.6).all()
    assert abs(table["versa"].iloc[0]) < 0.05  # features of a sane scale
    follows = table[table["scale"] <= 0.0003]
    assert len(follows) == 2
    assert (abs(follows["versa"] - follows["null"]) < 0.05).all()


def test_leak_with_one_alpha_for_all_voxels():
    shared = example("leak").leak((1.0,), alphas="auto", alpha_per_voxel=False)
    assert shared["versa"].item() > 0.1
    assert (
        shared["versa-debiased low"].item() < 0 < shared["versa-debiased high"].item()
    )


# ---- 92 photographs -----------------------------------------------------------


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data"


@pytest.fixture(scope="module")
def images92():
    return example("images92")


@pytest.fixture(scope="module")
def expected(data):
    table = pd.read_csv(data / "images92" / "expected_squeezenet_hIT_layers.csv")
    return table.set_index(["weights", "layer"])["r"]


@pytest.fixture(scope="module")
def human_it(images92, data):
    return images92.human_it(data)


@pytest.fixture(scope="module")
def imagenet(images92, data, human_it, offline_cache):
    """All convolutions of the pretrained network."""
    return images92.fit(images92.pretrained(data), "imagenet", human_it)


@pytest.fixture(scope="module")
def untrained(images92, human_it, offline_cache):
    """Small convolutions of the untrained ones: the large ones take longer."""
    fits = []
    for seed in images92.SEEDS:
        network = images92.untrained(seed)
        layers = [n for n in images92.convolutions(network) if n.endswith("squeeze")]
        fits.append(images92.fit(network, f"untrained {seed}", human_it, layers))
    return fits


def test_ceiling_of_human_it(imagenet, data):
    text = (data / "images92" / "expected.json").read_text()
    known = json.loads(text)["kriegeskorte2008_hIT_4subj_sessions_averaged"]
    assert fisher_mean(imagenet.ceiling) == pytest.approx(known["r"], abs=1e-6)
    assert imagenet.splits.n_splits == known["n_splits"]
    subjects = np.array(imagenet.subjects)
    for split in known["per_split_r"]:
        first = np.isin(subjects, split["halves"][0])
        rows = (imagenet.splits.members == first).all(axis=1) | (
            imagenet.splits.members == ~first
        ).all(axis=1)
        assert imagenet.ceiling[0, rows].item() == pytest.approx(split["r"], abs=1e-6)


def test_every_layer_scores_as_in_the_reference(imagenet, untrained, expected):
    assert len(imagenet.layer_names) == 26
    for result in (imagenet, *untrained):
        ours = result.layers().set_index("layer")["r"]
        theirs = expected[result.model.replace("untrained ", "untrained_seed")]
        assert np.abs(ours - theirs[ours.index]).max() < 2e-3


def test_best_layer_is_that_of_the_reference(imagenet, data):
    table = pd.read_csv(data / "images92" / "expected_squeezenet_hIT_cv_max.csv")
    known = table.set_index("weights").loc["imagenet"]
    best = imagenet.best().iloc[0]
    assert best.r == pytest.approx(known.cv_max_r, abs=2e-3)
    assert (best.layer, best.chosen) == (known.most_chosen_layer, known.share_chosen)
    # its interval is that of the mean of both halves, three values; ours has six
    scores = imagenet.scores.loc["rsa", "hIT", best.layer]
    averaged = np.tanh(fisher_z(scores).mean(axis=1))
    theirs = corrected_interval(averaged)
    assert theirs.low == pytest.approx(known.ci_lo, abs=2e-3)
    assert theirs.high == pytest.approx(known.ci_hi, abs=2e-3)
    assert best.ci_low < known.ci_lo < known.ci_hi < best.ci_high


def test_training_matters_in_it(imagenet, untrained, tmp_path):
    paths = [
        result.save(tmp_path / f"{result.model}.nc")
        for result in (imagenet, *untrained)
    ]
    comparison = versa.compare(
        [versa.load_result(path) for path in paths], baseline="imagenet"
    )
    pairs = comparison.pairs()
    assert len(pairs) == 3
    assert (pairs.difference < -0.25).all()
    assert pairs.significant.all()
    assert (pairs.p_subjects < 0.05).all()


def test_permuted_photographs_and_the_printed_page(images92, data, human_it, capsys):
    """The numbers of the page, where they do not depend on how many permutations."""
    networks = {"imagenet": images92.pretrained(data)}
    networks["untrained 2"] = images92.untrained(2)
    layers = ["features.0", "features.12.squeeze"]
    fits = [
        images92.fit(network, name, human_it, layers, permutations=99)
        for name, network in networks.items()
    ]
    best = fits[0].best().iloc[0]
    assert best.p_perm == best.p_perm_max == 0.01
    assert abs(best.chance) < 0.03
    assert fits[1].best().p_perm.item() > 0.05
    comparison = versa.compare(fits, baseline="imagenet", generalize="both")
    assert comparison.pairs().p_both.item() < 0.05
    images92.show(comparison)
    printed = capsys.readouterr().out
    page = (DOCS / "examples" / "images92.txt").read_text(encoding="utf-8")
    for heading in ("r ", "95% CI (S-1)", "CI ceiling"):
        ours, theirs = (
            next(line for line in text.splitlines() if line.startswith(f"| {heading}"))
            for text in (printed, page)
        )
        assert ours.split("|")[2].strip() == theirs.split("|")[2].strip()


def test_early_cortex_takes_the_features_from_the_cache(
    imagenet, images92, data, monkeypatch
):
    monkeypatch.setattr("versa.models.grams.grams_of_inputs", None)
    early = images92.early_and_it(data)
    assert early.n_subjects == 15
    result = images92.fit(images92.pretrained(data), "imagenet", early)
    best = result.best().set_index("sector")
    assert best.r["EVC"] > best.ceiling["EVC"]  # a model may exceed it
    assert best.r["IT"] < best.ceiling["IT"]
    assert best.layer["IT"] == "features.12.squeeze"


# ---- 100 digits ---------------------------------------------------------------


@pytest.fixture(scope="module")
def digits69():
    return example("digits69")


def test_pixels_predict_voxels_as_in_the_reference(digits69, data):
    known = json.loads((data / "digits69" / "expected.json").read_text())
    images, voxels = digits69.digits(data)
    gram = digits69.pixel_gram(images)
    for alpha in (1, 10, 100):
        predicted = versa.fmri.encoding.loo_ridge(gram, voxels, [alpha]).predicted
        r = digits69.correlations(predicted, voxels)
        numbers = known[f"ridge_alpha_{alpha}"]
        assert np.median(r) == pytest.approx(numbers["voxel_loo_r_median"], abs=1e-6)
        assert np.percentile(r, 95) == pytest.approx(
            numbers["voxel_loo_r_p95"], abs=1e-6
        )
        assert r.max() == pytest.approx(numbers["voxel_loo_r_max"], abs=1e-6)


def test_more_voxels_than_by_chance(digits69, data):
    images, voxels = digits69.digits(data)
    some = voxels[:, ::10]
    row = digits69.summary("pixels", digits69.pixel_gram(images), some, [10.0], 199)
    assert 0.1 < row["above chance"] < 0.4
    shuffled = some[np.random.default_rng(1).permutation(len(some))]
    row = digits69.summary("pixels", digits69.pixel_gram(images), shuffled, [10.0], 199)
    assert row["above chance"] < 0.02


def test_network_predicts_voxels(digits69, data):
    images, voxels = digits69.digits(data)
    grams = digits69.network_grams(data, images, ["blocks.3"])
    predicted = versa.fmri.encoding.loo_ridge(grams["mobilenetv2 blocks.3"], voxels)[0]
    r = digits69.correlations(predicted, voxels)
    assert np.percentile(r, 95) == pytest.approx(0.686, abs=0.005)
    assert r.max() == pytest.approx(0.869, abs=0.005)


def test_one_subject_has_encoding_scores(digits69, data, offline_cache):
    table = digits69.one_subject(data)
    assert table["layer"].tolist() == ["conv_block_1", "conv_block_3", "fc6"]
    assert table[["median_r", "median_r2"]].notna().all(axis=None)


# ---- own data -----------------------------------------------------------------


def test_own_data_page(tmp_path, monkeypatch, offline_cache, capsys):
    """Its code runs as it stands."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("images").mkdir()
    Path("betas").mkdir()
    for k in range(12):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path("images", f"item-{k:02d}.png"))
    for subject in ("01", "02", "03", "04"):
        for sector, n_voxels in (("EarlyV", 30), ("aOTC", 20)):
            betas = rng.standard_normal((12, n_voxels))
            np.save(Path("betas", f"sub-{subject}_{sector}.npy"), betas)
    page = (DOCS / "own-data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    assert len(re.sub(r"^import .*\n", "", blocks[0], flags=re.M).split("\n")) <= 12
    namespace = {}
    for block in blocks:
        exec(block, namespace)
    printed = capsys.readouterr().out
    assert "mine: 4 subjects, 12 images" in printed
    assert "alexnet_gn_untrained" in printed
    assert versa.load_result(Path("results", "my-net.nc")).model == "my net"
    folder = versa.write_dataset(namespace["brain"], "mine")
    assert versa.read_dataset(folder).fingerprint == namespace["brain"].fingerprint


# ---- IPCL on packaged photographs ---------------------------------------------


@pytest.mark.slow
def test_ipcl_on_photographs(tmp_path, offline_cache):
    pytest.importorskip("skimage")
    photographs = example("ipcl_photographs")
    photographs.cut(tmp_path / "images")
    assert photographs.train(tmp_path, stop_after=60) == 75
    run = tmp_path / "photographs"
    stopped = pd.read_csv(run / "steps.csv")["step"].max()
    assert 60 <= stopped < 300
    assert photographs.train(tmp_path) == 0
    steps = pd.read_csv(run / "steps.csv")
    assert steps["step"].tolist() == list(range(1, 301))
    assert steps["loss"].iloc[-30:].mean() < 0.7 * steps["loss"].iloc[:30].mean()
    epochs = pd.read_csv(run / "epochs.csv").dropna(subset="knn_top1")
    untrained, trained = epochs.iloc[0], epochs.iloc[-1]
    assert untrained["epoch"] == 0
    assert trained["epoch"] == 30
    # by more than two standard errors of a share among 120 and 360 images
    assert trained["knn_top1"] > untrained["knn_top1"] + 9
    assert trained["pairs_top1"] > untrained["pairs_top1"] + 3.5
    said = photographs.compare(tmp_path)
    assert "| photographs " in said
    assert "| alexnet_gn_untrained " in said


# ---- real scans ----------------------------------------------------------------


def test_haxby(shared, capsys, monkeypatch):
    folder = shared / "data" / "haxby2001"
    module = example("haxby")
    monkeypatch.setattr("sys.argv", ["haxby.py", str(folder)])
    module.main()
    printed = (DOCS / "examples" / "haxby.txt").read_text()
    assert capsys.readouterr().out == printed
    expected = json.loads((folder / "expected.json").read_text())["slice_brain"]
    found = module.active_voxels(folder)
    known = expected["top100_active_runs1to6__reliability_runs7to12_median"]
    assert found["median r"] == pytest.approx(known, abs=1e-5)
