"""The catalogue: what applies is drawn, what does not is skipped with its reason."""

import logging

import pytest

from tests.pictured import pictured_fit
from tests.synthetic import synthetic_fit
from versa.comparison import compare
from versa.plotting.catalogue import (
    CATALOGUE,
    all_figures,
    draw_results,
    report_figures,
)

FEW = {"methods": ("versa", "versa-debiased"), "sectors": ("aOTC",)}


def test_all_figures_of_a_comparison_are_written(tmp_path):
    fits = [pictured_fit(4, model=name, **FEW) for name in ("net", "other")]
    for fit, accuracy in zip(fits, (37.3, 7.2), strict=True):
        card = {"method": "ipcl", "architecture": "AlexNet", "top1_linear": accuracy}
        fit.provenance["model"]["card"] = card
    paths = draw_results(compare(fits, baseline="net"), tmp_path / "new")
    assert set((tmp_path / "new").iterdir()) == set(paths)
    kinds = ("layers", "best", "accuracy", "diets", "differences")
    expected = {f"{kind}_{method}" for kind in kinds for method in fits[0].methods}
    expected |= {"rdm_brain", "mds_brain", "multiverse_aOTC"}
    for name in ("net", "other"):
        expected |= {f"leak_{name}", f"mds_{name}", f"rdms_{name}_aOTC"}
    assert {path.stem for path in paths} == expected
    assert all(path.read_bytes().startswith(b"<?xml") for path in paths)


def test_report_and_folder_walk_the_same_catalogue():
    fits = [synthetic_fit(f"net{n}", n, shift=0.1 * n) for n in range(6)]
    comparison = compare(fits)
    assert {figure.kind for figure in all_figures(comparison)} == set(CATALOGUE)
    shown = {figure.kind.key: figure for figure in report_figures(comparison)}
    always = [kind for kind in CATALOGUE if kind.in_report and not kind.asked]
    assert list(shown) == [kind.key for kind in always]
    subjects = {key: figure.subject for key, figure in shown.items()}
    assert {subject.method for subject in subjects.values()} == {"versa-debiased"}
    assert {subject.sector for subject in subjects.values()} == {"aOTC"}
    assert subjects["leak"].models == tuple(fits[:4])
    assert "The first 4 of 6 networks." in shown["leak"].caption
    assert subjects["rdms"].models == (fits[-1],)
    assert "net5, the network with the highest score there" in shown["rdms"].caption


def test_what_does_not_apply_is_skipped_and_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="versa")
    alone = synthetic_fit("a/b:seed=1", methods=("rsa",))
    paths = draw_results(alone, tmp_path, format="png")
    assert {path.name for path in paths} == {"layers_rsa.png", "best_rsa.png"}
    for text in (
        "figure diets_rsa skipped: needs --baseline, in Python baseline=",
        "figure differences_rsa skipped: needs two networks or more",
        "figure accuracy_rsa skipped: needs two networks whose cards hold an accuracy",
        "figure leak_a/b:seed=1 skipped: needs the methods versa and versa-debiased",
        "figure mds_brain skipped: needs results that hold RDMs; fit again",
    ):
        assert text in caplog.text


def test_names_that_look_alike_get_files_of_their_own(tmp_path):
    fits = [synthetic_fit(name, **FEW) for name in ("net:1", "net/1", "NET-1")]
    paths = draw_results(fits, tmp_path, format="png")
    leaks = [path.name for path in paths if path.name.lower().startswith("leak")]
    assert leaks == ["leak_net-1.png", "leak_net-1-2.png", "leak_NET-1-3.png"]


def test_dollars_are_no_formulas(tmp_path):
    few = {"methods": ("rsa",), "sectors": ("aOTC",)}
    fits = [synthetic_fit(f"ev$x_{{$il{n}", n, **few) for n in range(2)]
    names = [path.stem for path in draw_results(fits, tmp_path)]
    assert names == ["layers_rsa", "best_rsa", "differences_rsa", "multiverse_aOTC"]
    assert "ev$x_{$il1" in (tmp_path / "best_rsa.svg").read_text()


def test_nothing_is_drawn_of_what_does_not_belong(tmp_path):
    fit = synthetic_fit()
    with pytest.raises(ValueError, match="among svg, pdf, png; got 'jpg'"):
        draw_results(fit, tmp_path / "new", format="jpg")
    with pytest.raises(ValueError, match="same dataset"):
        draw_results([fit, synthetic_fit("x", dataset="else")], tmp_path / "new")
    assert not (tmp_path / "new").exists()
