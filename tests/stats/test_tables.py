import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from versa.stats.families import bonferroni
from versa.stats.intervals import fisher_mean
from versa.stats.tables import (
    for_reading,
    pairwise_tests,
    summary,
    to_csv,
    to_latex,
    to_markdown,
    write_table,
)
from versa.stats.ttests import corrected_paired_ttest


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return {name: np.tanh(rng.normal(0.5, 0.1, (35, 2))) for name in "abc"}


def test_bonferroni_is_statsmodels():
    p = np.random.default_rng(1).uniform(size=30) ** 3
    np.testing.assert_allclose(
        bonferroni(p, 30), multipletests(p, method="bonferroni")[1]
    )


def test_pairwise(scores):
    table = pairwise_tests(scores, [("a", "b"), ("c", "a")], 7)
    row = table.iloc[1]
    assert (row.model_a, row.model_b) == ("c", "a")
    assert row.r_a == pytest.approx(fisher_mean(scores["c"]))
    assert row.difference == pytest.approx(row.r_a - row.r_b)
    z = [np.arctanh(scores[name]) for name in ("c", "a")]
    paper, calibrated = (corrected_paired_ttest(*z), corrected_paired_ttest(*z, df=6))
    assert (row.t, row.df, row.p) == (paper.statistic, 69, paper.pvalue)
    assert (row.df_subjects, row.p_subjects) == (6, calibrated.pvalue)
    assert row.p_subjects > row.p
    raw = pairwise_tests(scores, [("c", "a")], 7, on_z=False).iloc[0]
    expected = corrected_paired_ttest(scores["c"], scores["a"])
    assert raw.t == pytest.approx(expected.statistic)


def test_undefined_scores_stay_undefined(scores):
    scores["b"] = np.full((35, 2), np.nan)
    row = pairwise_tests(scores, [("a", "b")], 7).iloc[0]
    assert np.isnan([row.t, row.p, row.p_subjects]).all()
    assert row.df == 69


def test_no_pairs_keep_the_columns(scores):
    assert "p_subjects" in pairwise_tests(scores, [], 7)


def test_summary(scores):
    row = summary(scores["a"], 7)
    assert row["r"] == pytest.approx(fisher_mean(scores["a"]))
    assert row["ci_low_subjects"] < row["ci_low"] < row["r"] < row["ci_high"]


def table():
    return pd.DataFrame(
        {
            "layer": ["conv_block_1", "fc6"],
            "r": [0.51234, np.nan],
            "ci_low": [0.4, np.nan],
            "ci_high": [0.6, np.nan],
            "explained": [0.876, np.nan],
            "p": [1.5e-5, 0.04],
            "significant": [True, False],
        }
    )


def test_for_reading():
    shown = for_reading(table())
    assert list(shown) == [
        "layer",
        "r",
        "95% CI (J-1)",
        "r²/ceiling²",
        "p",
        "sig. Bonf.",
    ]
    assert shown.iloc[0].tolist() == [
        "conv_block_1", "0.512", "[0.400, 0.600]", "87.6%", "1.50e-05", "yes",
    ]  # fmt: skip
    assert shown.iloc[1].tolist() == ["fc6", "-", "-", "-", "0.040", "no"]


def test_markdown_and_latex():
    lines = to_markdown(table()).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    latex = to_latex(table())
    assert r"conv\_block\_1 & 0.512" in latex
    assert r"87.6\%" in latex
    assert "²" not in latex
    assert latex.count(r"\\") == 3


def test_written_files(tmp_path):
    paths = write_table(table(), tmp_path, "layers")
    assert [path.name for path in paths] == ["layers.csv", "layers.md", "layers.tex"]
    back = pd.read_csv(io.StringIO(paths[0].read_text()))
    pd.testing.assert_frame_equal(back, table())


HOSTILE = [
    "=HYPERLINK(A1)",
    "@SUM(1+1)",
    "+1+1",
    "-2+3",
    " =A1",
    "\t=A1",
    "\r=A1",
    "＝A1",
]


@pytest.mark.parametrize("text", [*HOSTILE, "\uff1dA1"])
def test_no_text_of_a_csv_file_is_a_formula(text, tmp_path):
    path, *_ = write_table(pd.DataFrame({"model": [text], "r": [-0.5]}), tmp_path, "t")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["model", "r"], ["'" + re.sub(r"[\t\r]", " ", text), "-0.5"]]


@pytest.mark.parametrize("text", ["-0.5", "+1e-3", "-", "conv-1", "a=b", "1", ""])
def test_other_texts_of_a_csv_file_stay(text):
    assert (
        to_csv(pd.DataFrame({"model": [text, "b"]}))
        == f"model\n{text or chr(34) * 2}\nb\n"
    )


def test_a_name_is_no_option_of_a_line_break_in_latex():
    latex = to_latex(pd.DataFrame({"model": ["[31m", "*a", "b"], "r": [0.1, 0.2, 0.3]}))
    assert r"{[}31m & 0.100 \\" in latex.splitlines()
    assert r"{*}a & 0.200 \\" in latex.splitlines()


def test_a_cell_is_one_cell_in_markdown_and_latex():
    table = pd.DataFrame({"model": ["a | b\n\n# c\x1b[2J", "net"], "r": [0.1, 0.2]})
    lines = to_markdown(table).splitlines()
    assert len(lines) == 4
    cells = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert {len(row) for row in cells} == {4}
    assert cells[2][1].strip() == r"a \| b # c [2J"
    latex = to_latex(table).splitlines()
    assert r"a | b \# c [2J & 0.100 \\" in latex


def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    paths = write_table(table(), tmp_path, "layers")
    before = [path.read_bytes() for path in paths]

    def fail(self, text, **_):
        with open(self, "w") as file:
            file.write(text[:10])
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table(table().assign(r=0.0), tmp_path, "layers")
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)
