import numpy as np
import pytest

from versa.fmri.ceilings import half_correlations
from versa.fmri.encoding import debias, fold_means, loo_ridge
from versa.fmri.rdm import correlation_rdm
from versa.fmri.rsa import encoded_rdms, encoding_target, null_rdms
from versa.stats.intervals import fisher_mean
from versa.stats.splits import split_halves


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((15, 30))
    responses = [
        features @ rng.standard_normal((30, 40)) + 5 * rng.standard_normal((15, 40)) + 3
        for _ in range(4)
    ]
    return features @ features.T, responses


@pytest.mark.parametrize("per_voxel", [True, False])
def test_equals_step_by_step(data, per_voxel):
    gram, responses = data
    rdms = encoded_rdms(gram, encoding_target(responses), alpha_per_voxel=per_voxel)
    for s, voxels in enumerate(responses):
        predicted, _ = loo_ridge(gram, voxels, alpha_per_voxel=per_voxel)
        np.testing.assert_allclose(
            rdms.versa[s], correlation_rdm(predicted), atol=1e-10
        )
        np.testing.assert_allclose(
            rdms.debiased[s], correlation_rdm(debias(predicted, voxels)), atol=1e-10
        )


def test_permuting_voxels_and_images(data):
    gram, responses = data
    rng = np.random.default_rng(1)
    rdms = encoded_rdms(gram, encoding_target(responses))
    shuffled = [voxels[:, rng.permutation(40)] for voxels in responses]
    again = encoded_rdms(gram, encoding_target(shuffled))
    np.testing.assert_allclose(again.versa, rdms.versa, atol=1e-10)
    brain = np.stack([correlation_rdm(voxels) for voxels in responses])
    order = rng.permutation(15)
    moved_responses = [voxels[order] for voxels in responses]
    moved = encoded_rdms(gram[np.ix_(order, order)], encoding_target(moved_responses))
    moved_brain = np.stack([correlation_rdm(voxels) for voxels in moved_responses])
    splits = split_halves(4)
    np.testing.assert_allclose(
        half_correlations(moved.debiased, moved_brain, splits),
        half_correlations(rdms.debiased, brain, splits),
        atol=1e-9,
    )


def test_edges_of_the_grid(data):
    gram, responses = data
    rdms = encoded_rdms(gram, encoding_target(responses), [1e3, 1e-3, 1e9])
    alpha = loo_ridge(gram, np.concatenate(responses, axis=1), [1e3, 1e-3, 1e9]).alpha
    assert rdms.at_smallest == np.mean(alpha == 1e-3)
    assert rdms.at_largest == np.mean(alpha == 1e9)


def test_features_that_explain_nothing_leave_the_null(data):
    _, responses = data
    rdms = encoded_rdms(np.ones((15, 15)), encoding_target(responses))
    np.testing.assert_allclose(rdms.versa, null_rdms(responses), atol=1e-12)
    assert (rdms.debiased == 0).all()  # one prediction for all images: no geometry
    brain = np.stack([correlation_rdm(voxels) for voxels in responses])
    assert np.isnan(half_correlations(rdms.debiased, brain, split_halves(4))).all()


def test_null_holds_the_noise_of_the_same_subjects():
    rng = np.random.default_rng(2)
    noise = [rng.standard_normal((30, 100)) for _ in range(6)]
    brain = np.stack([correlation_rdm(voxels) for voxels in noise])
    null = fisher_mean(half_correlations(null_rdms(noise), brain, split_halves(6)))
    assert null > 0.6
    np.testing.assert_allclose(
        null_rdms(noise)[0], correlation_rdm(fold_means(noise[0])), atol=1e-12
    )
