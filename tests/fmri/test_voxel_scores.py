"""Encoding scores of voxels, against scikit-learn's predictions and numpy."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from versa.fmri.betas import ConditionBetas, dataset_from_betas
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.encoding import debias, fold_means, loo_ridge
from versa.fmri.reliability import spearman_brown, voxel_ceiling, voxel_reliability
from versa.fmri.sectors.sector import Sector
from versa.fmri.voxel_scores import voxel_scores

ALPHAS = [0.1, 10.0, 1000.0]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((14, 30))
    y = x[:, :6] + 3 * rng.standard_normal((14, 6)) + 100
    return x, y


def test_against_scikit_learn_and_numpy(data):
    x, y = data
    predicted = np.empty_like(y)
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        fold = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(x[rest], y[rest])
        # the common mean in place of the fold's: the intercept moves, the weights stay
        shift = y.mean(axis=0) - y[rest].mean(axis=0)
        predicted[i] = fold.predict(x[i : i + 1])[0] + shift
    by_hand = [np.corrcoef(predicted[:, v], y[:, v])[0, 1] for v in range(y.shape[1])]
    explained = 1 - ((y - predicted) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    ours = debias(loo_ridge(x @ x.T, y, ALPHAS).predicted, y)
    r, r2 = voxel_scores(ours, y)
    np.testing.assert_allclose(r, by_hand, rtol=0, atol=1e-10)
    np.testing.assert_allclose(r2, explained, rtol=0, atol=1e-10)


def test_an_encoder_that_learned_nothing(data):
    _, y = data
    np.testing.assert_allclose(voxel_scores(fold_means(y), y).r, -1.0)
    r, r2 = voxel_scores(debias(fold_means(y), y), y)
    assert r.tolist() == [0.0] * 6
    np.testing.assert_allclose(r2, 0.0, atol=1e-12)
    loo = loo_ridge(np.ones((14, 14)), y, ALPHAS).predicted  # constant features
    assert voxel_scores(debias(loo, y), y).r.tolist() == [0.0] * 6


def test_chance_is_0_with_one_penalty_and_below_0_with_a_choice():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((30, 50)), rng.standard_normal((30, 2000))
    medians = {}
    for name, alphas in (("one", [100.0]), ("chosen", "auto")):
        predicted = debias(loo_ridge(x @ x.T, y, alphas).predicted, y)
        r, r2 = voxel_scores(predicted, y)
        medians[name] = np.median(r)
        assert np.median(r2) < 0
        products = ((predicted - predicted.mean(0)) * (y - y.mean(0))).mean(0)
        assert abs(products.mean()) < 3 * products.std() / np.sqrt(2000)
    assert abs(medians["one"]) < 0.03
    assert -0.35 < medians["chosen"] < -0.15


def test_edges(data):
    _, y = data
    constant = y.copy()
    constant[:, 2] = 7.0
    r, r2 = voxel_scores(y, constant)
    assert np.isnan([r[2], r2[2]]).all()
    assert np.isfinite(np.delete(r, 2)).all()
    with pytest.raises(ValueError, match="of one shape, with at least 2 images"):
        voxel_scores(y, y[:, :2])


def test_ceiling_is_the_root_of_spearman_brown():
    rng = np.random.default_rng(2)
    signal = rng.standard_normal((400, 50))
    runs = signal + 2 * rng.standard_normal((2, 400, 50))
    reliability = voxel_reliability(*runs)
    ceiling = voxel_ceiling(reliability)
    np.testing.assert_allclose(ceiling**2, spearman_brown(reliability))
    # what it estimates: the correlation of the mean over runs with the signal
    true = [np.corrcoef(runs.mean(0)[:, v], signal[:, v])[0, 1] for v in range(50)]
    assert np.mean(ceiling) == pytest.approx(np.mean(true), abs=0.02)
    assert np.isnan(voxel_ceiling([np.nan]))


def test_ceilings_of_haxby_by_hand(shared):
    folder = shared / "data" / "haxby2001"
    with np.load(folder / "derivatives" / "betas_slice.npz") as file:
        runs = file["betas"].astype(float)
    odd, even = runs[0::2].mean(axis=0), runs[1::2].mean(axis=0)
    n_images, n_voxels = odd.shape
    names = [f"image{i}" for i in range(n_images)]
    mask = np.zeros((n_voxels, 2, 1), dtype=bool)
    mask[:, 1] = True
    betas = ConditionBetas(
        "01", names, runs.mean(axis=0), mask, np.eye(4), "individual",
        odd=odd, even=even,
    )  # fmt: skip
    sector = Sector("slice", mask, np.eye(4), "individual")
    images = StimulusSet(names, [f"{n}.png" for n in names], ["0" * 64] * n_images)
    dataset = dataset_from_betas("haxby", [betas], {"slice": [sector]}, images)
    (reliability,) = dataset.reliability["slice"]
    for v in range(0, n_voxels, 7):
        r = np.corrcoef(odd[:, v], even[:, v])[0, 1]
        expected = np.sqrt(2 * r / (1 + r)) if r > 0 else 0.0
        assert voxel_ceiling(reliability)[v] == pytest.approx(expected, abs=1e-10)
