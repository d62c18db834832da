"""The solver against scikit-learn, normal equations in long double, and itself."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from versa.fmri.encoding import (
    AUTO_ALPHAS,
    alpha_grid,
    debias,
    fold_means,
    loo_ridge,
    solve,
)


def mean_eigenvalue(gram):
    centred = gram - gram.mean(axis=0)
    return np.trace(centred) / len(gram)


def problem(n_images=24, n_units=100, n_voxels=6, noise=1.0, decay=2.0, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_images, n_units))
    features *= np.logspace(0, -decay, n_units)
    features += rng.standard_normal(n_units)  # a mean pattern, to be centred
    weights = rng.standard_normal((n_units, n_voxels))
    responses = features @ weights + noise * rng.standard_normal((n_images, n_voxels))
    return features, responses + 3.0


def nested_ridge_cv(features, responses, alphas, per_voxel=True):
    predicted, alpha = np.empty_like(responses), np.empty_like(responses)
    for i in range(len(features)):
        train = np.arange(len(features)) != i
        fitted = RidgeCV(alphas, alpha_per_target=per_voxel).fit(
            features[train], responses[train]
        )
        predicted[i] = fitted.predict(features[[i]])[0]
        alpha[i] = fitted.alpha_
    return predicted, alpha


def inner_errors(features, responses, alphas):
    """Inner leave-one-out errors of every alpha by refitting: (A, N, V)."""
    n = len(features)
    errors = np.zeros((len(alphas), *responses.shape))
    for i in range(n):
        train = np.flatnonzero(np.arange(n) != i)
        for a, alpha in enumerate(alphas):
            for j in train:
                keep = train[train != j]
                x, y = features[keep], responses[keep]
                xc, yc = x - x.mean(0), y - y.mean(0)
                dual = np.linalg.solve(xc @ xc.T + alpha * np.eye(len(keep)), yc)
                guess = y.mean(0) + (features[j] - x.mean(0)) @ xc.T @ dual
                errors[a, i] += (responses[j] - guess) ** 2
    return errors


@pytest.mark.parametrize("per_voxel", [True, False])
@pytest.mark.parametrize(
    "shape", [(24, 100), (24, 8), (40, 23)], ids=["wide", "tall", "square"]
)
def test_equals_nested_ridge_cv(shape, per_voxel):
    features, responses = problem(*shape)
    gram = features @ features.T
    alphas = mean_eigenvalue(gram) * np.logspace(-4, 4, 9)
    predicted, alpha = loo_ridge(gram, responses, alphas, alpha_per_voxel=per_voxel)
    expected, expected_alpha = nested_ridge_cv(features, responses, alphas, per_voxel)
    np.testing.assert_array_equal(alpha, expected_alpha)
    assert np.abs(predicted - expected).max() < 1e-8 * responses.std()


def test_tiny_penalties_to_six_digits():
    features, responses = problem()
    gram = features @ features.T
    for relative in (1e-6, 1e-8, 1e-10):
        alphas = [relative * mean_eigenvalue(gram)]
        predicted, _ = loo_ridge(gram, responses, alphas)
        expected, _ = nested_ridge_cv(features, responses, alphas)
        assert np.abs(predicted - expected).max() < 1e-6 * responses.std()


def test_same_choice_wherever_errors_differ():
    features, responses = problem(n_images=10, n_units=30, n_voxels=4, noise=0.3)
    gram = features @ features.T
    alphas = mean_eigenvalue(gram) * np.logspace(-12, 6, 19)
    _, alpha = loo_ridge(gram, responses, alphas)
    errors = np.sort(inner_errors(features, responses, alphas), axis=0)
    choice = inner_errors(features, responses, alphas).argmin(axis=0)
    clear = errors[1] - errors[0] > 1e-7 * responses.var() * len(features)
    assert clear.mean() > 0.3
    np.testing.assert_array_equal(alpha[clear], alphas[choice][clear])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shape", [(10, 8), (4, 2), (12, 10)])
def test_one_free_direction_and_tiny_penalties(shape, seed):
    rng = np.random.default_rng(seed)  # centred rank n - 2
    features = rng.standard_normal(shape)
    responses = features @ rng.standard_normal((shape[1], 3))
    responses += 0.5 * rng.standard_normal(responses.shape)
    gram = features @ features.T
    alphas = mean_eigenvalue(gram) * np.array([1e-8, 1e-4, 1e-1])
    predicted, alpha = loo_ridge(gram, responses, alphas)
    expected, expected_alpha = nested_ridge_cv(features, responses, alphas)
    np.testing.assert_allclose(alpha, expected_alpha, rtol=1e-12)
    np.testing.assert_allclose(predicted, expected, atol=1e-6 * responses.std())
    shared, _ = loo_ridge(gram, responses, alphas, alpha_per_voxel=False)
    expected, _ = nested_ridge_cv(features, responses, alphas, per_voxel=False)
    np.testing.assert_allclose(shared, expected, atol=1e-6 * responses.std())


def test_both_forms_of_the_inner_error_agree(monkeypatch):
    features, responses = problem()
    gram = features @ features.T
    expanded = loo_ridge(gram, responses)
    monkeypatch.setattr("versa.fmri.encoding._CANCELLING", 2.0)
    by_pairs = loo_ridge(gram, responses)
    np.testing.assert_array_equal(by_pairs.alpha, expanded.alpha)
    np.testing.assert_allclose(by_pairs.predicted, expanded.predicted, rtol=1e-12)
    tensors = loo_ridge(torch.tensor(gram), torch.tensor(responses))
    np.testing.assert_allclose(tensors.alpha.numpy(), expanded.alpha, rtol=1e-12)


@pytest.mark.parametrize("n_alphas", [127, 128, 129, 300])
def test_many_alphas(n_alphas):
    features, responses = problem(n_images=8, n_voxels=2)
    gram = features @ features.T
    alphas = mean_eigenvalue(gram) * np.logspace(-4, 4, n_alphas)
    _, alpha = loo_ridge(gram, responses, alphas)
    np.testing.assert_array_equal(
        alpha, nested_ridge_cv(features, responses, alphas)[1]
    )


def longdouble_loo(features, responses, alpha):
    """Leave-one-out ridge by Gaussian elimination in extended precision."""
    x, y = features.astype(np.longdouble), responses.astype(np.longdouble)
    n = len(x)
    predicted = np.empty_like(y)
    for i in range(n):
        keep = np.arange(n) != i
        mean_x, mean_y = x[keep].mean(0), y[keep].mean(0)
        centred = x[keep] - mean_x
        a = centred @ centred.T + np.longdouble(alpha) * np.eye(n - 1)
        a = np.concatenate([a, y[keep] - mean_y], axis=1)
        for k in range(n - 1):
            pivot = k + np.abs(a[k:, k]).argmax()
            a[[k, pivot]] = a[[pivot, k]]
            a[k] /= a[k, k]
            others = np.arange(n - 1) != k
            a[others] -= a[others, k : k + 1] * a[k]
        predicted[i] = mean_y + ((x[i] - mean_x) @ centred.T) @ a[:, n - 1 :]
    return predicted


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(float).eps,
    reason="long double is not longer than double on this platform",
)
@pytest.mark.parametrize("relative", [1e-2, 1e-6, 1e-10])
def test_no_further_from_long_double_than_ridge_cv(relative):
    features, responses = problem(n_images=12, n_units=30, n_voxels=3, decay=6.0)
    gram = features @ features.T
    alpha = relative * mean_eigenvalue(gram)
    exact = longdouble_loo(features, responses, alpha)
    ours, _ = loo_ridge(gram, responses, [alpha])
    theirs, _ = nested_ridge_cv(features, responses, [alpha])
    error, their_error = np.abs(ours - exact).max(), np.abs(theirs - exact).max()
    assert error < max(20 * their_error, 1e-12 * responses.std())
    assert error < (1e-8 if relative >= 1e-4 else 1e-6) * responses.std()


@pytest.mark.parametrize("per_voxel", [True, False])
def test_torch_equals_numpy(per_voxel):
    features, responses = problem()
    gram = features @ features.T
    ours = loo_ridge(gram, responses, alpha_per_voxel=per_voxel)
    theirs = loo_ridge(
        torch.tensor(gram), torch.tensor(responses), alpha_per_voxel=per_voxel
    )
    assert isinstance(theirs.predicted, torch.Tensor)
    np.testing.assert_allclose(theirs.predicted.numpy(), ours.predicted, atol=1e-11)
    np.testing.assert_allclose(theirs.alpha.numpy(), ours.alpha, rtol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_numpy():
    features, responses = problem(n_voxels=700)
    gram = features @ features.T
    ours = loo_ridge(gram, responses)
    theirs = loo_ridge(torch.tensor(gram).cuda(), torch.tensor(responses).cuda())
    np.testing.assert_allclose(theirs.predicted.cpu(), ours.predicted, atol=1e-10)


def test_voxels_do_not_depend_on_their_neighbours_or_chunks():
    features, _ = problem(n_images=20)
    gram = features @ features.T
    many = np.random.default_rng(1).standard_normal((20, 5000))  # several chunks
    predicted, alpha = loo_ridge(gram, many)
    order = np.random.default_rng(2).permutation(5000)
    permuted = loo_ridge(gram, many[:, order])
    np.testing.assert_allclose(permuted.predicted, predicted[:, order], atol=1e-12)
    np.testing.assert_array_equal(permuted.alpha, alpha[:, order])
    alone = loo_ridge(gram, many[:, [4321]])
    np.testing.assert_allclose(alone.predicted[:, 0], predicted[:, 4321], atol=1e-12)


def test_invariances():
    features, responses = problem()
    gram = features @ features.T
    predicted, alpha = loo_ridge(gram, responses)
    order = np.random.default_rng(3).permutation(len(gram))
    permuted = loo_ridge(gram[np.ix_(order, order)], responses[order])
    np.testing.assert_allclose(permuted.predicted, predicted[order], atol=1e-9)
    scaled = loo_ridge(1e6 * gram, responses)  # auto alphas follow the features
    np.testing.assert_allclose(scaled.predicted, predicted, atol=1e-9)
    np.testing.assert_allclose(scaled.alpha, 1e6 * alpha, rtol=1e-9)
    affine = loo_ridge(gram, 5.0 * responses + 100.0)
    np.testing.assert_allclose(affine.predicted, 5 * predicted + 100, atol=1e-8)
    shifted = features + 7.0  # a constant in every unit is the intercept's business
    moved = loo_ridge(shifted @ shifted.T, responses)
    np.testing.assert_allclose(moved.predicted, predicted, atol=1e-8)


def test_held_out_response_does_not_reach_its_prediction():
    features, responses = problem()
    gram = features @ features.T
    predicted, alpha = loo_ridge(gram, responses)
    changed = responses.copy()
    changed[5] += 1000.0
    again = loo_ridge(gram, changed)
    np.testing.assert_allclose(again.predicted[5], predicted[5], atol=1e-8)
    np.testing.assert_array_equal(again.alpha[5], alpha[5])
    assert np.abs(again.predicted[6] - predicted[6]).max() > 1.0


@pytest.mark.parametrize("per_voxel", [True, False])
def test_constant_features_predict_the_mean_of_the_others(per_voxel):
    _, responses = problem()
    gram = np.full((24, 24), 7.3e5)
    predicted, alpha = loo_ridge(gram, responses, alpha_per_voxel=per_voxel)
    np.testing.assert_allclose(predicted, fold_means(responses), rtol=1e-12)
    assert np.unique(alpha).tolist() == [AUTO_ALPHAS[0]]
    expected, _ = nested_ridge_cv(np.full((24, 3), 493.2), responses, (0.1, 1, 10))
    np.testing.assert_allclose(predicted, expected, rtol=1e-9)


def test_duplicate_images_and_rank_one():
    features, responses = problem()
    features[7] = features[3]
    gram = features @ features.T
    alphas = mean_eigenvalue(gram) * np.logspace(-4, 4, 9)
    predicted, alpha = loo_ridge(gram, responses, alphas)
    expected, expected_alpha = nested_ridge_cv(features, responses, alphas)
    np.testing.assert_allclose(predicted, expected, atol=1e-8 * responses.std())
    np.testing.assert_array_equal(alpha, expected_alpha)
    single = features[:, :1]
    gram = single @ single.T
    alphas = mean_eigenvalue(gram) * np.logspace(-4, 4, 9)
    predicted, _ = loo_ridge(gram, responses, alphas)
    expected, _ = nested_ridge_cv(single, responses, alphas)
    np.testing.assert_allclose(predicted, expected, atol=1e-8 * responses.std())


def test_four_images_no_voxels_integers_and_float32():
    features, responses = problem(n_images=4, n_units=3)
    gram = features @ features.T
    alphas = (0.1, 1.0, 10.0)
    expected, _ = nested_ridge_cv(features, responses, alphas)
    np.testing.assert_allclose(loo_ridge(gram, responses, "sklearn")[0], expected)
    empty = loo_ridge(gram, responses[:, :0])
    assert empty.predicted.shape == empty.alpha.shape == (4, 0)
    whole = np.round(10 * responses)
    np.testing.assert_array_equal(
        loo_ridge(gram, whole.astype(int)).predicted, loo_ridge(gram, whole).predicted
    )
    single = loo_ridge(gram, whole.astype(np.float32))
    assert single.predicted.dtype == np.float64
    np.testing.assert_array_equal(single.predicted, loo_ridge(gram, whole).predicted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, y: (g[:3, :3], y[:3]), "at least 4 images.*got 3"),
        (lambda g, y: (g[:, :5], y), r"gram must be \(n_images, n_images\); got"),
        (lambda g, y: (g, y[:-1]), "responses must be .* with 24 images"),
        (lambda g, y: (g, y[:, 0]), "responses must be"),
        (lambda g, y: (g, np.where(y > y[0], np.nan, y)), "responses must be finite"),
        (lambda g, y: (np.where(g == g[1, 2], np.inf, g), y), "gram must be finite"),
        (lambda g, y: (np.triu(g), y), "gram must be symmetric"),
        (lambda g, y: (-g, y), "without negative eigenvalues"),
        (lambda g, y: (torch.tensor(g), y), "arrays of one library"),
    ],
)
def test_refuses(change, message):
    features, responses = problem()
    with pytest.raises(ValueError, match=message):
        loo_ridge(*change(features @ features.T, responses))


@pytest.mark.parametrize("alphas", [[], [1.0, 0.0], [-1.0], [np.nan], [[1.0], [2.0]]])
def test_refuses_alphas(alphas):
    with pytest.raises(ValueError, match="alphas must be positive, finite numbers"):
        alpha_grid(alphas, 1.0)
    with pytest.raises(ValueError, match="alphas must be 'auto', 'sklearn' or"):
        alpha_grid("gcv", 1.0)


def test_first_alpha_wins_a_tie():
    features, responses = problem()
    gram = features @ features.T
    scale = mean_eigenvalue(gram)
    _, alpha = loo_ridge(gram, responses, [scale, scale, scale])
    assert (alpha == scale).all()
    forward = loo_ridge(gram, responses, [0.1 * scale, scale])
    backward = loo_ridge(gram, responses, [scale, 0.1 * scale])
    np.testing.assert_array_equal(forward.alpha, backward.alpha)


def test_debias_replaces_the_fold_mean_by_the_grand_mean():
    features, responses = problem()
    predicted, _ = loo_ridge(features @ features.T, responses)
    learned = predicted - fold_means(responses)
    np.testing.assert_allclose(
        debias(predicted, responses), learned + responses.mean(axis=0), atol=1e-10
    )


@pytest.mark.parametrize("per_voxel", [True, False])
def test_places_in_the_grid(per_voxel):
    features, responses = problem()
    gram = features @ features.T
    solution = solve(gram, responses, alpha_per_voxel=per_voxel)
    np.testing.assert_allclose(
        solution.grid, mean_eigenvalue(gram) * np.array(AUTO_ALPHAS), rtol=1e-12
    )
    alpha = loo_ridge(gram, responses, alpha_per_voxel=per_voxel).alpha
    np.testing.assert_array_equal(solution.grid[solution.choice], alpha)
    flat = solve(np.ones((24, 24)), responses, alpha_per_voxel=per_voxel)
    assert len(flat.grid) == len(AUTO_ALPHAS)
    assert not flat.choice.any()
