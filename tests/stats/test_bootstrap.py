import numpy as np
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import ttest_1samp

from versa.fmri.ceilings import half_correlations
from versa.fmri.rdm import to_rsatoolbox
from versa.fmri.similarity import as_vectors
from versa.stats import bootstrap
from versa.stats.bootstrap import Draws, draw_samples, dual_variance, resample, spread
from versa.stats.halves import half_scores
from versa.stats.intervals import fisher_z
from versa.stats.selection import cv_max_layer
from versa.stats.splits import SplitHalves, split_halves

N_SUBJECTS, N_IMAGES, N_PAIRS = 6, 12, 66


def rdms(seed, n=N_SUBJECTS):
    rng = np.random.default_rng(seed)
    true = np.random.default_rng(99).random(N_PAIRS)
    return true + rng.random((n, N_PAIRS))


def sample(stack, counts):
    """RDMs of the images of a sample, pairs of an image with itself left out."""
    drawn = np.repeat(np.arange(N_IMAGES), counts)
    rows, columns = np.triu_indices(N_IMAGES, k=1)
    kept = drawn[rows] != drawn[columns]
    return np.stack(
        [squareform(row)[drawn[rows], drawn[columns]][kept] for row in stack]
    )


@pytest.mark.parametrize("n_models", [1, N_SUBJECTS])
@pytest.mark.parametrize("compare_by", ["pearson", "cosine"])
def test_scores_of_samples_are_those_of_the_drawn_rdms(n_models, compare_by):
    layers, brain = [rdms(seed, n_models) for seed in (1, 2)], rdms(3)
    splits = split_halves(N_SUBJECTS)
    draws = draw_samples(N_SUBJECTS, N_IMAGES, n_samples=9, seed=4)
    found = resample(
        [as_vectors(layer, compare_by) for layer in layers],
        as_vectors(brain, compare_by),
        splits,
        draws,
        centre=compare_by == "pearson",
    )
    everyone, once = np.arange(N_SUBJECTS), np.ones(N_IMAGES, dtype=int)
    for b, (subjects, images) in enumerate(zip(*draws, strict=True)):
        kinds = ((subjects, images), (subjects, once), (everyone, images))
        for k, (who, counts) in enumerate(kinds):
            drawn = sample(brain, counts)[who]
            r = np.stack(
                [
                    half_correlations(
                        sample(layer, counts)[who if n_models > 1 else [0]],
                        drawn,
                        splits,
                        compare_by,
                    )
                    for layer in layers
                ]
            )
            expected = fisher_z(r).mean(axis=(1, 2))
            np.testing.assert_allclose(found.layers[k, b], expected, atol=1e-10)
            best = fisher_z(cv_max_layer(r).r).mean()
            assert found.best[k, b] == pytest.approx(best, abs=1e-10)


def test_fixed_models_have_the_variances_of_rsatoolbox(monkeypatch):
    """With a score per subject, as rsatoolbox has it, and in the same samples."""
    from rsatoolbox.inference import eval_dual_bootstrap, evaluate
    from rsatoolbox.model import ModelFixed

    brain, layers = rdms(3), [rdms(seed, 1) for seed in (1, 2, 5)]
    draws = draw_samples(N_SUBJECTS, N_IMAGES, n_samples=40)
    names = [f"{i:02d}" for i in range(N_IMAGES)]
    data = to_rsatoolbox(brain, names)
    todo = iter(zip(*draws, strict=True))

    def drawn(data, rdm_descriptor, pattern_descriptor):
        who, counts = next(todo)
        images = np.repeat(np.arange(N_IMAGES), counts)
        part = data.subsample("index", who).subsample_pattern("index", images)
        return part, who, images

    monkeypatch.setattr(evaluate, "bootstrap_sample", drawn)
    models = [ModelFixed(str(k), layer[0]) for k, layer in enumerate(layers)]
    theirs = eval_dual_bootstrap(
        models, data, method="corr", k_pattern=1, k_rdm=1, N=40, use_correction=False
    )

    # a half of each subject alone, and the mean of r over them
    monkeypatch.setattr(bootstrap, "fisher_z", np.asarray)
    alone = np.eye(N_SUBJECTS)
    monkeypatch.setattr(bootstrap, "half_scores", lambda x, _: half_scores(x, alone))
    mine = resample(
        [as_vectors(layer) for layer in layers],
        as_vectors(brain),
        split_halves(N_SUBJECTS),
        draws,
    ).layers
    evaluated = theirs.evaluations[:, :, 0, 0].transpose(2, 0, 1)
    np.testing.assert_allclose(mine, evaluated, atol=1e-12)
    for k, variance in enumerate(theirs.model_var):
        assert spread(mine[..., k], "both", draws).error == pytest.approx(
            np.sqrt(variance), rel=1e-9
        )
    pairs = ((0, 1), (0, 2), (1, 2))
    for (a, b), variance in zip(pairs, theirs.diff_var, strict=True):
        found = spread(mine[..., a] - mine[..., b], "both", draws)
        assert found.error == pytest.approx(np.sqrt(variance), rel=1e-9)
        assert found.df == theirs.dof


def test_first_halves_alone():
    layers, brain = [as_vectors(rdms(seed)) for seed in (1, 2)], as_vectors(rdms(3))
    splits, draws = split_halves(N_SUBJECTS), draw_samples(6, N_IMAGES, n_samples=5)
    turned = SplitHalves(~splits.members)
    both, first, second = (
        resample(layers, brain, halves, draws, halves=counted)
        for halves, counted in ((splits, "both"), (splits, "first"), (turned, "first"))
    )
    for whole, a, b in zip(both, first, second, strict=True):
        np.testing.assert_allclose(whole, (a + b) / 2, atol=1e-12)
        assert not np.allclose(a, b, atol=1e-3)


def test_variance_of_both_is_between_its_bounds():
    rng = np.random.default_rng(0)
    both, subjects, images = rng.random((3, 500))
    both += np.maximum(subjects, images)
    found = dual_variance(both, subjects, images, 7, 40)
    assert (found - np.minimum(both, subjects * 7 / 6) > -1e-12).all()
    assert (found <= both).all()
    # nothing but a common error of measurement: it is counted once, not three times
    assert dual_variance(3.0, 1.0, 1.0, 10**9, 10**9) == pytest.approx(1.0)


def test_spread_of_a_mean_over_subjects_is_its_standard_error():
    rng = np.random.default_rng(0)
    x = rng.normal(0.2, 1, 8)
    draws = Draws(rng.integers(8, size=(200_000, 8)), np.ones((200_000, 12), dtype=int))
    means = x[draws.subjects].mean(axis=1)
    found = spread(np.stack([means] * 3), "subjects", draws)
    test = ttest_1samp(x, 0)
    assert found.error == pytest.approx(x.std(ddof=1) / np.sqrt(8), rel=0.01)
    assert found.pvalue(x.mean()) == pytest.approx(test.pvalue, rel=0.02)
    low, high = test.confidence_interval()
    assert 2 * found.reach() == pytest.approx(high - low, rel=0.01)
    assert (found.df, spread(np.stack([means] * 3), "images", draws).df) == (7, 11)


def test_samples_without_a_score_are_left_out_unless_they_are_most():
    draws = draw_samples(4, 12, n_samples=10)
    samples = np.random.default_rng(0).random((3, 10))
    samples[0, 3] = np.nan
    assert spread(samples, "images", draws).error == pytest.approx(
        np.sqrt(np.delete(samples[2], 3).var(ddof=1) * 12 / 11)
    )
    samples[0, :6] = np.nan
    assert np.isnan(spread(samples, "both", draws).error)
    assert np.isnan(spread(samples, "both", draws).pvalue(1.0))


def test_draws():
    draws = draw_samples(5, 6, n_samples=400, seed=3)
    again = draw_samples(5, 6, n_samples=400, seed=3)
    assert all((a == b).all() for a, b in zip(draws, again, strict=True))
    assert (draws.images.sum(axis=1) == 6).all()
    assert ((draws.images > 0).sum(axis=1) >= 3).all()
    assert set(np.unique(draws.subjects)) == set(range(5))
    with pytest.raises(ValueError, match="at least 5 to draw samples of images; got 4"):
        draw_samples(5, 4)


def test_of_many_splits_some_are_drawn():
    few = bootstrap._fewer(split_halves(12))
    assert few.n_splits == 200
    assert few == bootstrap._fewer(split_halves(12))
    assert bootstrap._fewer(split_halves(10)) == split_halves(10)
