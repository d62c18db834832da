"""Averages of trials against pandas, and the order of trials."""

import numpy as np
import pandas as pd
import pytest

from versa.fmri.betas.trials import average_trials, trials_from_events

TRIALS = ["b", "a", "b", "a", "a", "b", "a", "b", "b", "a"]
RUNS = [1, 1, 1, 2, 2, 2, 5, 5, 9, 9]


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(10, 4))


def test_means_are_those_of_pandas(values):
    names, mean, odd, even = average_trials(values, TRIALS, RUNS, halves="runs")
    table = pd.DataFrame(values)
    assert names == ("b", "a")  # as they first occur
    is_odd = np.isin(RUNS, (1, 5))  # the first and the third run
    for found, rows in ((mean, is_odd | True), (odd, is_odd), (even, ~is_odd)):
        oracle = table[rows].groupby(np.array(TRIALS)[rows]).mean()
        np.testing.assert_allclose(found, oracle.loc[list(names)], rtol=1e-12)


def test_halves_by_repeats_alternate_within_a_condition(values):
    _, _, odd, even = average_trials(
        values, TRIALS, halves="repeats", conditions=["a", "b"]
    )
    np.testing.assert_allclose(odd[0], values[[1, 4, 9]].mean(axis=0))
    np.testing.assert_allclose(even[0], values[[3, 6]].mean(axis=0))
    np.testing.assert_allclose(odd[1], values[[0, 5, 8]].mean(axis=0))
    np.testing.assert_allclose(even[1], values[[2, 7]].mean(axis=0))


def test_the_order_of_trials_does_not_matter_to_the_means(values):
    order = np.random.default_rng(1).permutation(10)
    names, mean, _, _ = average_trials(values, TRIALS, conditions=["a", "b"])
    _, again, odd, even = average_trials(
        values[order], np.array(TRIALS)[order].tolist(), conditions=names
    )
    np.testing.assert_allclose(mean, again)
    assert odd is None
    assert even is None


def test_nan_stays_in_its_condition(values):
    values[0, 2] = np.nan  # a trial of b
    names, mean, _, _ = average_trials(values.astype(np.float32), TRIALS)
    assert np.isnan(mean).tolist() == [[False, False, True, False], [False] * 4]
    assert names == ("b", "a")
    assert mean.dtype == np.float64


def test_halves_that_cannot_be_are_refused(values):
    with pytest.raises(
        ValueError, match=r"the even half must have every condition; c, d are missing"
    ):
        average_trials(values[:4], ["a", "c", "d", "a"], [1, 1, 1, 2], halves="runs")
    with pytest.raises(ValueError, match=r"even half .*; b is missing there"):
        average_trials(values[:3], ["a", "b", "a"], halves="repeats")
    with pytest.raises(ValueError, match="halves by runs need the run of each trial"):
        average_trials(values, TRIALS, halves="runs")
    with pytest.raises(ValueError, match="need at least two runs; got one"):
        average_trials(values, TRIALS, [1] * 10, halves="runs")
    with pytest.raises(ValueError, match="halves must be among runs, repeats"):
        average_trials(values, TRIALS, RUNS, halves="odd")


def test_numbers_of_trials_must_agree(values):
    with pytest.raises(ValueError, match=r"got \(10, 4\) and 9 conditions"):
        average_trials(values, TRIALS[1:])
    with pytest.raises(ValueError, match="one run per trial; got 9 for 10 trials"):
        average_trials(values, TRIALS, RUNS[1:])
    with pytest.raises(ValueError, match="condition must be among b, a; got 'c'"):
        average_trials(values, TRIALS, conditions=["a", "c"])


def test_trials_are_sorted_by_onset_within_each_run(tmp_path):
    first = pd.DataFrame(
        {
            "onset": [12.0, 0.5, 6.0, 3.0],
            "duration": 1.0,
            "trial_type": ["cup", "dog", "rest", "cup"],
            "stim_file": ["c2.png", "d1.png", "none", "c1.png"],
        }
    )
    second = first.assign(onset=[1, 2, 3, 4])
    path = tmp_path / "run-2_events.tsv"
    second.to_csv(path, sep="\t", index=False)
    for tables in ([first, second], [first, path], [first, str(path)]):
        trials, runs = trials_from_events(tables, left_out=["rest"])
        assert trials == ("dog", "cup", "cup", "cup", "dog", "cup")
        assert runs == (1, 1, 1, 2, 2, 2)
        trials, _ = trials_from_events(tables, condition_column="stim_file")
        assert trials[:4] == ("d1.png", "c1.png", "none", "c2.png")


def test_events_that_are_not_clear_are_refused():
    table = pd.DataFrame({"onset": [3.0, 3.0], "trial_type": ["cup", "dog"]})
    with pytest.raises(ValueError, match=r"run 1 must begin .* cup and dog both"):
        trials_from_events([table])
    with pytest.raises(ValueError, match="a list of tables, one per run"):
        trials_from_events(table)
    good = table.assign(onset=[1, 2])
    with pytest.raises(ValueError, match="left_out must be among cup, dog; got 'rest'"):
        trials_from_events([good], left_out=["rest"])
    with pytest.raises(
        ValueError, match=r"run 2 .* columns onset, trial_type; onset is"
    ):
        trials_from_events([good, good.drop(columns="onset")])
    with pytest.raises(ValueError, match="run 1: onset must be finite times"):
        trials_from_events([good.assign(onset=[np.nan, 1])])
    with pytest.raises(ValueError, match="trial_type must hold texts; got nan"):
        trials_from_events([good.assign(trial_type=["cup", np.nan])])
    with pytest.raises(ValueError, match="at least one trial"):
        trials_from_events([good], left_out=["cup", "dog"])


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_rows_without_estimate_are_no_responses_of_0(values, nothing, caplog):
    values[1] = nothing  # a trial of a
    _, mean, odd, _ = average_trials(values, TRIALS, RUNS, halves="runs")
    np.testing.assert_allclose(mean[1], values[[3, 4, 6, 9]].mean(axis=0))
    np.testing.assert_allclose(odd[1], values[6])
    assert "1 of 10 trials have no estimate" in caplog.text
    assert "'a' in row 2" in caplog.text
    values[np.array(TRIALS) == "a"] = nothing
    with pytest.raises(ValueError, match="in at least one trial; a has none"):
        average_trials(values, TRIALS)
    assert average_trials(values, TRIALS, conditions=["b"])[0] == ("b",)


def test_names_of_trials_that_name_nothing(values, caplog):
    with pytest.raises(ValueError, match="'nan' stands for a missing value"):
        average_trials(values, ["nan", *TRIALS[1:]])
    average_trials(values, ["B ", *TRIALS[1:]])
    assert "trials: 'B ', 'b' count as different conditions" in caplog.text


def test_tables_in_the_order_of_texts_are_pointed_out(tmp_path, caplog):
    paths = [tmp_path / f"run-{n}_events.tsv" for n in (1, 2, 10)]
    for path in paths:
        path.write_text("onset\tduration\ttrial_type\n1\t1\tcup\n")
    trials_from_events(paths)
    assert not caplog.text
    trials_from_events(sorted(paths))
    assert "names as texts: run-10_events.tsv, run-1_events.tsv" in caplog.text
