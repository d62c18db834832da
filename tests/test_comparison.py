import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

import versa
from tests.synthetic import SECTORS, synthetic_fit
from versa.result import METHODS, FitResult, best_layer_scores, subject_scores
from versa.stats.families import CORRECTIONS
from versa.stats.parity import bayes_factor
from versa.stats.permutation import permutation_test
from versa.stats.signflips import signflip_test
from versa.stats.splits import SplitHalves, split_halves
from versa.stats.tables import for_reading
from versa.stats.ttests import corrected_paired_ttest


@pytest.fixture
def results():
    return [synthetic_fit(f"net{i}", seed=i, shift=0.1 * i) for i in range(3)]


def test_table(results):
    comparison = versa.compare(results)
    table = comparison.pairs()
    assert list(table) == [
        "method", "sector", "model_a", "model_b", "r_a", "r_b", "difference",
        "ci_low", "ci_high", "detectable", "t", "df", "p", "p_corrected",
        "significant", "df_subjects", "p_subjects", "p_corrected_subjects",
        "significant_subjects",
    ]  # fmt: skip
    assert len(table) == len(METHODS) * len(SECTORS) * 3
    assert comparison.family == len(SECTORS) * 3
    row = table[(table.method == "rsa") & (table.sector == "aOTC")].iloc[1]
    assert (row.model_a, row.model_b) == ("net0", "net2")
    z = [np.arctanh(best_layer_scores(results[i], "rsa", "aOTC").r) for i in (0, 2)]
    expected = corrected_paired_ttest(*z)
    assert row.t == pytest.approx(expected.statistic)
    assert row.df == 69
    assert row.df_subjects == 6
    assert row.p_corrected == pytest.approx(min(1, expected.pvalue * 6))
    assert row.significant == (row.p < 0.05 / 6)
    assert row.p_subjects == pytest.approx(corrected_paired_ttest(*z, df=6).pvalue)


def test_interval_of_a_difference(results):
    z = [np.arctanh(best_layer_scores(results[i], "rsa", "aOTC").r) for i in (0, 2)]
    test = corrected_paired_ttest(*z, df=6)
    table = versa.compare(results, family=1).pairs()
    row = table[(table.method == "rsa") & (table.sector == "aOTC")].iloc[1]
    middle = np.mean(z)
    found = [*stats.t.interval(0.95, 6, test.difference, test.standard_error)]
    spread = test.standard_error * np.sqrt(7)
    found.append(TTestPower().solve_power(nobs=7, alpha=0.05, power=0.8) * spread)
    expected = [np.tanh(middle + d / 2) - np.tanh(middle - d / 2) for d in found]
    assert [row.ci_low, row.ci_high, row.detectable] == pytest.approx(expected)
    assert ((table.ci_low > 0) | (table.ci_high < 0)).equals(table.p_subjects < 0.05)
    larger = versa.compare(results, family=30).pairs()
    assert (larger.detectable > table.detectable).all()
    raw = versa.compare(results, family=1, on_z=False).pairs().loc[row.name]
    r = [best_layer_scores(results[i], "rsa", "aOTC").r for i in (0, 2)]
    test = corrected_paired_ttest(*r, df=6)
    expected = stats.t.interval(0.95, 6, test.difference, test.standard_error)
    assert (raw.ci_low, raw.ci_high) == pytest.approx(expected)


def test_parity(results):
    table = versa.compare(results, equivalence=0.2, family=1).pairs()
    assert list(table)[7:14] == [
        "ci_low", "ci_high", "detectable", "ci90_low", "ci90_high", "p_equivalence",
        "bayes_factor",
    ]  # fmt: skip
    assert list(table)[-1] == "verdict"
    within = (table.ci90_low > -0.2) & (table.ci90_high < 0.2)
    assert within.equals(table.p_equivalence < 0.05)
    expected = np.where(
        within, "on par", np.where(table.significant_subjects, "different", "no")
    )
    assert set(table.verdict) == {"on par", "different"} | {"cannot tell"} & set(
        table.verdict
    )
    assert (table.verdict == np.where(expected == "no", "cannot tell", expected)).all()
    np.testing.assert_allclose(table.bayes_factor, bayes_factor(table.t, 7))
    equal = versa.compare([synthetic_fit("a"), synthetic_fit("b")], equivalence=0.05)
    assert (equal.pairs().verdict == "on par").all()
    assert "verdict" in versa.compare(results[:1], equivalence=0.1).pairs()
    with pytest.raises(ValueError, match="equivalence must be between 0 and 2"):
        versa.compare(results, equivalence=0)


@pytest.mark.parametrize(("correction", "name"), [("holm", "Holm"), ("fdr", "FDR")])
def test_other_corrections(results, correction, name):
    comparison = versa.compare(results, correction=correction)
    table = comparison.pairs()
    for method in METHODS:
        rows = table[table.method == method]
        for ending in ("", "_subjects"):
            expected = CORRECTIONS[correction](rows[f"p{ending}"], 6)
            np.testing.assert_allclose(rows[f"p_corrected{ending}"], expected)
    plain = versa.compare(results).pairs()
    assert (table.p_corrected <= plain.p_corrected + 1e-12).all()
    assert f"p {name} (S-1)" in for_reading(table)
    assert f"p after {name} correction for 6 tests" in repr(comparison)
    with pytest.raises(ValueError, match="correction must be among bonferroni, holm"):
        versa.compare(results, correction="none")


def test_exact(results):
    assert versa.compare(results, exact=True).pairs().p_signflip.isna().all()
    rng = np.random.default_rng(0)
    dims = ("methods", "sector", "layer", "subject")
    sizes = [results[0].data.sizes[dim] for dim in dims]
    results = [
        FitResult(one.data.assign(subject_scores=(dims, rng.uniform(0, 0.8, sizes))))
        for one in results
    ]
    table = versa.compare(results, exact=True).pairs()
    own = []
    for one in (results[0], results[2]):
        best = one.best().set_index(["method", "sector"]).layer["rsa", "aOTC"]
        own.append(one.data["subject_scores"].loc["rsa", "aOTC", best].values)
    row = table[(table.method == "rsa") & (table.sector == "aOTC")].iloc[1]
    expected = signflip_test(np.arctanh(own[0]) - np.arctanh(own[1]))
    assert row.p_signflip == expected
    assert (table.p_signflip >= 2 / 2**7).all()
    assert "p sign-flip" in for_reading(table)


def test_exact_test_of_networks_with_layers_that_are_equally_good():
    rng = np.random.default_rng(0)
    bare = synthetic_fit("net", n_subjects=10, methods=["rsa"], sectors=["V1"])
    dims = ("methods", "sector", "layer", "subject")

    def drawn():
        z = rng.normal(0.6, 0.1, (1, 1, 3, 10))
        halves = np.tanh(np.einsum("mlas,jhs->mlajh", z, bare.splits.weights))
        scores = bare.scores.copy(data=halves)
        new = bare.data.assign(scores=scores, subject_scores=(dims, np.tanh(z)))
        return np.arctanh(subject_scores(FitResult(new), "rsa", "V1"))

    p = np.array([signflip_test(drawn() - drawn()) for _ in range(250)])
    assert np.mean(p <= 0.05) < 0.08  # .16 if each subject's layer is the others' best


def test_limit_of_exact_tests(results):
    assert versa.compare(results[:1]).exact_limit() == ""
    assert versa.compare([synthetic_fit("a"), synthetic_fit("b")]).exact_limit() == ""
    apart = [synthetic_fit("a"), synthetic_fit("b", shift=1.0, seed=1)]
    text = versa.compare(apart).exact_limit()
    assert "over 7 subjects can reach a p below 2 / 2^7 = 0.0156" in text
    assert "none can reject" not in text
    text = versa.compare(apart, family=30).exact_limit()
    assert text.endswith("At 0.05 / 30 = 0.00167 none can reject.")


def test_warnings(results, caplog):
    assert versa.compare(results).warnings() == []
    assert not caplog.records
    few = versa.compare(results, family=2, test_train_ratio=0, halves="mean")
    family, ratio, halves = few.warnings()
    assert "family of 2 is smaller than the 6 tests" in family
    assert "n_test / n_train is 0" in ratio
    assert "halves of each split are averaged" in halves
    assert [record.message for record in caplog.records] == few.warnings()


@pytest.mark.parametrize("halves", ["both", "mean", "first"])
def test_halves(results, halves):
    comparison = versa.compare(results, halves=halves)
    row = comparison.pairs().iloc[-1]
    z = [
        np.arctanh(best_layer_scores(results[i], "rsa", "aOTC", halves).r)
        for i in (1, 2)
    ]
    assert row.t == pytest.approx(corrected_paired_ttest(*z).statistic)
    assert row.df == (69 if halves == "both" else 34)
    expected = results[2].best(halves=halves).iloc[-1]
    assert comparison.best().iloc[-1].equals(expected)
    assert expected.r == pytest.approx(np.tanh(z[1].mean()))
    layers = comparison.layers()
    assert layers.r.iloc[0] == pytest.approx(results[0].layers(halves=halves).r.iloc[0])


def test_halves_of_the_fits():
    fits = [with_halves(synthetic_fit(name), "first") for name in ("a", "b")]
    assert versa.compare(fits).halves == "first"
    assert fits[0].best().equals(synthetic_fit("a").best(halves="first"))
    fits[1] = synthetic_fit("b")
    with pytest.raises(ValueError, match=r"'a' has 'first' and 'b' 'both'\. Pass"):
        versa.compare(fits)
    assert versa.compare(fits, halves="both").halves == "both"


def with_halves(fit, halves):
    provenance = fit.provenance | {}
    provenance["options"] = provenance["options"] | {"halves": halves}
    return FitResult(fit.data.assign_attrs(provenance=json.dumps(provenance)))


def test_results_one_by_one_are_a_list_of_them(results):
    expected = versa.compare(results, baseline="net1").pairs()
    assert versa.compare(*results, baseline="net1").pairs().equals(expected)
    assert (
        versa.compare(results[:1], *results[1:], baseline="net1")
        .pairs()
        .equals(expected)
    )
    with pytest.raises(ValueError, match="results must be FitResults; got str"):
        versa.compare(results[0], "net1")


def test_family_of_the_paper(results):
    small, paper = versa.compare(results), versa.compare(results, family=30)
    np.testing.assert_array_equal(small.table.p, paper.table.p)
    np.testing.assert_allclose(
        paper.table.p_corrected, np.minimum(1, paper.table.p * 30)
    )
    assert (paper.table.significant == (paper.table.p < 0.05 / 30)).all()


def test_baseline(results):
    table = versa.compare(results, baseline="net1").table
    assert set(zip(table.model_a, table.model_b, strict=True)) == {
        ("net0", "net1"),
        ("net2", "net1"),
    }
    with pytest.raises(ValueError, match="baseline must be among net0, net1, net2"):
        versa.compare(results, baseline="net7")


def test_one_result_has_no_pairs(results):
    comparison = versa.compare(results[:1])
    assert comparison.table.empty
    assert "p_corrected_subjects" in comparison.table
    assert len(comparison.best()) == len(SECTORS) * len(METHODS)


def test_equal_models_do_not_differ():
    table = versa.compare([synthetic_fit("a"), synthetic_fit("b")]).table
    assert (table.t == 0).all()
    assert (table.p == 1).all()
    assert not table.significant.any()


def test_stacked_tables_and_files(results, tmp_path):
    comparison = versa.compare(results, test_train_ratio="literal")
    assert comparison.test_train_ratio == pytest.approx(25 / 24)
    layers = comparison.layers()
    assert layers.model.unique().tolist() == ["net0", "net1", "net2"]
    paths = comparison.write(tmp_path / "out")
    assert sorted(path.name for path in paths) == sorted(
        f"{name}.{ending}"
        for name in ("layers", "best", "pairs")
        for ending in ("csv", "md", "tex")
    )
    back = pd.read_csv(tmp_path / "out" / "layers.csv")
    pd.testing.assert_frame_equal(back, layers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, r"same dataset \(made-up and other\)"),
        ({"fingerprint": "e" * 64}, "content of the dataset changed"),
        ({"splits": SplitHalves(~split_halves(7).members)}, "same half-splits"),
        ({"splits": split_halves(6), "fingerprint": "e"}, r"same subjects \(00"),
        (
            {"sectors": ("EarlyV", "pOTC"), "fingerprint": "e"},
            r"same sectors \(EarlyV, aOTC and EarlyV,",
        ),
        ({"methods": ("rsa",)}, "same methods"),
        ({"names": ("cup", "saw", "key", "jar")}, r"stimuli \(jar, pan in one only\)"),
        ({"names": ("saw", "cup", "key", "pan")}, r"same order \(cup, saw\)"),
        ({"alphas": [1.0]}, r"same alphas \(auto and \[1\.0\]\)"),
        ({"standardize": True}, "same standardize"),
        ({"model": "net"}, "must be unique; repeated: 'net'"),
    ],
)
def test_what_does_not_belong_together(changes, message):
    changed = synthetic_fit(**{"model": "other", **changes})
    with pytest.raises(ValueError, match=message):
        versa.compare([synthetic_fit(), changed])


def test_refuses(results):
    with pytest.raises(ValueError, match="at least one FitResult"):
        versa.compare([])
    with pytest.raises(ValueError, match="must be FitResults; got str"):
        versa.compare(["net.nc"])
    with pytest.raises(ValueError, match="family must be a whole number of 1 or more"):
        versa.compare(results, family=0)
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        versa.compare(results, alpha=5)


def test_range_over_seeds():
    names = ["net", "net:seed=1", "net:seed=2", "other"]
    fits = [synthetic_fit(name, seed=i, shift=0.1 * i) for i, name in enumerate(names)]
    comparison = versa.compare(fits)
    table = comparison.seeds()
    assert set(table["model"]) == {"net"}
    assert len(table) == len(METHODS) * len(SECTORS)
    best = comparison.best()
    one = best[(best["sector"] == "aOTC") & (best["method"] == "versa")]
    r = one["r"].to_numpy()[:3]
    row = table[(table["sector"] == "aOTC") & (table["method"] == "versa")].iloc[0]
    assert row["n_seeds"] == 3
    assert (row["lowest"], row["highest"]) == (r.min(), r.max())
    assert row["r"] == pytest.approx(np.tanh(np.arctanh(r).mean()))
    assert row["null_r"] == one["null_r"].iloc[0]
    assert versa.compare(fits[2:]).seeds().empty


def test_seeds_are_written_if_there_are_several(tmp_path):
    several = [synthetic_fit(f"net:seed={k}", seed=k) for k in (1, 2)]
    written = versa.compare(several).write(tmp_path / "a")
    assert {path.stem for path in written} == {"layers", "best", "pairs", "seeds"}
    written = versa.compare(several[:1]).write(tmp_path / "b")
    assert {path.stem for path in written} == {"layers", "best", "pairs"}


def test_p_of_permutations_counts_all_models():
    results = [synthetic_fit(m, k, permutations=99) for k, m in enumerate("ab")]
    own, together = results[1].layers(), versa.compare(results).layers()
    rows = together[together.model == "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        rows.drop(columns="p_perm_max"), own.drop(columns="p_perm_max")
    )
    assert (rows["p_perm_max"] >= rows["p_perm"]).all()
    data = [result.data.sel(methods="rsa", sector="aOTC") for result in results]
    observed = [np.arctanh(d["scores"]).mean(["split", "half"]) for d in data]
    expected = permutation_test(
        np.concatenate(observed), np.concatenate([d["permuted"] for d in data])
    )
    found = together[(together.method == "rsa") & (together.sector == "aOTC")]
    np.testing.assert_allclose(found["p_perm_max"], expected.p_max)
    best = versa.compare(results).best()
    assert (best["p_perm_max"] >= best["p_perm"]).all()


def test_fewer_permutations_of_one_model():
    few, many = (synthetic_fit(m, 0, permutations=n) for m, n in (("a", 19), ("b", 99)))
    layers = versa.compare(few, many).layers()
    assert layers["p_perm"].min() == 0.01
    assert layers["p_perm_max"].min() == 0.05


def test_models_without_permutations_leave_the_highest_unknown():
    layers = versa.compare(
        synthetic_fit("a", permutations=19), synthetic_fit("b")
    ).layers()
    assert layers["p_perm"].isna().tolist() == (layers["model"] == "b").tolist()
    assert layers["p_perm_max"].isna().all()
