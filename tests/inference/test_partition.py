import numpy as np
import pytest
from scipy.stats import t
from sklearn.linear_model import LinearRegression

import versa
from tests.synthetic import LAYERS, SECTORS, synthetic_fit
from versa.result import FitResult, best_layer_scores

IMAGES = tuple(f"image {i}" for i in range(13))
PAIRS = 13 * 12 // 2
SUBJECTS = 5
rng = np.random.default_rng(0)
# parts of the brain: orthogonal, without a mean, of unit variance
PARTS = np.linalg.qr(np.c_[np.ones(PAIRS), rng.normal(size=(PAIRS, 3))])[0][:, 1:]
SHARED, ONE, TWO = np.sqrt(PAIRS) * PARTS.T
BRAIN = SHARED + ONE + TWO + rng.normal(0, 0.5, (len(SECTORS), SUBJECTS, PAIRS))


def fit(model, geometry, seed=1):
    """A result of a network whose RDMs hold `geometry`."""
    noise = np.random.default_rng(seed)
    result = synthetic_fit(model, seed, SUBJECTS, names=IMAGES)
    scores = result.scores.copy(data=noise.uniform(0.2, 0.3, result.scores.shape))
    shape = (2, len(SECTORS), len(LAYERS), SUBJECTS, PAIRS)
    rdms = geometry + noise.normal(0, 0.3, shape)
    dims = ("sector", "layer")
    data = result.data.assign(
        scores=scores,  # so that another layer is the best in every half
        brain_rdms=(("sector", "subject", "pair"), BRAIN),
        model_rdms=(("encoding", *dims, "subject", "pair"), rdms),
        model_rdm=(
            ("methods", *dims, "pair"),
            np.concatenate([rdms, rdms[:1]]).mean(3),
        ),
    ).assign_coords(encoding=["versa", "versa-debiased"])
    return FitResult(data)


@pytest.fixture(scope="module")
def fits():
    return fit("a", SHARED + ONE, 1), fit("b", SHARED + TWO, 2)


def explained(fits, layers, who, others, subset, sector):
    """By scikit-learn: weights of one half, correlation in the other."""
    features, target = {}, {}
    for name, members in (("train", others), ("test", who)):
        target[name] = BRAIN[sector][members].mean(axis=0)
        kept = [
            fit.data["model_rdms"].values[1, sector, layer][members].mean(axis=0)
            for fit, layer in zip(fits, layers, strict=True)
        ]
        columns = np.stack([kept[i] for i in subset], axis=1)
        columns = columns - columns.mean(axis=0)
        features[name] = columns / np.linalg.norm(columns, axis=0)
    model = LinearRegression().fit(features["train"], target["train"])
    r = np.corrcoef(model.predict(features["test"]), target["test"])[0, 1]
    return np.sign(r) * r**2


def test_equals_regressions_of_scikit_learn(fits):
    table = versa.partition(*fits)
    rows = table[table.method == "versa-debiased"].set_index(["sector", "part"])
    for s, sector in enumerate(SECTORS):
        chosen = [best_layer_scores(f, "versa-debiased", sector).chosen for f in fits]
        found = {"a only": [], "b only": [], "a & b": [], "total": []}
        for j, row in enumerate(fits[0].splits.members):
            halves = (row, ~row)
            for half in (0, 1):
                parts = {}
                for subset in ((0,), (1,), (0, 1)):
                    layers = [c[j, half] for c in chosen]
                    parts[subset] = explained(
                        fits, layers, halves[half], halves[1 - half], subset, s
                    )
                both = parts[0, 1]
                found["total"].append(both)
                found["a only"].append(both - parts[1,])
                found["b only"].append(both - parts[0,])
                found["a & b"].append(parts[0,] + parts[1,] - both)
        for part, values in found.items():
            assert rows.loc[(sector, part), "r2"] == pytest.approx(
                np.mean(values), abs=1e-9
            )


def test_parts_are_those_that_were_built_in(fits):
    table = versa.partition(fits, layers={"a": "fc6", "b": "fc6"})
    rows = table[(table.method == "versa") & (table.sector == "aOTC")]
    r2 = rows.set_index("part").r2
    # of S + 1 + 2, the networks S + 1 and S + 2 explain 2/3 each and 8/9 together;
    # noise of the halves' means takes some per cent of it
    expected = {"a only": 2 / 9, "b only": 2 / 9, "a & b": 4 / 9, "total": 8 / 9}
    assert r2.to_dict() == pytest.approx(expected, abs=0.06)
    assert r2[["a only", "b only", "a & b"]].sum() == pytest.approx(r2["total"])


def test_a_network_without_anything_of_its_own_explains_nothing_alone(fits):
    noise = fit("noise", 0.0, 3)
    table = versa.partition(fits[0], fits[1], noise)
    assert len(table) == 3 * 2 * 8
    alone = table[table.part == "noise only"]
    assert (alone.r2.abs() < 0.03).all()
    assert (alone.ci_low < 0).all()


def test_interval_is_that_of_the_corrected_t_test(fits):
    from versa.inference.partition import _parts

    values = _parts(fits, "rsa", "EarlyV", {})["a only"]
    error = np.sqrt((1 / values.size + 1.0) * values.var(ddof=1))
    row = versa.partition(*fits).query(
        "method == 'rsa' and sector == 'EarlyV' and part == 'a only'"
    )
    reach = t.ppf(0.975, SUBJECTS - 1) * error
    assert row.ci_high.item() - row.r2.item() == pytest.approx(reach)


def test_no_share_of_a_ceiling_that_cannot_be_told_from_0(fits):
    noise = np.random.default_rng(3).normal(size=(SUBJECTS, PAIRS))
    noise[:2] = noise[0]  # two subjects who agree: some splits have a ceiling above 0
    brain = np.stack([noise, BRAIN[1]])
    fits = [
        FitResult(f.data.assign(brain_rdms=f.data.brain_rdms.copy(data=brain)))
        for f in fits
    ]
    assert fits[0].layers().explained.isna().tolist() == [True] * 9 + [False] * 9
    table = versa.partition(fits)
    assert table[table.sector == "EarlyV"].of_ceiling.isna().all()
    assert table[table.sector == "aOTC"].of_ceiling.notna().all()


def test_what_cannot_be_divided_is_refused(fits):
    with pytest.raises(ValueError, match="2 to 6 results; got 1"):
        versa.partition(fits[0])
    with pytest.raises(ValueError, match=r"layer of b .*'fc66'.*fc6"):
        versa.partition(*fits, layers={"b": "fc66"})
    bare = FitResult(fits[1].data.drop_vars("model_rdms"))
    with pytest.raises(ValueError, match=r"result of b does not hold.*keep_rdms=True"):
        versa.partition(fits[0], bare)
