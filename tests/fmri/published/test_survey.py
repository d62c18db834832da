"""What lies in an archive, and which finds belong together."""

import numpy as np
import pandas as pd
import pytest
import scipy.io

from tests.archives import matlab_archive, table_archive
from versa.fmri.published.survey import Find, families, survey_archive


def test_what_lies_in_a_matlab_archive(tmp_path):
    survey = survey_archive(matlab_archive(tmp_path))
    assert len(survey.arrays) == 18
    assert survey.arrays[0].address == "SECTORS.mat|SECTORS.Betas.EarlyV[0]"
    assert survey.arrays[0].shape == (9, 6)
    assert [(one.key, len(one.texts)) for one in survey.names] == [
        ("SECTORS.conditions", 6)
    ]
    assert set(survey.images) == {"stimuli/{condition}.png"}
    assert survey.damaged == ()


def test_tables_with_and_without_names(tmp_path):
    survey = survey_archive(table_archive(tmp_path))
    first = survey.arrays[0]
    assert (first.shape, first.header, first.column) == ((6, 9), True, "condition")
    np.savetxt(tmp_path / "plain.csv", np.ones((6, 4)), delimiter=",")
    (tmp_path / "table.csv").write_text("file,condition\na.png,a\nb.png,b\n")
    survey = survey_archive(tmp_path)
    plain = next(one for one in survey.arrays if one.file == "plain.csv")
    assert (plain.shape, plain.header, plain.column) == ((6, 4), False, "")
    columns = [one.column for one in survey.names if one.file == "table.csv"]
    assert columns == ["file", "condition"]


@pytest.mark.parametrize(
    ("turned", "write", "expected"),
    [
        (False, {}, ((6, 4), True, "column 1", ("first column",))),
        (True, {}, ((4, 6), True, "column 1", ("first column",))),
        (True, {"index": False}, ((4, 6), True, "", ("first line",))),
        (False, {"header": False}, ((6, 4), False, "column 1", ("first column",))),
    ],
)
def test_what_pandas_adds_is_no_data(tmp_path, turned, write, expected):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 4)))
    (frame.T if turned else frame).to_csv(tmp_path / "t.csv", **write)
    (found,) = survey_archive(tmp_path).arrays
    assert (found.shape, found.header, found.column, found.counting) == expected


def test_a_column_that_counts_beside_one_of_names(tmp_path):
    lines = ["trial,condition,v0,v1", "1,dog,0.5,0.25", "2,ant,0.75,0.1"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    survey = survey_archive(tmp_path)
    (found,) = survey.arrays
    assert (found.shape, found.column) == ((2, 2), "condition")
    assert found.counting == ("first column",)
    assert survey.names[0].texts == ("dog", "ant")


def test_hidden_and_damaged_files(tmp_path):
    (tmp_path / ".git").mkdir()
    np.save(tmp_path / ".git" / "x.npy", np.eye(2))
    (tmp_path / "x.npy").write_bytes(b"no array")
    (tmp_path / "x.nii").write_bytes(b"no image")
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    (tmp_path / "flirt.mat").write_text(("1 0 0 0\n" * 9)[:52])
    (tmp_path / "old.csv").write_text("a;b\n1;2\n")
    old = tmp_path / "b.zip.unpacked.old-2026-01-31"
    old.mkdir()
    np.save(old / "x.npy", np.eye(2))
    survey = survey_archive(tmp_path)
    assert survey.arrays == survey.volumes == survey.masks == ()
    assert len(survey.damaged) == 4
    assert any("old.csv must have commas" in reason for reason in survey.damaged)


def test_logicals_and_unreadable_parts_are_no_responses(tmp_path):
    content = {"mask": np.ones((6, 6), dtype=bool), "z": np.array([[1j, 2]])}
    scipy.io.savemat(tmp_path / "x.mat", content)
    assert survey_archive(tmp_path).arrays == ()


@pytest.mark.parametrize(
    ("files", "pattern", "subjects", "sectors"),
    [
        (
            ["sub-{0}/sub-{0}_roi-{1}.npy"],
            "sub-{subject}/sub-{subject}_roi-{sector}.npy|",
            ("01", "02", "10"),
            ("EarlyV", "aOTC"),
        ),
        (
            ["{1}/subj{0}.npy"],
            "{sector}/{subject}.npy|",
            ("subj01", "subj02", "subj10"),
            ("EarlyV", "aOTC"),
        ),
        (
            ["{0}_{1}.npy"],
            "{subject}_{sector}.npy|",
            ("01", "02", "10"),
            ("EarlyV", "aOTC"),
        ),
    ],
)
def test_subjects_and_sectors_by_their_names(files, pattern, subjects, sectors):
    finds = [
        Find(file.format(subject, sector))
        for file in files
        for subject in ("10", "01", "02")
        for sector in ("EarlyV", "aOTC")
    ]
    (family,) = families(finds)
    assert (family.pattern, family.subjects, family.sectors) == (
        pattern,
        subjects,
        sectors,
    )
    assert set(family.members.values()) == set(finds)


def test_areas_with_numbers_are_not_subjects():
    finds = [Find(f"S{s}/{roi}.npy") for s in (1, 2) for roi in ("V1", "V2", "V3")]
    (family,) = families(finds)
    assert family.subjects == ("S1", "S2")
    assert family.sectors == ("V1", "V2", "V3")
    (family,) = families([Find(f"{roi}.npy") for roi in ("V1", "V2")])
    assert family.subjects == ("",)
    assert family.sectors == ("V1", "V2")


def test_kinds_of_data_are_kept_apart():
    finds = [
        Find("x.mat", f"S.{kind}.{roi}[{s}]")
        for kind in ("odd", "even")
        for roi in ("EarlyV", "pOTC")
        for s in range(2)
    ]
    assert [family.pattern for family in families(finds)] == [
        "x.mat|S.odd.{sector}[{index}]",
        "x.mat|S.even.{sector}[{index}]",
    ]
    swapped = [Find("x.mat", f"S.{r}.{k}[0]") for r in ("EarlyV", "pOTC") for k in "ab"]
    patterns = {family.pattern for family in families(swapped)}
    assert patterns == {"x.mat|S.{sector}.a[0]", "x.mat|S.{sector}.b[0]"}
