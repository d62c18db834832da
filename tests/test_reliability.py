import json
import time

import numpy as np
import pytest

from versa.fmri.rdm import correlation_rdm
from versa.fmri.reliability import half_correlations, noise_ceiling
from versa.stats.intervals import fisher_mean
from versa.stats.splits import SplitHalves, split_halves


@pytest.fixture
def rdms():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((12, 30))
    return np.stack(
        [correlation_rdm(shared + rng.standard_normal((12, 30))) for _ in range(7)]
    )


def test_ceiling_by_loops(rdms):
    splits = split_halves(7)
    expected = [
        np.corrcoef(rdms[row].mean(axis=0), rdms[~row].mean(axis=0))[0, 1]
        for row in splits.members
    ]
    np.testing.assert_allclose(noise_ceiling(rdms, splits), expected, atol=1e-13)


def test_scores_by_loops(rdms):
    splits = split_halves(7)
    model = rdms**2 + np.random.default_rng(1).normal(0, 0.3, rdms.shape)
    expected = [
        [
            np.corrcoef(model[half].mean(axis=0), rdms[half].mean(axis=0))[0, 1]
            for half in (row, ~row)
        ]
        for row in splits.members
    ]
    np.testing.assert_allclose(
        half_correlations(model, rdms, splits), expected, atol=1e-13
    )
    one = half_correlations(model[:1], rdms, splits)
    repeated = half_correlations(np.repeat(model[:1], 7, axis=0), rdms, splits)
    np.testing.assert_allclose(one, repeated, atol=1e-13)


def test_swapping_halves_and_subjects(rdms):
    splits = split_halves(7)
    turned = SplitHalves(~splits.members)
    np.testing.assert_allclose(
        noise_ceiling(rdms, turned), noise_ceiling(rdms, splits), atol=1e-13
    )
    model = np.sqrt(rdms)
    np.testing.assert_allclose(
        half_correlations(model, rdms, turned)[:, ::-1],
        half_correlations(model, rdms, splits),
        atol=1e-13,
    )
    order = np.random.default_rng(2).permutation(7)
    assert fisher_mean(noise_ceiling(rdms[order], splits)) == pytest.approx(
        fisher_mean(noise_ceiling(rdms, splits))
    )


def test_authors_reference_ceilings(shared):
    folder = shared / "data/images92"
    known = json.loads((folder / "expected.json").read_text())
    square = np.load(folder / "rdms_kriegeskorte2008_hIT.npz")["rdms"].astype(float)
    rows, columns = np.triu_indices(92, k=1)
    cases = {
        "kriegeskorte2008_hIT_4subj_sessions_averaged": square.mean(axis=1),
        "kriegeskorte2008_hIT_session1_only": square[:, 0],
        "kriegeskorte2008_hIT_session2_only": square[:, 1],
    }
    for name, stack in cases.items():
        r = noise_ceiling(stack[:, rows, columns], split_halves(4))
        assert len(r) == known[name]["n_splits"]
        assert fisher_mean(r) == pytest.approx(known[name]["r"], abs=1e-9)
        for split in known[name].get("per_split_r", []):
            first = {"BE", "KO", "SN", "TI"} & set(split["halves"][0])
            subjects = ["BE", "KO", "SN", "TI"]
            for row, value in zip(split_halves(4).members, r, strict=True):
                half = {s for s, inside in zip(subjects, row, strict=True) if inside}
                if first in (half, set(subjects) - half):
                    assert value == pytest.approx(split["r"], abs=1e-9)


def test_model_rdms_of_the_reference(shared):
    folder = shared / "data/images92"
    known = json.loads((folder / "expected.json").read_text())
    rows, columns = np.triu_indices(92, k=1)
    human = np.load(folder / "rdms_kriegeskorte2008_hIT.npz")["rdms"].astype(float)
    human = human.mean(axis=1)[:, rows, columns]
    models = np.load(folder / "rdms_group_and_models.npz")
    for name, numbers in known["classic_rsa_of_shipped_model_rdms_vs_hIT"].items():
        model = models[name].astype(float)[rows, columns][None]
        r = half_correlations(model, human, split_halves(4))
        assert fisher_mean(r) == pytest.approx(numbers["r"], abs=1e-6), name


def test_flat_rdms_have_no_score(rdms):
    splits = split_halves(7)
    flat = np.full_like(rdms[:1], 0.3)
    assert np.isnan(half_correlations(flat, rdms, splits)).all()
    assert np.isnan(noise_ceiling(np.ones((7, 66)), splits)).all()


def test_twenty_subjects_cost_little():
    stack = np.random.default_rng(3).standard_normal((20, 2556))
    splits = split_halves(20)
    started = time.perf_counter()
    scores = half_correlations(stack, stack, splits)
    assert scores.shape == (92378, 2)
    # averaging RDMs split by split would take minutes
    assert time.perf_counter() - started < 20


def test_refuses(rdms):
    with pytest.raises(ValueError, match="for 6 subjects; got"):
        noise_ceiling(rdms, split_halves(6))
    with pytest.raises(ValueError, match="same pairs; got 66 and 65"):
        half_correlations(rdms, rdms[:, 1:], split_halves(7))
