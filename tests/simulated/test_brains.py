import numpy as np
import pytest

from versa.fmri.ceilings import noise_ceiling
from versa.fmri.rdm import correlation_rdm, rdm_from_covariance
from versa.simulated.brains import (
    DESIGNS,
    pattern_covariance,
    simulate_responses,
    simulated_sectors,
)
from versa.stats.intervals import fisher_mean
from versa.stats.splits import split_halves


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(1.0, 1.0, (20, 60))


def test_covariance_is_that_of_classic_rsa(features):
    covariance = pattern_covariance(features @ features.T, features.sum(axis=1), 60)
    np.testing.assert_allclose(
        rdm_from_covariance(covariance), correlation_rdm(features), atol=1e-12
    )


@pytest.mark.parametrize("ceiling", [0.9, 0.6, 0.2])
def test_ceiling_is_reached(features, ceiling):
    responses = simulate_responses(
        features @ features.T, n_subjects=6, n_voxels=80, ceiling=ceiling, seed=1
    )
    rdms = [correlation_rdm(voxels) for voxels in responses]
    assert fisher_mean(noise_ceiling(rdms, split_halves(6))) == pytest.approx(
        ceiling, abs=1e-5
    )


def test_voxels_have_the_covariance_of_the_layer(features):
    gram = features @ features.T
    (voxels,) = simulate_responses(
        gram, n_subjects=1, n_voxels=200_000, n_components=None
    )
    inner = voxels @ voxels.T
    np.testing.assert_allclose(
        inner / np.trace(inner), gram / np.trace(gram), atol=0.0015
    )


def test_few_components_and_the_mean(features):
    (voxels,) = simulate_responses(
        features @ features.T, n_subjects=1, n_voxels=500, n_components=3
    )
    rank = np.linalg.matrix_rank(voxels - voxels.mean(axis=0), tol=1e-3)
    assert rank == 3
    assert np.abs(voxels.mean(axis=0)).mean() > 0.1


def test_seed_and_exactness(features):
    options = {"n_subjects": 2, "n_voxels": 50, "ceiling": 0.5}
    gram = features @ features.T
    one, same = (simulate_responses(gram, **options, seed=[3, 1]) for _ in range(2))
    other = simulate_responses(gram, **options, seed=[3, 2])
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.float32(one), one)


def test_ceiling_out_of_reach(features):
    with pytest.raises(ValueError, match=r"ceiling must be between 0 and 0\.\d+, that"):
        simulate_responses(
            features @ features.T, n_subjects=4, n_voxels=5, ceiling=0.999
        )


def test_sectors_lie_where_they_should():
    n_voxels = DESIGNS["simulated-inanimate"].n_voxels
    sectors = simulated_sectors(n_voxels, 3)
    for name, masks in sectors.items():
        assert [sector.n_voxels for sector in masks] == [n_voxels[name]] * 3
        x = masks[0].coordinates[:, 0]
        assert (x < 0).sum() == (x > 0).sum()
    for subject in range(3):
        union = np.sum([masks[subject].mask for masks in sectors.values()], axis=0)
        assert union.max() == 1  # no voxel in two sectors
        assert sectors["pOTC"][subject].coordinates[:, 1].max() <= -53
        assert sectors["aOTC"][subject].coordinates[:, 1].min() > -53
        y = {
            name: masks[subject].coordinates[:, 1].mean()
            for name, masks in sectors.items()
        }
        assert y["EarlyV"] < y["pOTC"] < y["aOTC"]
    assert not np.array_equal(sectors["EarlyV"][0].mask, sectors["EarlyV"][1].mask)
