import json

import pytest

import versa
from tests.synthetic import synthetic_fit
from versa.inference import shares
from versa.result import METHODS, FitResult


@pytest.fixture
def results():
    return [synthetic_fit(f"net{i}", seed=i, shift=0.15 * i) for i in range(3)]


def test_every_reading_is_that_of_compare(results):
    table = versa.multiverse(results)
    assert len(table) == 6 * len(METHODS) * 2 * 2 * 2 * 2
    for halves in ("both", "first"):
        for ratio in (1.0, "literal"):
            for family in (6, 30):
                pairs = versa.compare(
                    results, halves=halves, test_train_ratio=ratio, family=family
                ).pairs()
                number = results[0].ratio(ratio)
                for df, ending in (("J - 1", ""), ("S - 1", "_subjects")):
                    rows = table[
                        (table.halves == halves)
                        & (table.ratio == number)
                        & (table.family == family)
                        & (table.df == df)
                    ]
                    keys = ["method", "sector", "model_a", "model_b"]
                    both = pairs.merge(rows, on=keys)
                    assert len(both) == len(pairs)
                    found = both["p_corrected_y"]
                    expected = both[
                        f"p_corrected{ending}" if ending else "p_corrected_x"
                    ]
                    assert found.tolist() == pytest.approx(expected.tolist())


def test_shares_and_order(results):
    table = versa.multiverse(results, baseline="net0")
    assert set(table.model_b) == {"net0"}
    assert table["share"].is_monotonic_decreasing
    summary = shares(table)
    assert len(summary) == 4
    for row in summary.itertuples():
        rows = table[(table.sector == row.sector) & (table.model_a == row.model_a)]
        assert row.share == rows.holds.mean() == rows["share"].iloc[0]
        assert row.readings == len(rows) == 48
    assert summary.share.max() > 0


def test_other_penalties_are_a_reading(results):
    others = []
    for one in results:
        provenance = one.provenance | {}
        provenance["options"] = provenance["options"] | {"alphas": "sklearn"}
        others.append(
            FitResult(one.data.assign_attrs(provenance=json.dumps(provenance)))
        )
    table = versa.multiverse([*results, *others])
    assert set(table.alphas) == {"auto", "sklearn", "-"}
    assert set(table[table.alphas == "-"].method) == {"rsa"}
    assert len(table) == len(versa.multiverse(results)) * 5 / 3


def with_options(result, **options):
    provenance = result.provenance | {}
    provenance["options"] = provenance["options"] | options
    return FitResult(result.data.assign_attrs(provenance=json.dumps(provenance)))


def test_other_measures_are_a_reading_of_classic_rsa_as_well(results):
    ranked = [with_options(one, compare_by="spearman") for one in results]
    table = versa.multiverse([*results, *reversed(ranked)])
    assert len(table) == 2 * len(versa.multiverse(results))
    assert set(table[table.method == "rsa"].alphas) == {"-", "spearman"}
    assert len(shares(table)) == 6  # whatever the order in which they are given


def test_refuses_other_brains(results):
    other = synthetic_fit("x", dataset="elsewhere")
    with pytest.raises(ValueError, match="the same dataset"):
        versa.multiverse([*results, with_options(other, alphas="sklearn")])


def test_refuses(results):
    with pytest.raises(ValueError, match="two networks or more"):
        versa.multiverse(results[0])
    with pytest.raises(ValueError, match="baseline must be among"):
        versa.multiverse(results, baseline="x")
    with pytest.raises(ValueError, match="halves must be among"):
        versa.multiverse(results, halves=["second"])


def test_figure(results):
    ax = versa.plotting.plot_multiverse(results)
    top, bottom = ax.child_axes
    assert [text.get_text() for text in top.get_yticklabels()] == [
        "net0 − net2",
        *sorted(
            ("net0 − net1", "net1 − net2"), key=lambda name: names(results).index(name)
        ),
    ]
    labels = [text.get_text() for text in bottom.get_yticklabels()]
    assert "halves first" in labels
    assert "df S - 1" in labels
    assert not any(label.startswith("alphas") for label in labels)
    with pytest.raises(ValueError, match="sector must be among"):
        versa.plotting.plot_multiverse(results, sector="V9")


def names(results):
    table = versa.multiverse(results)
    rows = table[table.sector == "aOTC"]
    return list(dict.fromkeys(rows.model_a + " − " + rows.model_b))
