import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from scipy.spatial.distance import pdist

from versa.fmri.rdm import (
    correlation_rdm,
    crossnobis_rdm,
    from_rsatoolbox,
    n_images_of,
    pattern_rdm,
    rdm_from_gram,
    to_rsatoolbox,
)


@pytest.fixture
def patterns():
    return np.random.default_rng(0).normal(2.0, 1.0, (12, 40))


def test_equals_pdist_and_rsatoolbox(patterns):
    ours = correlation_rdm(patterns)
    np.testing.assert_allclose(ours, pdist(patterns, "correlation"), atol=1e-14)
    theirs = calc_rdm(Dataset(patterns), method="correlation").get_vectors()[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_invariances(patterns):
    ours = correlation_rdm(patterns)
    np.testing.assert_allclose(correlation_rdm(3 * patterns + 5), ours, atol=1e-13)
    shuffled = patterns[:, np.random.default_rng(1).permutation(40)]
    np.testing.assert_allclose(correlation_rdm(shuffled), ours, atol=1e-13)


@pytest.mark.parametrize("exponent", [-1000, -350, 350, 900])
def test_squares_that_would_not_be_numbers(patterns, exponent):
    ours = correlation_rdm(patterns)
    np.testing.assert_array_equal(correlation_rdm(np.ldexp(patterns, exponent)), ours)
    some = patterns.copy()
    some[3] = np.ldexp(some[3], exponent)
    np.testing.assert_array_equal(correlation_rdm(some), ours)


def test_gram_is_enough(patterns):
    gram, sums = patterns @ patterns.T, patterns.sum(axis=1)
    expected = correlation_rdm(patterns)
    np.testing.assert_allclose(rdm_from_gram(gram, sums, 40), expected, atol=1e-12)


def test_image_without_variance():
    x = np.array([[1.0, 1, 1], [1, 2, 3], [3, 2, 1]])
    with pytest.raises(ValueError, match=r"rows \[0\] are constant"):
        correlation_rdm(x)
    from_gram = rdm_from_gram(x @ x.T, x.sum(axis=1), 3)
    np.testing.assert_array_equal(np.isnan(from_gram), [True, True, False])
    assert from_gram[2] == pytest.approx(2.0)
    big = np.vstack([np.full(3, 1e8 / 3), x[1:]])
    assert np.isnan(rdm_from_gram(big @ big.T, big.sum(axis=1), 3)[:2]).all()


@pytest.mark.parametrize("measure", ["correlation", "euclidean", "cosine"])
def test_features_that_are_the_same_for_all_images_have_no_distances(measure):
    rng = np.random.default_rng(0)
    for n_images, n_units in ((20, 700), (51, 1911), (72, 3000)):
        x = np.repeat(rng.normal(1, 1, (1, n_units)), n_images, axis=0)
        rdm = rdm_from_gram(x @ x.T, x.sum(axis=1), n_units, measure)
        assert (rdm == 0).all()  # and no rounding, which would get a score
    x += 1e-5 * rng.normal(size=x.shape)
    rdm = rdm_from_gram(x @ x.T, x.sum(axis=1), n_units, measure)
    expected = pattern_rdm(x, measure)
    np.testing.assert_allclose(rdm, expected, rtol=1e-3)


def test_refuses():
    with pytest.raises(ValueError, match="at least 2 images and 2 units"):
        correlation_rdm([1.0, 2.0])
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        correlation_rdm([[1.0, 2.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match="n_pairs must be"):
        n_images_of(7)


def test_round_trip_through_rsatoolbox(patterns):
    stack = np.stack([correlation_rdm(patterns), correlation_rdm(patterns**2)])
    names = [f"item {i}" for i in range(12)]
    theirs = to_rsatoolbox(stack, names, subjects=["01", "02"])
    assert theirs.n_rdm == 2
    assert theirs.n_cond == 12
    assert theirs.rdm_descriptors["subject"] == ["01", "02"]
    matrices = theirs.get_matrices()
    assert matrices[1, 3, 5] == pytest.approx(1 - np.corrcoef(patterns**2)[3, 5])
    back, ids = from_rsatoolbox(theirs)
    np.testing.assert_array_equal(back, stack)
    assert ids == tuple(names)
    with pytest.raises(ValueError, match="one id per image; got 2"):
        to_rsatoolbox(stack, ["a", "b"])
    with pytest.raises(ValueError, match="one id per RDM; got 1"):
        to_rsatoolbox(stack, names, subjects=["01"])


def rsatoolbox_rdm(patterns, method, **options):
    dataset = Dataset(np.asarray(patterns), obs_descriptors=options.pop("rows", {}))
    return calc_rdm(dataset, method=method, **options).get_vectors()[0]


def test_distances_equal_rsatoolbox():
    x, y = np.random.default_rng(0).normal(1, 1, (2, 9, 20))
    np.testing.assert_allclose(
        pattern_rdm(x, "euclidean"), rsatoolbox_rdm(x, "euclidean"), atol=1e-13
    )
    np.testing.assert_allclose(pattern_rdm(x, "cosine"), pdist(x, "cosine"), atol=1e-13)
    rows = {"image": [*range(9), *range(9)], "half": [0] * 9 + [1] * 9}
    expected = rsatoolbox_rdm(
        np.vstack([x, y]),
        "crossnobis",
        rows=rows,
        descriptor="image",
        cv_descriptor="half",
    )
    np.testing.assert_allclose(crossnobis_rdm(x, y), expected, atol=1e-13)
    for measure in ("euclidean", "cosine", "correlation"):
        found = rdm_from_gram(x @ x.T, x.sum(axis=1), 20, measure)
        np.testing.assert_allclose(found, pattern_rdm(x, measure), atol=1e-13)


@pytest.mark.parametrize(
    ("patterns", "measure", "message"),
    [
        ([[1, 2], [0, 0]], "cosine", r"zero everywhere; rows \[1\]"),
        ([[1, 2], [np.nan, 0]], "euclidean", r"rows \[1\] hold NaN"),
        ([[1, 2]], "euclidean", "at least 2 images"),
        ([[1, 2], [3, 4]], "crossnobis", "crossnobis_rdm takes"),
    ],
)
def test_patterns_without_a_distance_are_refused(patterns, measure, message):
    with pytest.raises(ValueError, match=message):
        pattern_rdm(patterns, measure)


def test_crossnobis_needs_the_same_voxels():
    with pytest.raises(ValueError, match=r"same images and voxels; got \(3, 4\)"):
        crossnobis_rdm(np.ones((3, 4)), np.ones((3, 5)))
