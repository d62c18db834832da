import json

import numpy as np
import pytest
from scipy.stats import t

from versa.fmri.ceilings import (
    ceilings_table,
    half_correlations,
    noise_ceiling,
    subject_bounds,
)
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.rdm import correlation_rdm, to_rsatoolbox
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


def test_twenty_subjects_have_all_their_splits():
    # averaging RDMs split by split would take minutes
    stack = np.random.default_rng(3).standard_normal((20, 2556))
    assert half_correlations(stack, stack, split_halves(20)).shape == (92378, 2)


def test_refuses(rdms):
    with pytest.raises(ValueError, match="for 6 subjects; got"):
        noise_ceiling(rdms, split_halves(6))
    with pytest.raises(ValueError, match="same pairs; got 66 and 65"):
        half_correlations(rdms, rdms[:, 1:], split_halves(7))


def dataset_of(**data):
    names = [f"i{k:02d}" for k in range(12)]
    files = [f"{name}.png" for name in names]
    subjects = [str(k) for k in range(7)]
    stimuli = StimulusSet(names, files, ["0" * 64] * 12)
    return BrainDataset("d", stimuli, subjects, **data)


def test_bounds_by_loops_and_by_rsatoolbox(rdms):
    from rsatoolbox.inference import cv_noise_ceiling
    from rsatoolbox.inference.crossvalsets import sets_leave_one_out_rdm

    z = (rdms - rdms.mean(axis=1, keepdims=True)) / rdms.std(axis=1, keepdims=True)
    others = [np.delete(z, s, axis=0).mean(axis=0) for s in range(7)]
    loops = (
        np.mean([np.corrcoef(rdms[s], others[s])[0, 1] for s in range(7)]),
        np.mean([np.corrcoef(rdms[s], z.mean(axis=0))[0, 1] for s in range(7)]),
    )
    bounds = subject_bounds(rdms)
    np.testing.assert_allclose(bounds, loops, atol=1e-12)
    stack = to_rsatoolbox(rdms, [str(k) for k in range(12)])
    _, test, ceil = sets_leave_one_out_rdm(stack)
    theirs = cv_noise_ceiling(stack, ceil, test, method="corr")
    np.testing.assert_allclose(bounds, theirs, atol=1e-12)
    assert bounds[0] < bounds[1]


def test_bounds_without_answer(rdms):
    rdms[2] = 0.3
    assert np.isnan(subject_bounds(rdms)).all()
    rdms[2, 4] = np.nan
    assert np.isnan(subject_bounds(rdms)).all()
    with pytest.raises(ValueError, match=r"at least 2 subjects; got \(1, 66\)"):
        subject_bounds(rdms[:1])


def left_out_of_its_half(stack):
    """Jackknife interval of the ceiling, by numpy's correlations of plain means."""
    members = split_halves(len(stack)).members

    def mean_z(left_out):
        z = []
        for first in members:
            halves = [first.copy(), ~first]
            for half in halves:
                half[left_out] = False
            z.append(np.arctanh(np.corrcoef(*(stack[h].mean(0) for h in halves))[0, 1]))
        return np.mean(z)

    n = len(stack)
    without = np.array([mean_z(i) for i in range(n)])
    error = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    reach = t.ppf(0.975, n - 1) * error
    z = mean_z([])
    return np.tanh(z - reach), np.tanh(z + reach)


def test_table_of_ceilings(rdms):
    rng = np.random.default_rng(4)
    both = {"V1": rdms, "IT": rdms + rng.normal(0, 0.3, rdms.shape)}
    table = ceilings_table(dataset_of(rdms=both)).set_index("sector")
    assert list(table.index) == ["V1", "IT"]
    for name, stack in both.items():
        r = noise_ceiling(stack, split_halves(7))
        row = table.loc[name]
        assert (row["n_subjects"], row["n_splits"]) == (7, 35)
        assert row["ceiling"] == pytest.approx(fisher_mean(r))
        ends = left_out_of_its_half(stack)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(ends)
        assert (row["lower_bound"], row["upper_bound"]) == subject_bounds(stack)


def test_table_of_responses_and_of_their_rdms():
    rng = np.random.default_rng(5)
    signal = rng.normal(size=(12, 20))
    responses = [signal + rng.normal(size=(12, 20)) for _ in range(7)]
    splits = split_halves(7, n_splits=5, seed=1)
    table = ceilings_table(dataset_of(responses={"V1": responses}), splits)
    stack = np.stack([correlation_rdm(x) for x in responses])
    assert table.equals(ceilings_table(dataset_of(rdms={"V1": stack}), splits))
    assert table["n_splits"].tolist() == [5]
    responses[3][:, 2] = 1.0
    with pytest.raises(ValueError, match="V1 of subject 3 has 0 with NaN, 1 constant"):
        ceilings_table(dataset_of(responses={"V1": responses}))
    one = dataset_of(rdms={"V1": stack}).select(subjects="3")
    with pytest.raises(ValueError, match="at least 2 subjects, whose halves"):
        ceilings_table(one)


def test_table_of_real_rdms(shared):
    folder = shared / "data/images92"
    known = json.loads((folder / "expected.json").read_text())
    square = np.load(folder / "rdms_kriegeskorte2008_hIT.npz")["rdms"].astype(float)
    rows, columns = np.triu_indices(92, k=1)
    rdms = square.mean(axis=1)[:, rows, columns]
    stimuli = StimulusSet.from_folder(folder / "stimuli")
    dataset = BrainDataset("hIT", stimuli, ["BE", "KO", "SN", "TI"], rdms={"IT": rdms})
    row = ceilings_table(dataset).iloc[0]
    expected = known["kriegeskorte2008_hIT_4subj_sessions_averaged"]["r"]
    assert row["ceiling"] == pytest.approx(expected, abs=1e-9)
    # one subject's RDM is noisier than the mean of two
    assert row["lower_bound"] < row["ceiling"]
    assert row["lower_bound"] < row["upper_bound"]


@pytest.mark.parametrize("factor", [1e-300, 1e300])
def test_correlations_do_not_depend_on_the_unit_of_rdms(factor):
    rdms = np.random.default_rng(0).random((4, 15))
    splits = split_halves(4)
    np.testing.assert_allclose(
        noise_ceiling(factor * rdms, splits), noise_ceiling(rdms, splits), atol=1e-12
    )
    np.testing.assert_allclose(
        half_correlations(factor * rdms[:1], rdms, splits),
        half_correlations(rdms[:1], rdms, splits),
        atol=1e-12,
    )
