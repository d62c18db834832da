import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

import versa
from tests.synthetic import LAYERS, SECTORS, synthetic_fit
from versa.result import METHODS, best_layer_scores
from versa.stats.intervals import corrected_interval, fisher_mean


@pytest.fixture
def result():
    return synthetic_fit()


def test_layers_table(result):
    table = result.layers()
    assert list(table) == [
        "model", "sector", "layer", "method", "r", "ci_low", "ci_high",
        "ci_low_subjects", "ci_high_subjects", "null_r", "ceiling", "ceiling_low",
        "ceiling_high", "explained", "explained_low", "explained_high", "reached",
    ]  # fmt: skip
    assert len(table) == len(SECTORS) * len(LAYERS) * len(METHODS)
    row = table[
        (table.sector == "aOTC") & (table.layer == "fc6") & (table.method == "versa")
    ].iloc[0]
    r = result.scores.loc["versa", "aOTC", "fc6"].values
    assert row.r == pytest.approx(fisher_mean(r))
    assert (row.ci_low, row.ci_high) == corrected_interval(r)[1:]
    assert row.ci_low_subjects == corrected_interval(r, df=6).low
    assert row.null_r == pytest.approx(fisher_mean(result.null.sel(sector="aOTC")))
    assert row.explained == pytest.approx((row.r / row.ceiling) ** 2)
    # the intercept-only encoder exists for veRSA alone
    assert table[table.method != "versa"].null_r.isna().all()
    assert table[table.method == "versa"].null_r.notna().all()


def test_the_share_has_the_sign_of_r(result):
    data = result.data.copy(deep=True)
    data["scores"] *= -1
    table, turned = result.layers(), replace(result, data=data).layers()
    assert (turned.r < 0).all()
    np.testing.assert_allclose(turned.explained, -table.explained, atol=1e-12)
    np.testing.assert_allclose(turned.explained, -((turned.r / turned.ceiling) ** 2))


def test_no_share_where_the_ceiling_reaches_0(result):
    data = result.data.copy(deep=True)
    noise = np.random.default_rng(0).normal(0.05, 0.2, data.sizes["split"])
    data["ceiling"].loc["aOTC"] = noise
    z = np.arctanh(noise)
    reach = t.ppf(0.975, 6) * np.sqrt((1 / z.size + 1) * z.var(ddof=1))
    assert z.mean() - reach < 0
    table = replace(result, data=data).layers()
    assert table[table.sector == "aOTC"].explained.isna().all()
    assert table[table.sector == "EarlyV"].explained.notna().all()


def test_literal_ratio_changes_the_interval_only(result):
    one, literal = result.layers(), result.layers(test_train_ratio="literal")
    np.testing.assert_array_equal(one.r, literal.r)
    assert (literal.ci_low < one.ci_low).all()
    with pytest.raises(ValueError, match="0 or more, or 'literal'; got 'half'"):
        result.layers(test_train_ratio="half")


def test_best_table(result):
    table = result.best()
    assert len(table) == len(SECTORS) * len(METHODS)
    for row in table.itertuples():
        best = best_layer_scores(result, row.method, row.sector)
        assert row.r == pytest.approx(fisher_mean(best.r))
        counts = np.bincount(best.chosen.ravel(), minlength=len(LAYERS))
        assert row.layer == LAYERS[counts.argmax()]
        assert row.chosen == counts.max() / counts.sum()
        parts = dict(part.rsplit(" ", 1) for part in row.choices.split(", "))
        shares = {
            name: count / counts.sum()
            for name, count in zip(LAYERS, counts, strict=True)
        }
        assert parts == {
            name: f"{100 * share:.0f}%" if share >= 0.01 else "<1%"
            for name, share in shares.items()
            if share
        }


def test_undefined_method_is_shown_as_such(result):
    data = result.data.copy(deep=True)
    data["scores"].loc[{"methods": "rsa"}] = np.nan
    table = replace(result, data=data).best()
    lost = table[table.method == "rsa"]
    assert lost.r.isna().all()
    assert (lost.layer == "-").all()
    assert (lost.chosen == 0).all()


def test_round_trip(result, tmp_path):
    path = result.save(tmp_path / "folder" / "fit")
    assert path == tmp_path / "folder" / "fit.nc"
    back = versa.load_result(path)
    assert back.data.drop_attrs().identical(result.data.drop_attrs())
    assert back.provenance == result.provenance
    assert back.stimuli == result.stimuli
    assert back.splits == result.splits
    assert repr(back) == repr(result)
    assert list(path.parent.iterdir()) == [path]


def test_readable_by_others(result, tmp_path):
    netcdf = pytest.importorskip("h5py")
    with netcdf.File(result.save(tmp_path / "fit.nc")) as file:
        np.testing.assert_array_equal(file["scores"][:], result.scores.values)


def test_repr_says_what_was_fitted(result):
    for text in (repr(result), result._repr_html_()):
        for part in ("made-up: 7 subjects", "EarlyV: net", "aOTC: net", "Tables"):
            assert part in text
    hostile = synthetic_fit(model="<script>")
    assert "<script>" not in hostile._repr_html_()


def test_damaged_and_foreign_files(result, tmp_path):
    with pytest.raises(ValueError, match=r"absent\.nc must exist; it is missing"):
        versa.load_result(tmp_path / "absent.nc")
    text = tmp_path / "text.nc"
    text.write_text("not netCDF")
    with pytest.raises(ValueError, match="must be a netCDF-4 file written by Fit"):
        versa.load_result(text)
    cut = result.save(tmp_path / "cut.nc")
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(ValueError, match="must be a netCDF-4 file written by Fit"):
        versa.load_result(cut)
    cut.write_bytes(result.save(tmp_path / "whole.nc").read_bytes()[:-1])
    with pytest.raises(ValueError, match="its check sum is missing"):
        versa.load_result(cut)
    foreign = tmp_path / "foreign.nc"
    result.data.to_netcdf(foreign, engine="h5netcdf")
    with pytest.raises(ValueError, match=r"format None\.$"):
        versa.load_result(foreign)


def test_every_changed_byte_is_noticed(result, tmp_path):
    path = result.save(tmp_path / "fit.nc")
    sound = path.read_bytes()
    places = [sound.index(word) for word in (b"conv_block_2", b"EarlyV", b"cup")]
    for place in [*places, *range(0, len(sound), 997)]:
        changed = bytes([sound[place] ^ 2])
        path.write_bytes(sound[:place] + changed + sound[place + 1 :])
        with pytest.raises(ValueError, match=r"fit\.nc must be .* check sum"):
            versa.load_result(path)


def test_a_file_of_an_older_version_is_read(result, tmp_path):
    path = tmp_path / "old.nc"
    data = result.data.assign_attrs(format="versa-fit-result-1")
    data.rename(methods="method").to_netcdf(path, engine="h5netcdf")
    assert versa.load_result(path).layers().equals(result.layers())


@pytest.mark.skipif(os.name == "nt", reason="needs limits of POSIX")
@pytest.mark.parametrize("limit", [0, 9000])
def test_a_full_disk_is_an_error_and_no_crash(tmp_path, limit):
    code = (
        "import gc, resource, signal, sys; from tests.synthetic import synthetic_fit\n"
        "result = synthetic_fit()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))\n"
        "try: result.save(sys.argv[1] + '/fit.nc')\n"
        "except OSError as error: print('refused', error.errno)\n"
        "del result; gc.collect(); print('alive')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert run.stdout == f"refused {errno.EFBIG}\nalive\n", run.stderr
    assert not list(tmp_path.iterdir())


def test_scores_can_be_selected_by_method(result):
    expected = result.scores.values[result.methods.index("rsa")]
    for found in (result.scores.sel(methods="rsa"), result.scores.loc["rsa"]):
        np.testing.assert_array_equal(found.values, expected)


@pytest.mark.parametrize("text", [None, "no JSON", "{}"])
def test_lost_provenance(result, tmp_path, text):
    data = result.data.copy()
    data.attrs = {} if text is None else {"provenance": text}
    path = replace(result, data=data).save(tmp_path / "fit.nc")
    with pytest.raises(ValueError, match=r"fit\.nc lacks its provenance"):
        versa.load_result(path)


def test_wrong_arrays_are_refused(result):
    with pytest.raises(ValueError, match="data must hold ceiling"):
        replace(result, data=result.data.drop_vars("ceiling"))


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX file system")
def test_failed_save_keeps_the_old_file(result, tmp_path, monkeypatch):
    path = result.save(tmp_path / "fit.nc")
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("xarray.Dataset.to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        result.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
