"""What is listed of an archive, so that a person can write its mapping file."""

import numpy as np
import pytest
from nibabel import Nifti1Image

from tests.archives import SECTORS, brainvoyager_archive, matlab_archive, table_archive
from versa.fmri.published.contents import archive_contents


@pytest.mark.parametrize("version", [5, 73])
def test_a_matlab_archive(tmp_path, version):
    table = archive_contents(matlab_archive(tmp_path, version))
    assert len(table) == 20
    assert table.iloc[0].tolist() == [
        *("SECTORS.mat", "SECTORS.Betas.EarlyV[0]", "9 x 6", "float64", "")
    ]
    found = table.set_index("key")
    assert found.loc["SECTORS.Reliability.pOTC[1]", "shape"] == "4 x 1"
    names = found.loc["SECTORS.conditions"]
    assert names[["shape", "type"]].tolist() == ["6", "text"]
    assert names["begins"] == "dog, ant, cup and 3 more"
    assert table.iloc[-1].tolist() == ["stimuli/*.png", "", "6", "images", ""]


def test_tables_and_volumes(tmp_path):
    table_archive(tmp_path)
    (tmp_path / "names.txt").write_text("cup\ndog\n")
    image = Nifti1Image(np.zeros((4, 3, 2, 6)), np.eye(4))
    image.to_filename(tmp_path / "S1.nii.gz")
    found = archive_contents(tmp_path).set_index("file")
    assert found.loc["betas/S1/EarlyV.csv"].tolist() == [
        *("", "7 x 10", "table", "condition, v0, v1 and 7 more")
    ]
    assert found.loc["names.txt", ["shape", "type"]].tolist() == ["2", "text"]
    assert found.loc["S1.nii.gz", ["shape", "type"]].tolist() == [
        *("4 x 3 x 2 x 6", "volume")
    ]


def test_files_of_brainvoyager(tmp_path):
    pytest.importorskip("bvbabel")
    found = archive_contents(brainvoyager_archive(tmp_path)).set_index("file")
    assert found.loc["S1/betas.vmp", "type"] == "volume of BrainVoyager"
    areas = found.loc["rois.voi"]
    assert areas["type"] == "areas in TAL"
    assert areas["begins"] == ", ".join(SECTORS)


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
    found = archive_contents(tmp_path).set_index("file")["type"]
    assert found["x.pdf"] == "4 bytes"
    damaged = found.drop("x.pdf")
    assert len(damaged) == 4
    assert damaged.str.startswith("cannot be read: must ").all()
    assert "must have commas" in damaged["old.csv"]
    with pytest.raises(ValueError, match="the archive must be a folder; got"):
        archive_contents(tmp_path / "none")
