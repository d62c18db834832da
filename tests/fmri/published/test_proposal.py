"""Proposals: right for archives that name things, silent about what they do not."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.io

from tests.archives import (
    NAMES,
    SECTORS,
    array_archive,
    brainvoyager_archive,
    cells,
    known_betas,
    matlab_archive,
    table_archive,
    write_images,
)
from tests.fmri.published.test_converting import KINDS, check_known
from versa.fmri.published.converting import convert
from versa.fmri.published.layout import Layout
from versa.fmri.published.mapping import read_layout
from versa.fmri.published.proposal import propose_layout, write_proposal


def said(remarks, kind, section):
    return " ".join(r.text for r in remarks if (r.kind, r.section) == (kind, section))


def confirm(path):
    text = path.read_text()
    path.write_text(text.replace("confirmed = false", "confirmed = true"))
    return read_layout(path)


@pytest.mark.parametrize("kind", KINDS)
def test_propose_confirm_convert(tmp_path, kind):
    folder = KINDS[kind][0](tmp_path / "archive")
    path = tmp_path / "map.toml"
    remarks = write_proposal(path, folder, n_images=6, n_subjects=3)
    layout, again = propose_layout(folder, n_images=6, n_subjects=3)
    assert remarks == again
    assert read_layout(path) == layout
    with pytest.raises(ValueError, match="must be confirmed"):
        convert(folder, layout)
    check_known(convert(folder, confirm(path)))
    assert "the axis of length 6" in said(remarks, "sure", "responses")
    assert "licence" in said(remarks, "decide", "dataset")
    counts = {s: [x.shape[1] for x in xs] for s, xs in known_betas().items()}
    assert {s: list(n.values()) for s, n in layout.voxels.items()} == counts


@pytest.mark.parametrize("masks", ["voi", "msk"])
def test_brainvoyager_archives(tmp_path, masks):
    pytest.importorskip("bvbabel")
    folder = brainvoyager_archive(tmp_path / "archive", masks)
    path = tmp_path / "map.toml"
    remarks = write_proposal(path, folder, n_images=6, n_subjects=3)
    guessed = said(remarks, "guess", "responses")
    assert "radiological" in guessed
    assert "{subject}/betas.vmp" in guessed
    dataset = convert(folder, confirm(path))
    assert dataset.stimuli.names == NAMES
    assert set(dataset.sector_names) == set(SECTORS)
    assert dataset.subjects == ("S1", "S2", "S3")


def test_what_nobody_has_named_is_not_proposed(tmp_path):
    folder = array_archive(tmp_path / "archive")
    (folder / "conditions.txt").unlink()
    layout, remarks = propose_layout(folder, n_images=6)
    assert layout is None
    assert "no list of names is that" in said(remarks, "decide", "conditions")
    path = tmp_path / "map.toml"
    write_proposal(path, folder, n_images=6)
    assert re.search(r"\[conditions\]\n# DECIDE: the order", path.read_text())
    with pytest.raises(ValueError, match="exactly one of names, file and from_maps"):
        read_layout(path)
    names = ", ".join(f'"{name}"' for name in NAMES)
    text = path.read_text().replace("number = 6", f"number = 6\nnames = [{names}]")
    path.write_text(text)
    check_known(convert(folder, confirm(path)))


def test_several_orders_of_the_names_are_left_to_decide(tmp_path):
    folder = array_archive(tmp_path)
    (folder / "sorted.txt").write_text("\n".join(sorted(NAMES)))
    layout, remarks = propose_layout(folder, n_images=6)
    assert layout is None
    text = said(remarks, "decide", "conditions")
    assert "conditions.txt" in text
    assert "sorted.txt" in text
    assert "several orders" in text


def test_names_beside_the_responses_are_preferred(tmp_path):
    folder = matlab_archive(tmp_path)
    (folder / "sorted.txt").write_text("\n".join(sorted(NAMES)))
    layout, _ = propose_layout(folder, n_images=6)
    assert layout.conditions_file == "SECTORS.mat"


def test_names_of_conditions_that_are_file_names(tmp_path):
    folder = matlab_archive(tmp_path, names=[f"{name}.png" for name in NAMES])
    layout, remarks = propose_layout(folder)
    assert layout.images_file == "stimuli/{condition}"
    assert "include the suffix" in said(remarks, "sure", "images")


def test_labels_that_the_archive_lists(tmp_path):
    folder = matlab_archive(tmp_path)
    content = {"subjects": cells(["anna", "bert", "carl"])}
    scipy.io.savemat(folder / "info.mat", content)
    layout, _ = propose_layout(folder, n_images=6)
    assert layout.subjects == ("anna", "bert", "carl")
    assert (layout.subjects_file, layout.subjects_key) == ("info.mat", "subjects")
    assert layout.voxels["EarlyV"] == {"anna": 9, "bert": 8, "carl": 7}


def test_numbers_that_do_not_fit(tmp_path):
    folder = array_archive(tmp_path)
    layout, remarks = propose_layout(folder, n_images=6, n_subjects=7)
    assert layout is None
    text = "there should be 7 subjects; 3 fit"
    assert text in said(remarks, "decide", "subjects")
    layout, remarks = propose_layout(folder, n_images=72)
    assert layout is None
    assert "stimuli/{condition}.png (6)" in said(remarks, "decide", "images")
    assert "no family of arrays has an axis of 72" in said(
        remarks, "decide", "responses"
    )


def test_odd_and_even_runs_are_not_mixed(tmp_path):
    folder = table_archive(tmp_path)
    for path in sorted((folder / "betas").rglob("*.csv")):
        other = folder / "reliability" / path.relative_to(folder / "betas")
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text(path.read_text())
    layout, remarks = propose_layout(folder)
    assert layout.responses_file == "betas/{subject}/{sector}.csv"
    assert "reliability/{subject}" in said(remarks, "guess", "responses")


def test_rdms_are_not_responses(tmp_path):
    write_images(tmp_path / "stimuli")
    for subject in ("S1", "S2"):
        np.save(tmp_path / f"{subject}_V1.npy", np.ones((6, 6)))
    layout, remarks = propose_layout(tmp_path)
    assert layout is None
    assert "(6, 6)" in said(remarks, "decide", "responses")


def test_axes_that_differ_and_arrays_that_are_missing(tmp_path):
    folder = array_archive(tmp_path)
    file = folder / "S2_pOTC.npy"
    np.save(file, np.load(file).T)
    layout, remarks = propose_layout(folder, n_images=6)
    assert layout is None
    assert "on different axes" in said(remarks, "decide", "responses")
    file.unlink()
    layout, remarks = propose_layout(folder, n_images=6)
    assert "these are missing: pOTC of S2" in said(remarks, "decide", "sectors")
    assert isinstance(layout, Layout)


@pytest.mark.parametrize("name", ["{}_{}", "{}/{}", "roi-{}.{}", "{1}_{0}", "{1}-{0}"])
def test_hemispheres_are_put_together(tmp_path, name):
    write_images(tmp_path / "stimuli")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    rng = np.random.default_rng(3)
    known = {}
    for subject in ("s01", "s02"):
        for sector in ("EarlyV", "aOTC"):
            for side in ("lh", "rh"):
                file = f"roi/{subject}/{name.format(side, sector)}.npy"
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                known[subject, sector, side] = rng.normal(size=(6, 4))
                np.save(tmp_path / file, known[subject, sector, side])
    layout, remarks = propose_layout(tmp_path)
    assert "hemispheres are put together" in said(remarks, "guess", "sectors")
    dataset = convert(tmp_path, replace(layout, confirmed=True))
    assert set(dataset.sector_names) == {"EarlyV", "aOTC"}
    for sector, per_subject in dataset.responses.items():
        for subject, values in zip(dataset.subjects, per_subject, strict=True):
            sides = [known[subject, sector, side] for side in ("lh", "rh")]
            np.testing.assert_array_equal(values, np.hstack(sides))


def test_damaged_files_are_passed_over_and_named(tmp_path):
    folder = array_archive(tmp_path)
    (folder / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file" * 20)
    layout, remarks = propose_layout(folder, n_images=6)
    assert layout is not None
    assert "broken.mat must be a whole MATLAB" in said(remarks, "decide", "responses")


@pytest.mark.parametrize(
    ("turned", "write", "place"),
    [
        (False, {}, "first column"),
        (True, {}, "first column"),
        (True, {"index": False}, "first line"),
        (False, {"header": False}, "first column"),
    ],
)
def test_tables_that_pandas_wrote(tmp_path, caplog, turned, write, place):
    folder = array_archive(tmp_path / "archive")
    for path in folder.glob("*.npy"):
        frame = pd.DataFrame(np.load(path).T)
        (frame.T if turned else frame).to_csv(path.with_suffix(".csv"), **write)
        path.unlink()
    path = tmp_path / "map.toml"
    remarks = write_proposal(path, folder, n_images=6, n_subjects=3)
    assert f"the {place} of tables count 0, 1, 2," in said(
        remarks, "decide", "responses"
    )
    caplog.clear()
    dataset = convert(folder, confirm(path))
    for sector, per_subject in known_betas().items():
        for found, known in zip(dataset.responses[sector], per_subject, strict=True):
            np.testing.assert_allclose(found, known, rtol=1e-12)
    assert "nothing shows that the order is the same" in caplog.text


def test_tables_with_semicolons_are_named(tmp_path):
    folder = table_archive(tmp_path)
    for path in (folder / "betas").rglob("*.csv"):
        path.write_text(path.read_text().replace(",", ";").replace(".", ","))
    layout, remarks = propose_layout(folder, n_images=6)
    assert layout is None
    assert "it has semicolons. Save it again" in said(remarks, "decide", "responses")


def test_files_of_other_programs_are_passed_over_and_named(tmp_path):
    folder = array_archive(tmp_path)
    (folder / "flirt.mat").write_text(("1 0 0 0\n0 1 0 0\n" * 9)[:52])
    (folder / "x.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / "y.npy").write_bytes(b"\x93NUMPY\x01\x00\x04\x00{'a:")
    layout, remarks = propose_layout(folder, n_images=6)
    assert layout is not None
    text = said(remarks, "decide", "responses")
    assert "flirt.mat must be a whole MATLAB" in text
    assert "y.npy must be a whole" in text


def test_a_corrected_file_is_not_overwritten(tmp_path):
    folder = array_archive(tmp_path / "archive")
    path = tmp_path / "map.toml"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"map\.toml must not exist: what was correct"):
        write_proposal(path, folder)
    with pytest.raises(ValueError, match="the archive must be a folder"):
        propose_layout(tmp_path / "nowhere")
    assert path.read_text() == "mine"
