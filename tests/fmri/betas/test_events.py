"""Tables of events: what names no condition, and times that are not known."""

import pandas as pd
import pytest

from versa.fmri.betas.events import check_events, read_events
from versa.fmri.betas.trials import trials_from_events

WORDS = (
    "nan",
    "NaN",
    "NA",
    "na",
    "None",
    "null",
    "NULL",
    "N/A",
    "n.a.",
    "<NA>",
    "#N/A",
)


def write(path, rows, columns=("onset", "duration", "trial_type")):
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("word", WORDS)
def test_words_for_a_missing_condition(tmp_path, caplog, word):
    rows = [(1, 2, "cup"), (4, 2, word), (7, 2, "nanny")]
    events = read_events(write(tmp_path / "e.tsv", rows))
    assert events["trial_type"].tolist() == ["cup", "nanny"]
    assert repr(word) in caplog.text
    table = pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])
    with pytest.raises(ValueError, match="stands for a missing value"):
        check_events(table, "by hand")
    with pytest.raises(ValueError, match=r"run 1: .* Leave these rows out, or rename"):
        trials_from_events([table])


def test_none_is_a_word_of_people(tmp_path, caplog):
    path = write(tmp_path / "e.tsv", [(1, 2, "cup"), (4, 2, "none")])
    assert read_events(path)["trial_type"].tolist() == ["cup", "none"]
    assert "'none' in trial_type counts as a condition" in caplog.text
    caplog.clear()
    read_events(path, left_out=["none"])
    assert not caplog.records


@pytest.mark.parametrize("word", ["n/a", "", "  "])
def test_what_bids_has_for_it_needs_no_word(tmp_path, caplog, word):
    rows = [(1, 2, "cup"), ("n/a", "n/a", word)]
    assert len(read_events(write(tmp_path / "e.tsv", rows))) == 1
    assert not caplog.records


def test_blanks_around_names(tmp_path):
    rows = [(1, 2, "cup "), (4, 2, " cup"), (7, 2, "a cup")]
    events = read_events(write(tmp_path / "e.tsv", rows))
    assert events["trial_type"].tolist() == ["cup", "cup", "a cup"]


def test_times_of_events_that_are_left_out(tmp_path):
    rows = [(1, 2, "cup"), ("n/a", "n/a", "missed"), (9, 2, "missed")]
    path = write(tmp_path / "e.tsv", rows)
    with pytest.raises(ValueError, match=r"line 3 has 'n/a'.*--leave-out"):
        read_events(path)
    events = read_events(path, left_out=["missed"])
    assert events["onset"].tolist() == [1, 9]
    path = write(tmp_path / "e.tsv", rows[:2])
    found = trials_from_events([path, path], left_out=["missed"])
    assert found == (("cup", "cup"), (1, 2))


def test_weights_are_read(tmp_path):
    columns = ("onset", "duration", "trial_type", "modulation")
    path = write(tmp_path / "e.tsv", [(1, 2, "cup", 1), (5, 2, "cup", 3)], columns)
    assert read_events(path)["modulation"].tolist() == [1, 3]
    path = write(tmp_path / "e.tsv", [(1, 2, "cup", "n/a")], columns)
    with pytest.raises(ValueError, match="must have numbers as modulation; line 2 has"):
        read_events(path)
