"""versa.fit from end to end, on small networks and brains that take no time."""

import dataclasses
import logging
import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm.calc import calc_rdm_crossnobis
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr, t
from torch import nn

import versa
from versa.fmri.encoding import debias, loo_ridge
from versa.fmri.permutation import encoded_permuted, image_orders
from versa.fmri.rdm import correlation_rdm
from versa.fmri.sectors.sector import Sector
from versa.stats.intervals import fisher_mean, fisher_z
from versa.stats.splits import split_halves
from versa.stats.tables import for_reading

N_IMAGES, SIZE = 12, 16


class Small(nn.Module):
    """Two convolutions and a read-out, 16 x 16 pixels."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.early = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(inplace=True))
            self.late = nn.Sequential(nn.Conv2d(8, 6, 3, 2), nn.ReLU())
            self.head = nn.Linear(6 * 3 * 3, 10)

    def forward(self, x):
        return self.head(self.late(self.early(x)).flatten(1))


def preprocess(image):
    pixels = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "stimuli"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        pixels = (
            rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        )
        Image.fromarray(pixels).save(path / f"item-{i:02d}.png")
    return path


@pytest.fixture
def stimuli(folder):
    return versa.StimulusSet.from_folder(folder)


@pytest.fixture
def brain(stimuli):
    rng = np.random.default_rng(1)
    pictures = np.stack(
        [np.asarray(Image.open(p)).ravel() / 255 for p in stimuli.paths]
    )
    responses = {
        sector: [
            pictures @ rng.standard_normal((pictures.shape[1], n)) / 10
            + rng.standard_normal((N_IMAGES, n))
            for _ in range(4)
        ]
        for sector, n in (("EarlyV", 30), ("aOTC", 20))
    }
    return versa.BrainDataset(
        name="small", stimuli=stimuli, subjects=list("abcd"), responses=responses
    )


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fit(brain, model=None, layers=("early", "late", "head"), **options):
    options = {"preprocess": preprocess, "progress": False, **options}
    return versa.fit(Small() if model is None else model, layers, brain, **options)


def features(stimuli, layer):
    images = torch.stack([preprocess(Image.open(path)) for path in stimuli.paths])
    small = Small().eval()
    with torch.inference_mode():
        early = small.early(images)
        late = small.late(early)
        outputs = {"early": early, "late": late, "head": small(images)}
    return outputs[layer].flatten(1).double().numpy()


def test_every_score_by_hand(brain, stimuli):
    result = fit(brain, cache=False)
    splits = split_halves(4)
    assert result.scores.shape == (3, 2, 3, 3, 2)
    for sector, responses in brain.responses.items():
        measured = np.stack([correlation_rdm(voxels) for voxels in responses])
        for layer in ("early", "late", "head"):
            x = features(stimuli, layer)
            fitted = [loo_ridge(x @ x.T, voxels).predicted for voxels in responses]
            rdms = {
                "versa": [correlation_rdm(p) for p in fitted],
                "versa-debiased": [
                    correlation_rdm(debias(p, y))
                    for p, y in zip(fitted, responses, strict=True)
                ],
                "rsa": [correlation_rdm(x)] * 4,
            }
            for method, stack in rdms.items():
                own = [
                    np.corrcoef(*pair)[0, 1]
                    for pair in zip(stack, measured, strict=True)
                ]
                scores = result.data["subject_scores"].loc[method, sector, layer]
                assert scores.values == pytest.approx(own, abs=1e-7)
                if method != "rsa":
                    kept = result.data["model_rdms"].loc[method, sector, layer].values
                    np.testing.assert_allclose(kept, stack, rtol=0, atol=2e-6)
                for j, row in enumerate(splits.members):
                    for half, who in enumerate((row, ~row)):
                        model = np.mean(
                            [r for r, w in zip(stack, who, strict=True) if w], 0
                        )
                        expected = np.corrcoef(model, measured[who].mean(axis=0))[0, 1]
                        score = result.scores.loc[method, sector, layer][j, half]
                        assert float(score) == pytest.approx(expected, abs=1e-7)
        kept = result.data["brain_rdms"].loc[sector].values
        np.testing.assert_array_equal(kept, measured.astype(np.float32))
        for j, row in enumerate(splits.members):
            halves = measured[row].mean(axis=0), measured[~row].mean(axis=0)
            assert float(result.ceiling.loc[sector][j]) == pytest.approx(
                np.corrcoef(*halves)[0, 1]
            )


@pytest.mark.parametrize("rdm", ["euclidean", "cosine"])
def test_other_distances_by_hand(brain, stimuli, rdm):
    result = fit(brain, rdm=rdm, compare_by="spearman", cache=False)
    x = features(stimuli, "late")

    def distances(patterns):
        if rdm == "cosine":
            return pdist(patterns, "cosine")
        return pdist(patterns, "sqeuclidean") / patterns.shape[1]

    for sector, responses in brain.responses.items():
        measured = np.stack([distances(voxels) for voxels in responses])
        fitted = [loo_ridge(x @ x.T, voxels).predicted for voxels in responses]
        unbiased = map(debias, fitted, responses)
        rdms = {
            "versa": np.stack([distances(p) for p in fitted]),
            "versa-debiased": np.stack([distances(p) for p in unbiased]),
            "rsa": np.stack([distances(x)] * len(responses)),
        }
        for method, stack in rdms.items():
            for j, row in enumerate(result.splits.members):
                for half, who in enumerate((row, ~row)):
                    means = stack[who].mean(axis=0), measured[who].mean(axis=0)
                    score = result.scores.loc[method, sector, "late"][j, half]
                    assert float(score) == pytest.approx(
                        spearmanr(*means).statistic, abs=1e-9
                    )


def test_crossnobis_of_a_dataset_folder(brain, tmp_path, stimuli):
    rng = np.random.default_rng(5)
    halves = {
        name: [(y + rng.normal(size=y.shape), y + 1) for y in responses]
        for name, responses in brain.responses.items()
    }
    with pytest.raises(ValueError, match=r"odd and even runs; small holds none"):
        fit(brain, rdm="crossnobis")
    folder = versa.write_dataset(
        dataclasses.replace(brain, halves=halves), tmp_path / "dataset"
    )
    with pytest.raises(ValueError, match="halves=True"):
        fit(versa.read_dataset(folder), rdm="crossnobis")
    result = fit(str(folder), rdm="crossnobis", cache=False)
    x = features(stimuli, "late")
    for sector, pairs in halves.items():
        measured = np.stack([by_rsatoolbox(*pair) for pair in pairs])
        kept = result.data["brain_rdms"].loc[sector].values
        np.testing.assert_allclose(kept, measured, rtol=1e-5, atol=1e-5)
        own = pdist(x, "sqeuclidean")
        for j, row in enumerate(result.splits.members):
            for half, who in enumerate((row, ~row)):
                expected = np.corrcoef(own, measured[who].mean(axis=0))[0, 1]
                score = result.scores.loc["rsa", sector, "late"][j, half]
                assert float(score) == pytest.approx(expected, abs=1e-9)
    for file in folder.glob("sub-*/func/*_desc-evenbetas_stat.nii"):
        file.unlink()
    with pytest.raises(ValueError, match=r"must hold betas .*no sub-a_desc-even"):
        versa.read_dataset(folder, halves=True)


def by_rsatoolbox(odd, even):
    rows = {"image": [*range(len(odd))] * 2, "half": [0] * len(odd) + [1] * len(odd)}
    dataset = Dataset(np.vstack([odd, even]), obs_descriptors=rows)
    rdms = calc_rdm_crossnobis(dataset, "image", cv_descriptor="half")
    return rdms.get_vectors()[0]


def test_measures_are_recorded_and_compared(brain):
    usual = fit(brain, layers=["late"], name="a")
    other = fit(brain, layers=["late"], name="b", compare_by="whitened")
    assert other.provenance["options"]["compare_by"] == "whitened"
    with pytest.raises(ValueError, match=r"same compare_by \(pearson and whitened\)"):
        versa.compare(usual, other)
    with pytest.raises(ValueError, match=r"rdm .*'euclid'.*euclidean"):
        fit(brain, rdm="euclid")
    with pytest.raises(ValueError, match=r"'cka' must come with rdm='euclidean'"):
        fit(brain, compare_by="cka")
    cka = fit(brain, methods=["rsa"], rdm="euclidean", compare_by="cka").layers()
    assert cka.r.between(0, 1).all()


def test_rdms_of_the_subjects_can_be_dropped(brain):
    kept, dropped = fit(brain), fit(brain, keep_rdms=False)
    assert set(kept.data) - set(dropped.data) == {"model_rdms", "brain_rdms"}
    xr.testing.assert_equal(kept.data[list(dropped.data)], dropped.data)


def test_new_images(brain, tmp_path):
    results = [fit(brain, Small(k), name=f"n{k}", generalize="both") for k in (0, 1)]
    assert results[0].provenance["options"]["generalize"] == "both"
    ends = ["ci_low_both", "ci_high_both"]
    for name in ("layers", "best"):
        table = getattr(results[0], name)()
        assert ((table[ends[0]] < table.r) & (table.r < table[ends[1]])).all()
        usual = getattr(results[0], name)(generalize="subjects")
        assert usual.equals(table.drop(columns=ends))
        images = getattr(results[0], name)(generalize="images")
        assert {"ci_low_images", "ci_high_images"} == set(images) - set(usual)
    comparison = versa.compare(results)
    pairs = comparison.pairs()
    assert (pairs["ci_low_both"] < pairs["difference"]).all()
    assert (pairs["difference"] < pairs["ci_high_both"]).all()
    assert set(pairs["df_both"]) == {3}  # of 4 subjects
    zero_inside = (pairs["ci_low_both"] < 0) & (pairs["ci_high_both"] > 0)
    assert (zero_inside == (pairs["p_both"] > 0.05)).all()
    corrected = np.minimum(1, pairs["p_both"] * comparison.family)
    assert pairs["p_corrected_both"].equals(corrected)
    assert "new subjects and new images where marked (both)" in " ".join(
        repr(comparison).split()
    )
    again = versa.load_result(results[0].save(tmp_path / "a.nc"))
    assert again.best().equals(results[0].best())
    plain = versa.compare(results, generalize="subjects")
    assert set(pairs) - set(plain.pairs()) == {
        *ends, "df_both", "p_both", "p_corrected_both", "significant_both"
    }  # fmt: skip
    assert plain.scope == (
        f"Intervals and tests are for new subjects and these {N_IMAGES} images."
    )
    with pytest.raises(ValueError, match="generalise to the same; got both, subjects"):
        versa.compare(results[0], fit(brain, Small(1), name="other"))


def test_new_images_of_one_subject(brain):
    one = fit(brain.select(subjects=["b"]), generalize="images")
    table = one.layers()
    assert (table["ci_low_images"] < table["r"]).all()
    assert one.scope() == "Intervals and tests are for new images and this one subject."
    with pytest.raises(ValueError, match="There is one subject; take 'images'"):
        one.layers(generalize="both")


def test_new_images_are_refused_where_they_cannot_be_drawn(brain):
    dropped = fit(brain, keep_rdms=False)
    with pytest.raises(ValueError, match=r"holds no RDMs.* with keep_rdms=True"):
        dropped.layers(generalize="images")
    assert dropped.layers()["explained_low"].isna().all()
    ranked = fit(brain, compare_by="spearman")
    with pytest.raises(ValueError, match="compare_by pearson, cosine only, not spearm"):
        versa.compare(ranked, generalize="both")
    with pytest.raises(ValueError, match="among subjects, images, both; got 'voxels'"):
        fit(brain).best(generalize="voxels")


def test_shares_without_each_subject_by_hand(stimuli):
    """The jackknife of r / ceiling, by plain means of halves without a subject."""
    rng = np.random.default_rng(3)
    shared = rng.random(N_IMAGES * (N_IMAGES - 1) // 2)
    rdms = {"IT": shared + rng.normal(0, 0.2, (4, shared.size))}
    brain = versa.BrainDataset("rdms", stimuli, list("abcd"), rdms=rdms)
    result = fit(brain, methods=["rsa"])
    row = result.layers().iloc[0]
    model = result.data["model_rdm"].values[0, 0, 0]
    rdms = result.data["brain_rdms"].values[0].astype(float)

    def ratio(left_out):
        scores, ceilings = [], []
        for first in result.splits.members:
            halves = [[i for i in np.flatnonzero(h) if i != left_out]
                      for h in (first, ~first)]  # fmt: skip
            means = [rdms[half].mean(axis=0) for half in halves]
            scores += [np.corrcoef(model, mean)[0, 1] for mean in means]
            ceilings.append(np.corrcoef(*means)[0, 1])
        return fisher_mean(scores) / fisher_mean(ceilings)

    whole, each = ratio(None), np.array([ratio(i) for i in range(4)])
    reach = t.ppf(0.975, 3) * np.sqrt(3 * each.var())
    signed = [x * abs(x) for x in (whole, whole - reach, whole + reach)]
    found = row[["explained", "explained_low", "explained_high"]].tolist()
    assert found == pytest.approx(signed, rel=1e-5)
    assert row.reached == pytest.approx(row.r * abs(row.r) / row.ceiling)


def test_a_permutation_is_a_fit_to_brains_with_permuted_images(brain):
    result = fit(brain, permutations=3)
    orders = image_orders(N_IMAGES, 3)
    for k, order in enumerate(orders):
        moved = {
            sector: [voxels[np.argsort(order)] for voxels in responses]
            for sector, responses in brain.responses.items()
        }
        other = fit(replace(brain, responses=moved))
        expected = fisher_z(other.scores).mean(axis=(3, 4))
        np.testing.assert_allclose(
            result.data["permuted"][..., k], expected, rtol=0, atol=1e-10
        )
        best = np.arctanh(other.best()["r"])
        null = result.data["permuted_best"][..., k].transpose("sector", "methods")
        np.testing.assert_allclose(np.ravel(null), best, rtol=0, atol=1e-10)


def test_permutations_change_nothing_else_and_are_kept(brain, cache, monkeypatch):
    plain = fit(brain)
    result = fit(brain, permutations=3)
    assert set(result.data) - set(plain.data) == {"permuted", "permuted_best"}
    assert result.scope().startswith(plain.scope())
    assert "for these subjects and images" in result.scope()
    xr.testing.assert_identical(
        result.data[list(plain.data)].drop_attrs(), plain.data.drop_attrs()
    )
    new = ["chance", "z", "p_perm", "p_perm_max"]
    for name in ("layers", "best"):
        with_, without = (getattr(one, name)() for one in (result, plain))
        assert [c for c in with_ if c not in without] == new
    monkeypatch.setattr("versa.fmri.scoring.encoded_permuted", None)
    again = fit(brain, permutations=3)
    assert again.data.drop_attrs().identical(result.data.drop_attrs())


def test_permutations_go_on_where_they_were_stopped(brain, monkeypatch):
    monkeypatch.setattr("versa.fmri.scoring._BLOCK", 2)
    done = []

    def stop(*arguments, **options):
        done.append(1)
        if len(done) == 5:
            raise KeyboardInterrupt
        return encoded_permuted(*arguments, **options)

    monkeypatch.setattr("versa.fmri.scoring.encoded_permuted", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(brain, permutations=6)
    whole = fit(brain, permutations=6)
    assert len(done) == 1 + 3 * 2 * 3  # the fifth twice
    fewer = fit(brain, permutations=4)
    assert len(done) == 1 + 3 * 2 * 3
    np.testing.assert_array_equal(
        fewer.data["permuted"], whole.data["permuted"][..., :4]
    )


def test_permutations_of_rdms(brain):
    rdms = {
        sector: np.stack([correlation_rdm(voxels) for voxels in responses])
        for sector, responses in brain.responses.items()
    }
    of_rdms = replace(brain, responses=None, rdms=rdms)
    result = fit(of_rdms, methods=["rsa"], permutations=20)
    from_voxels = fit(brain, methods=["rsa"], permutations=20)
    xr.testing.assert_allclose(result.data["permuted"], from_voxels.data["permuted"])
    assert (result.layers()["p_perm"] >= 1 / 21).all()


def test_few_permutations_are_warned_about(brain, caplog):
    with caplog.at_level(logging.WARNING, "versa"):
        fit(brain, methods=["rsa"], permutations=4)
    assert "with 4 permutations no p is below 0.2. Take 20 or more" in caplog.text


def test_result_tells_what_was_done(brain, stimuli):
    result = fit(brain, name="my net", alphas=[1.0, 10.0], alpha_per_voxel=False)
    assert result.model == "my net"
    assert result.dataset == "small"
    assert result.sectors == ("EarlyV", "aOTC")
    assert result.layer_names == ("early", "late", "head")
    assert result.subjects == tuple("abcd")
    assert result.stimuli == tuple(zip(stimuli.names, stimuli.hashes, strict=True))
    options = result.provenance["options"]
    assert options["alphas"] == [1.0, 10.0]
    assert options["alpha_per_voxel"] is False
    assert result.provenance["versions"]["torch"].startswith(torch.__version__[:4])
    assert result.data["n_voxels"].values.tolist() == [[30] * 4, [20] * 4]
    assert result.data["n_units"].values.tolist() == [8 * 7 * 7, 6 * 3 * 3, 10]
    assert result.data["alpha_at_largest"].shape == (2, 3)


def test_cache_gives_the_same_and_is_used(brain, cache, monkeypatch):
    first = fit(brain)
    monkeypatch.setattr("versa.fmri.scoring.encoded_rdms", None)
    monkeypatch.setattr("versa.models.grams.grams_of_inputs", None)
    second = fit(brain)
    assert second.data.drop_attrs().identical(first.data.drop_attrs())
    assert len(list(cache.rglob("*.npz"))) == 3 + 3 * 2 + 1  # and the thumbnails


def test_other_layers_are_taken_from_the_cache(brain, monkeypatch):
    fit(brain)
    monkeypatch.setattr("versa.fmri.scoring.encoded_rdms", None)
    monkeypatch.setattr("versa.models.grams.grams_of_inputs", None)
    assert fit(brain, layers=["head", "early"]).layer_names == ("head", "early")


def test_all_images_of_another_mode_are_named(brain, folder):
    for name in ("item-00", "item-07"):
        Image.open(folder / f"{name}.png").convert("L").save(folder / f"{name}.png")
    with pytest.raises(
        ValueError, match=r"item-00 is L, item-07 is L.*--convert-images"
    ):
        fit(brain)


def test_no_cache_leaves_nothing(brain, cache, tmp_path):
    fit(brain, cache=False)
    assert not cache.exists()
    fit(brain, cache=tmp_path / "elsewhere")
    assert not cache.exists()
    assert list((tmp_path / "elsewhere").rglob("*.npz"))


def test_damaged_cache_is_computed_again(brain, cache, caplog):
    first = fit(brain)
    for path in cache.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-150])
    with caplog.at_level(logging.WARNING, "versa"):
        second = fit(brain)
    assert "is damaged" in caplog.text
    assert second.data.drop_attrs().identical(first.data.drop_attrs())


@pytest.mark.parametrize(
    "change", ["weights", "preprocess", "image", "betas", "alphas"]
)
def test_cache_follows_content(brain, folder, change):
    first = fit(brain)
    model, options = Small(), {}
    if change == "weights":
        with torch.no_grad():
            model.early[0].weight[0] += 0.5
    elif change == "preprocess":
        options["preprocess"] = lambda image: preprocess(image).flip(2)
    elif change == "image":
        Image.effect_noise((SIZE, SIZE), 90).convert("RGB").save(folder / "item-05.png")
    elif change == "betas":
        changed = {
            s: [v + np.eye(N_IMAGES, v.shape[1]) for v in r]
            for s, r in brain.responses.items()
        }
    if change in ("image", "betas"):
        brain = versa.BrainDataset(
            name="small",
            stimuli=versa.StimulusSet.from_folder(folder),
            subjects=brain.subjects,
            responses=changed if change == "betas" else brain.responses,
        )
    if change == "alphas":
        options["alphas"] = "sklearn"
    second = fit(brain, model, **options)
    scores = (first.scores.loc["versa"], second.scores.loc["versa"])
    assert not np.allclose(*scores)
    classic = (first.scores.loc["rsa"], second.scores.loc["rsa"])
    assert np.allclose(*classic) == (change == "alphas")
    uncached = fit(brain, model, **options, cache=False)
    assert second.data.drop_attrs().identical(uncached.data.drop_attrs())


def test_image_changed_after_the_dataset_was_loaded(brain, folder):
    Image.effect_noise((SIZE, SIZE), 90).convert("RGB").save(folder / "item-05.png")
    with pytest.raises(ValueError, match="item-05"):
        fit(brain)


def test_scaling_units_changes_nothing(brain):
    scaled = versa.BrainDataset(
        name="small",
        stimuli=brain.stimuli,
        subjects=brain.subjects,
        responses={s: [100 * v for v in r] for s, r in brain.responses.items()},
    )
    np.testing.assert_allclose(fit(scaled).scores, fit(brain).scores, atol=1e-9)


def test_standardize_is_zscoring_over_images(brain, stimuli):
    result = fit(brain, standardize=True, methods=("versa", "rsa"))
    x = features(stimuli, "late")
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    fitted = [
        loo_ridge(z @ z.T, voxels).predicted for voxels in brain.responses["aOTC"]
    ]
    rdm = np.mean([correlation_rdm(p) for p in fitted], axis=0)
    np.testing.assert_allclose(
        result.data["model_rdm"].loc["versa", "aOTC", "late"], rdm, atol=1e-6
    )
    np.testing.assert_allclose(
        result.scores.loc["rsa"], fit(brain).scores.loc["rsa"], atol=1e-12
    )


def test_given_splits(brain):
    splits = versa.split_halves(4, n_splits=2, seed=5)
    result = fit(brain, splits=splits)
    assert result.splits == splits
    with pytest.raises(ValueError, match="dataset's 4 subjects; got splits of 6"):
        fit(brain, splits=versa.split_halves(6))


def test_layers_by_either_name(brain):
    given = {"preprocess": preprocess, "progress": False, "methods": ["rsa"]}
    named = versa.fit(Small(), dataset=brain, layers=["late"], **given)
    assert named.layer_names == ("late",)
    with pytest.raises(ValueError, match="layers must be left out beside layer_list"):
        versa.fit(Small(), ["late"], brain, layers=["late"], **given)


def test_results_as_users_ask_them(brain, tmp_path):
    options = {"methods": ["rsa"], "progress": False}
    result = fit(brain, **options)
    square = result.rdms("aOTC", "late")
    assert square.shape == (N_IMAGES, N_IMAGES)
    assert (np.diag(square) == 0).all()
    pairs = square[np.triu_indices(N_IMAGES, 1)]
    vector = result.data["model_rdm"].loc["rsa", "aOTC", "late"]
    np.testing.assert_allclose(pairs, vector)
    theirs = RDMs(square[None])  # rsatoolbox's, which takes it as it is
    np.testing.assert_allclose(theirs.dissimilarities[0], vector)
    brains = result.rdms("aOTC")[np.triu_indices(N_IMAGES, 1)]
    np.testing.assert_allclose(brains, result.data["brain_rdm"].loc["aOTC"])
    with pytest.raises(ValueError, match="sector must be among"):
        result.rdms("FFA")
    with pytest.raises(ValueError, match="layer must be among"):
        result.rdms("aOTC", "later")
    both = versa.compare(result, fit(brain, name="other", **options))
    for model, rdm in both.rdms("aOTC").items():
        (one,) = [r for r in both.results if r.model == model]
        best = one.best().query("sector == 'aOTC'")["layer"].iloc[0]
        np.testing.assert_array_equal(rdm, one.rdms("aOTC", best))
    names = [path.name for path in result.to_csv(tmp_path / "one")]
    assert names == ["layers.csv", "best.csv"]
    names = [path.name for path in both.to_csv(tmp_path / "two")]
    assert names == ["layers.csv", "best.csv", "pairs.csv"]
    for one in (result, both):
        assert one.plot(sector="aOTC").get_figure() is not None
        path = one.report(tmp_path / f"{type(one).__name__}.html")
        assert "<html" in path.read_text("utf-8")


def test_rdms_only(brain, stimuli):
    rdms = {
        sector: np.stack([correlation_rdm(voxels) for voxels in responses])
        for sector, responses in brain.responses.items()
    }
    only = versa.BrainDataset(
        name="rdms", stimuli=stimuli, subjects=brain.subjects, rdms=rdms
    )
    with pytest.raises(
        ValueError, match=r"methods must be rsa for rdms, .* Pass methods"
    ):
        fit(only, methods=["versa", "rsa"])
    assert fit(only).methods == ("rsa",)  # the default
    result = fit(only, methods=("rsa",))
    np.testing.assert_allclose(
        result.scores, fit(brain, methods=["rsa"]).scores, atol=1e-12
    )
    assert result.null.isnull().all()


def test_one_subject(brain, tmp_path):
    one = brain.select(subjects=["b"])
    result = fit(one)
    assert result.scores.shape == (3, 2, 3, 1, 1)
    own = result.data["subject_scores"].values[..., 0]
    np.testing.assert_allclose(result.scores.values[..., 0, 0], own, atol=1e-12)
    full = fit(brain).data["subject_scores"].sel(subject="b").values
    np.testing.assert_allclose(own, full, atol=1e-12)
    layers, best = result.layers(), result.best()
    blank = ["ci_low", "ci_high_subjects", "ceiling", "explained"]
    assert layers[blank].isna().all(axis=None)
    np.testing.assert_allclose(layers["r"], own.transpose(1, 2, 0).ravel(), atol=1e-12)
    np.testing.assert_allclose(best["r"], own.max(axis=2).T.ravel(), atol=1e-12)
    assert best[["chosen", *blank]].isna().all(axis=None)
    assert set(best["choices"]) == {"-"}
    assert result.provenance["warnings"][0].startswith("one subject has no halves")
    assert "1 subject, 12 images, no half-splits" in repr(result)
    again = versa.load_result(result.save(tmp_path / "one.nc"))
    assert again.best().equals(best)
    assert again.splits == split_halves(1)


def test_differences_of_one_subject_have_no_test(brain):
    one = brain.select(subjects=["b"])
    results = [fit(one, Small(k), name=f"net{k}") for k in range(2)]
    comparison = versa.compare(results)
    pairs = comparison.pairs()
    r_a, r_b = (result.best()["r"].to_numpy() for result in results)
    assert len(pairs) == 6
    np.testing.assert_allclose(
        np.sort(pairs["difference"]), np.sort(r_a - r_b), atol=1e-12
    )
    assert pairs[["t", "p", "p_subjects", "p_corrected"]].isna().all(axis=None)
    assert not pairs[["significant", "significant_subjects"]].any(axis=None)
    assert set(for_reading(pairs)["sig. Bonf."]) == {"-"}


@pytest.mark.parametrize("n_subjects", [2, 3])
def test_few_subjects(brain, n_subjects):
    result = fit(brain.select(subjects=list("abcd")[:n_subjects]))
    assert result.splits.n_splits == (1 if n_subjects == 2 else 3)
    layers = result.layers()
    assert layers[["r", "ceiling", "ci_low_subjects"]].notna().all(axis=None)
    assert f"{n_subjects} subjects" in repr(result)


def test_bad_voxels(brain):
    responses = {s: [v.copy() for v in r] for s, r in brain.responses.items()}
    responses["aOTC"][2][3, 7] = np.nan
    responses["aOTC"][2][:, 8] = 1.5
    dirty = versa.BrainDataset(
        name="dirty",
        stimuli=brain.stimuli,
        subjects=brain.subjects,
        responses=responses,
    )
    with pytest.raises(ValueError, match=r"aOTC.*\bc\b"):
        fit(dirty)
    result = fit(dirty, drop_bad_voxels=True)
    assert result.data["n_voxels"].loc["aOTC"].values.tolist() == [20, 20, 18, 20]
    assert np.isfinite(result.scores).all()


def test_layer_without_variance(brain, caplog):
    model = Small()
    with torch.no_grad():
        model.late[0].weight.zero_()
        model.late[0].bias.fill_(-1.0)
    with caplog.at_level(logging.WARNING, "versa"):
        result = fit(brain, model, layers=["early", "late"])
    assert "layer late has the same value in all units" in caplog.text
    assert result.scores.loc["rsa", :, "late"].isnull().all()
    np.testing.assert_allclose(
        result.scores.loc["versa", :, "late"], result.null, atol=1e-9
    )
    assert result.scores.loc["versa-debiased", :, "late"].isnull().all()
    best = result.best()
    assert (best[best.method == "rsa"].layer == "early").all()


def test_null_is_reported_and_warned_about(brain, caplog):
    rng = np.random.default_rng(4)
    noise = versa.BrainDataset(
        name="noise",
        stimuli=brain.stimuli,
        subjects=brain.subjects,
        responses={"aOTC": [rng.standard_normal((N_IMAGES, 40)) for _ in range(4)]},
    )
    with caplog.at_level(logging.WARNING, "versa"):
        result = fit(noise, alphas=[1e9])
    assert "aOTC: the versa score of early, late, head is mostly" in caplog.text
    assert result.provenance["warnings"] == [
        record.getMessage() for record in caplog.records
    ]
    assert result.null.mean() > 0.5
    np.testing.assert_allclose(
        result.scores.loc["versa"].mean("layer"), result.null, atol=1e-4
    )


def test_a_ceiling_of_noise_is_warned_about_and_gives_no_share(stimuli, caplog):
    rng = np.random.default_rng(1)
    pairs = N_IMAGES * (N_IMAGES - 1) // 2
    shared = rng.random(pairs)
    sound = shared + rng.normal(0, 0.1, (6, pairs))
    rdms = {"noise": rng.random((6, pairs)), "sound": sound}
    brain = versa.BrainDataset("rdms", stimuli, list("abcdef"), rdms=rdms)
    with caplog.at_level(logging.WARNING, "versa"):
        result = fit(brain, methods=("rsa",))
    (sentence,) = result.provenance["warnings"]
    assert sentence.startswith("noise: the noise ceiling, r = ")
    assert "cannot be told from 0" in sentence
    assert sentence in caplog.text
    for table in (result.layers(), result.best()):
        table = table.set_index("sector")
        assert table.loc[["noise"], "explained"].isna().all()
        assert table.loc[["sound"], "explained"].notna().all()


def test_two_subjects_have_no_interval_of_their_ceiling(stimuli):
    rng = np.random.default_rng(1)
    pairs = N_IMAGES * (N_IMAGES - 1) // 2
    rdms = {"IT": rng.random(pairs) + rng.normal(0, 0.1, (2, pairs))}
    brain = versa.BrainDataset("rdms", stimuli, ["a", "b"], rdms=rdms)
    result = fit(brain, methods=("rsa",))
    assert "too uncertain with 2 subjects" in result.provenance["warnings"][0]
    assert result.layers()["explained"].isna().all()


def test_a_layer_without_geometry_is_named(brain):
    class Dead(Small):
        def forward(self, x):
            return self.head(0 * self.late(self.early(x)).flatten(1))

    (sentence,) = [
        text
        for text in fit(brain, Dead()).provenance["warnings"]
        if "undefined" in text
    ]
    assert sentence.startswith("the score of head is undefined for ")
    assert "rsa in EarlyV" in sentence
    assert "early" not in sentence


@pytest.mark.parametrize("factor", [1e-130, 2.0**-400, 1e130, 1e-5])
def test_scores_do_not_depend_on_the_unit_of_the_betas(brain, factor):
    scaled = versa.BrainDataset(
        name="scaled",
        stimuli=brain.stimuli,
        subjects=brain.subjects,
        responses={
            name: [factor * voxels for voxels in responses]
            for name, responses in brain.responses.items()
        },
    )
    expected, found = fit(brain), fit(scaled)
    for name in ("scores", "null", "ceiling", "model_rdm", "debiased_r"):
        np.testing.assert_allclose(found.data[name], expected.data[name], atol=1e-9)


@pytest.mark.parametrize(
    ("alphas", "layers"),
    [([1e-14, 1.0], "early, late, head"), ([1e-6, 1.0], None), ("auto", None)],
)
def test_penalties_that_lose_digits_are_warned_about(brain, alphas, layers):
    warned = fit(brain, alphas=alphas).provenance["warnings"]
    found = [text for text in warned if text.startswith("alphas of ")]
    assert len(found) == (layers is not None)
    if layers:
        assert layers in found[0]


def test_memory_is_announced(brain, caplog):
    with caplog.at_level(logging.INFO, "versa"):
        fit(brain)
    assert "small: 12 images, 4 subjects; about 0 MB for encoding" in caplog.text
    assert "3 layers, 12 images; about 0 MB for features beside the" in caplog.text


def test_nothing_is_left_changed(brain):
    model = Small().train()
    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(brain, model)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["vresa"]}, "method must be among versa, .* Did you mean versa"),
        ({"methods": []}, "methods must be one or more .*; got none"),
        ({"methods": ["rsa", "rsa"]}, "methods must be unique; repeated: 'rsa'"),
        ({"sectors": ["V4"]}, r"sector must be among EarlyV, aOTC; got 'V4'\."),
        ({"alphas": [0.0]}, "alphas must be positive"),
        ({"layers": ["erly"]}, "erly.*Did you mean early"),
        ({"layers": []}, "at least one layer"),
        ({"preprocess": None}, "preprocess must"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"permutations": -1}, "permutations must be a whole number of 0 or more"),
        ({"permutations": 2.5}, "permutations must be a whole number of 0 or more"),
        ({"permutations": True}, "permutations must be a whole number of 0 or more"),
        ({"device": "cuda:99"}, "device"),
        ({"generalize": "voxels"}, "generalize must be among subjects, images, both"),
        ({"generalize": "both", "keep_rdms": False}, "keep_rdms must be True to gener"),
    ],
)
def test_refuses(brain, options, message):
    with pytest.raises(ValueError, match=message):
        fit(brain, **options)


def test_responses_and_rdms_without_variance(brain):
    responses = {s: [v.copy() for v in r] for s, r in brain.responses.items()}
    responses["aOTC"][1][4] = 2.5
    flat = versa.BrainDataset(
        name="flat", stimuli=brain.stimuli, subjects=brain.subjects, responses=responses
    )
    with pytest.raises(ValueError, match="aOTC of subject b those to item-04 do not"):
        fit(flat)
    rdms = np.random.default_rng(0).uniform(size=(4, 66))
    rdms[2] = 0.5
    flat = versa.BrainDataset(
        name="flat", stimuli=brain.stimuli, subjects=brain.subjects, rdms={"IT": rdms}
    )
    with pytest.raises(ValueError, match="in IT those of subjects c do not"):
        fit(flat, methods=["rsa"])


def test_random_preprocess_is_not_cached(brain, cache, caplog):
    rng = np.random.default_rng(0)

    def jitter(image):
        return preprocess(image) + rng.normal(0, 0.3)

    first = fit(brain, preprocess=jitter)
    assert "preprocess gives another result every time" in caplog.text
    second = fit(brain, preprocess=jitter)
    assert not np.allclose(first.scores.loc["rsa"], second.scores.loc["rsa"])


def test_cache_sees_every_image(brain, folder):
    """The first image is blank: two preprocessings agree on it, not on the others."""
    Image.new("RGB", (SIZE, SIZE), "grey").save(folder / "item-00.png")
    brain = versa.BrainDataset(
        name="small",
        stimuli=versa.StimulusSet.from_folder(folder),
        subjects=brain.subjects,
        responses=brain.responses,
    )
    fit(brain)

    def mirrored(image):
        return preprocess(image).flip(2)

    second = fit(brain, preprocess=mirrored)
    uncached = fit(brain, preprocess=mirrored, cache=False)
    np.testing.assert_array_equal(second.scores, uncached.scores)


@pytest.mark.parametrize("layers", [None, "leaf"])
def test_trial_pass_uses_a_stimulus(brain, layers):
    """A network of one input size, with a preprocessing that does not resize."""
    assert fit(brain, layers=layers).layer_names[-1] == "head"


def test_options_are_checked_although_everything_is_cached(brain):
    fit(brain)
    with pytest.raises(ValueError, match="device must exist"):
        fit(brain, device="quantum")
    with pytest.raises(ValueError, match="batch_size must be 1 or more"):
        fit(brain, batch_size=-7)


def test_too_few_voxels(brain):
    thin = versa.BrainDataset(
        name="thin",
        stimuli=brain.stimuli,
        subjects=brain.subjects,
        responses={"aOTC": [v[:, :2] for v in brain.responses["aOTC"]]},
    )
    with pytest.raises(
        ValueError, match=r"at least 3 voxels .* aOTC of subject a has 2"
    ):
        fit(thin)


def test_paper_data_are_asked_for_politely():
    with pytest.raises(ValueError, match=r"fetch orient.*simulated-orientation"):
        versa.fit(Small(), preprocess=preprocess)


def test_permutations_of_one_subject(brain):
    one = brain.select(subjects=["a"])
    result = fit(one, permutations=3)
    order = image_orders(N_IMAGES, 3)[2]
    moved = {s: [r[0][np.argsort(order)]] for s, r in one.responses.items()}
    other = fit(replace(one, responses=moved))
    expected = fisher_z(other.scores).mean(axis=(3, 4))
    np.testing.assert_allclose(result.data["permuted"][..., 2], expected, atol=1e-10)
    highest = result.data["permuted"].max("layer")
    np.testing.assert_allclose(result.data["permuted_best"], highest, atol=1e-12)
    assert result.best()["p_perm"].between(0.25, 1).all()


def with_places(brain, n_grid=5):
    """The dataset with masks and odd/even reliabilities of its voxels."""
    rng = np.random.default_rng(3)
    sectors, reliability = {}, {}
    for name, responses in brain.responses.items():
        sectors[name], reliability[name] = [], []
        for row, voxels in enumerate(responses):
            n_voxels = voxels.shape[1]
            mask = np.zeros((n_grid, n_grid, n_grid + row), dtype=bool)
            half = mask[:2] if name == "EarlyV" else mask[2:]
            where = rng.choice(half.size, n_voxels, replace=False)
            half.ravel()[where] = True  # a view of the mask
            affine = np.diag([2.0, 2.0, 3.0, 1.0])
            sectors[name].append(Sector(name, mask, affine, "individual"))
            reliability[name].append(rng.uniform(-0.2, 0.9, n_voxels))
    return replace(brain, sectors=sectors, reliability=reliability, space="individual")


def test_voxel_scores_end_to_end(brain, stimuli, tmp_path, cache):
    brain = with_places(brain)
    result = fit(brain, voxel_scores=True)
    again = fit(brain, voxel_scores=True)  # from the cache
    xr.testing.assert_identical(result.data.drop_attrs(), again.data.drop_attrs())
    table = result.encoding()
    assert len(table) == 2 * 3 * 4
    for row in table.itertuples():
        subject = list("abcd").index(row.subject)
        y = brain.responses[row.sector][subject]
        x = features(stimuli, row.layer)
        p = debias(loo_ridge(x @ x.T, y).predicted, y)
        r = [np.corrcoef(p[:, v], y[:, v])[0, 1] for v in range(y.shape[1])]
        r2 = 1 - ((y - p) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
        assert row.n_voxels == y.shape[1]
        assert row.median_r == pytest.approx(np.median(r), abs=1e-6)
        assert row.median_r2 == pytest.approx(np.median(r2), abs=1e-6)
        odd_even = brain.reliability[row.sector][subject]
        ceiling = np.sqrt(np.maximum(2 * odd_even / (1 + odd_even), 0))
        assert row.median_ceiling == pytest.approx(np.median(ceiling), abs=1e-6)
        known = ceiling > 0.3
        share = np.array(r)[known] / ceiling[known]
        assert row.n_reliable == known.sum()
        assert row.median_normalized == pytest.approx(np.median(share), abs=1e-5)
        mask = brain.sectors[row.sector][subject].mask
        image = result.voxel_map(row.layer, row.subject, sector=row.sector)
        nibabel.save(image, tmp_path / "map.nii.gz")
        image = nibabel.load(tmp_path / "map.nii.gz")
        volume = image.get_fdata()
        np.testing.assert_allclose(volume[mask], r, atol=1e-6)
        assert np.isnan(volume[~mask]).all()
        assert volume.shape == mask.shape
        np.testing.assert_array_equal(image.affine, np.diag([2.0, 2.0, 3.0, 1.0]))
    loaded = versa.load_result(result.save(tmp_path / "voxels.nc"))
    assert loaded.encoding().equals(table)
    both = loaded.voxel_map("early", "c").get_fdata()
    inside = brain.sectors["EarlyV"][2].mask | brain.sectors["aOTC"][2].mask
    np.testing.assert_array_equal(np.isfinite(both), inside)
    best = loaded.best_layer_map("c")
    stacked = np.stack(
        [loaded.voxel_map(layer, "c").get_fdata() for layer in result.layer_names]
    )
    expected = np.where(
        stacked[:, inside].max(axis=0) > 0, stacked[:, inside].argmax(axis=0) + 1, 0
    )
    np.testing.assert_array_equal(np.asarray(best.dataobj)[inside], expected)
    assert not np.asarray(best.dataobj)[~inside].any()
    for what in ("r2", "ceiling", "normalized"):
        assert np.isfinite(loaded.voxel_map("late", "a", what=what).get_fdata()).any()


def test_voxel_scores_refused(brain):
    result = fit(brain)
    assert "voxel_r" not in result.data
    for ask in (result.encoding, lambda: result.voxel_map("early", "a")):
        with pytest.raises(ValueError, match="Fit again with voxel_scores=True"):
            ask()
    with pytest.raises(ValueError, match="voxel_scores must come with a method"):
        fit(brain, methods=["rsa"], voxel_scores=True)
    result = fit(brain, voxel_scores=True)
    assert "median_ceiling" not in result.encoding()
    with pytest.raises(ValueError, match="voxels with a place in the head"):
        result.voxel_map("early", "a")
    with pytest.raises(ValueError, match="needs the reliability of the voxels"):
        result.voxel_map("early", "a", what="ceiling")
    with pytest.raises(ValueError, match="layer must be among early, late, head"):
        result.voxel_map("earli", "a")


def test_scores_of_single_subjects(brain):
    result = fit(brain)
    table = result.by_subject()
    assert len(table) == 2 * 3 * 3 * 4
    for subject in brain.subjects:
        alone = fit(brain.select(subjects=[subject])).layers()
        mine = table[table["subject"] == subject]
        np.testing.assert_allclose(mine["r"], alone["r"], atol=1e-12)


def test_voxels_against_permutations(brain, tmp_path):
    result = fit(brain, voxel_scores=True, permutations=39)
    table = result.encoding()
    order = image_orders(N_IMAGES, 39)[7]
    moved = {
        sector: [voxels[np.argsort(order)] for voxels in responses]
        for sector, responses in brain.responses.items()
    }
    other = fit(replace(brain, responses=moved), voxel_scores=True).encoding()
    permuted = result.data["permuted_voxels"].values
    np.testing.assert_allclose(
        permuted[..., 7].ravel(), other["median_r"], rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(table["chance"], permuted.mean(axis=3).ravel())
    observed = table["median_r"].to_numpy().reshape(2, 3, 4)
    reached = (permuted >= observed[..., None]).sum(axis=3)
    np.testing.assert_allclose(table["p_perm_subject"], (reached.ravel() + 1) / 40)
    means = permuted.mean(axis=2) >= observed.mean(axis=2)[..., None]
    expected = np.repeat((means.sum(axis=2) + 1) / 40, 4)
    np.testing.assert_allclose(table["p_perm"], expected)
    assert (table["p_perm_max"] >= table["p_perm"]).all()
    again = versa.load_result(result.save(tmp_path / "voxels.nc"))
    assert again.encoding().equals(table)
