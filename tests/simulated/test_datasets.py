"""The embedded datasets: their known answer comes back."""

import logging
import multiprocessing
import os

import numpy as np
import pytest

import versa
from versa.simulated import datasets
from versa.simulated.brains import DESIGNS, pattern_covariance, simulate_responses
from versa.simulated.datasets import KNOWN_NETWORK, simulate_dataset
from versa.stats.intervals import fisher_mean

PAPER_CEILINGS = {
    "simulated-orientation": {"EarlyV": 0.90, "pOTC": 0.90, "aOTC": 0.89},
    "simulated-inanimate": {"EarlyV": 0.86, "pOTC": 0.74, "aOTC": 0.60},
}
SHAPES = {"simulated-orientation": (7, 40), "simulated-inanimate": (10, 72)}


@pytest.fixture(scope="module")
def network(offline_cache):
    return versa.load_model(KNOWN_NETWORK)


@pytest.fixture(
    scope="module",
    params=[
        "simulated-orientation",
        pytest.param("simulated-inanimate", marks=pytest.mark.slow),
    ],
)
def dataset(request, offline_cache):
    return versa.load_dataset(request.param)


def test_design_and_ceilings(dataset, network):
    assert (dataset.n_subjects, dataset.n_images) == SHAPES[dataset.name]
    for sector, n_voxels in {"EarlyV": 1000, "pOTC": 600, "aOTC": 400}.items():
        assert [v.shape[1] for v in dataset.responses[sector]] == [n_voxels] * len(
            dataset.subjects
        )
        assert dataset.sectors[sector][0].space == "TAL"
    result = versa.fit(network, ["fc6"], dataset, methods=["rsa"], progress=False)
    for sector, ceiling in PAPER_CEILINGS[dataset.name].items():
        measured = fisher_mean(result.ceiling.loc[sector])
        assert measured == pytest.approx(ceiling, abs=1e-4)


def test_known_layers_win_despite_the_noise(dataset, network):
    best = versa.fit(
        network, None, dataset, methods=["versa-debiased"], progress=False
    ).best()
    found = dict(zip(best.sector, best.layer, strict=True))
    neighbours = {
        "EarlyV": {"conv_block_1"},
        "pOTC": {"conv_block_3", "conv_block_4"},  # their RDMs correlate at .997
        "aOTC": {"fc6", "fc7"},  # and these at .99
    }
    assert all(found[sector] in layers for sector, layers in neighbours.items())


def test_without_noise_the_layer_is_found_and_reaches_the_ceiling(dataset, network):
    clean = simulate_dataset(dataset.name, dataset.stimuli, noise=False)
    result = versa.fit(network, None, clean, progress=False)
    layers = DESIGNS[dataset.name].layers
    for (sector, _), rows in result.layers().groupby(["sector", "method"]):
        assert rows.set_index("layer").r.idxmax() == layers[sector]
    for row in result.best().itertuples():
        assert row.layer == layers[row.sector]
        if row.method == "versa-debiased":
            # five components are learned from the other images almost completely
            assert row.r > row.ceiling - 0.05 > 0.94


def test_all_components_reach_the_ceiling_of_classic_rsa(dataset, network):
    """Voxels that read out the whole layer: no learning, no loss."""
    from versa.models.features import extract_grams

    layers = DESIGNS[dataset.name].layers
    grams = extract_grams(network, dataset.stimuli.paths, list(layers.values()))
    responses = {
        sector: simulate_responses(
            pattern_covariance(
                grams[layer].gram, grams[layer].sums, grams[layer].n_units
            ),
            n_subjects=4,
            n_voxels=2000,
            n_components=None,
        )
        for sector, layer in layers.items()
    }
    whole = versa.BrainDataset(
        name="whole",
        stimuli=dataset.stimuli,
        subjects=list("abcd"),
        responses=responses,
    )
    table = versa.fit(network, None, whole, methods=["rsa"], progress=False).layers()
    for sector, layer in layers.items():
        rows = table[table.sector == sector].set_index("layer")
        assert rows.r.idxmax() == layer
        assert rows.r[layer] > rows.ceiling[layer] - 1e-3


def _load(folder, done):
    os.environ["VERSA_CACHE"] = folder
    done.put(versa.load_dataset("simulated-orientation").fingerprint)


@pytest.mark.slow
def test_two_processes_make_one_dataset(tmp_path):
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    makers = [
        context.Process(target=_load, args=(str(tmp_path), done)) for _ in range(2)
    ]
    for maker in makers:
        maker.start()
    assert len({done.get(timeout=300) for _ in makers}) == 1
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0]
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == [
        "simulated-orientation-1"
    ]


def test_kept_and_made_again_when_damaged(tmp_path, monkeypatch, caplog):
    made = []

    def tiny(name, stimuli):
        made.append(name)
        responses = {"V1": [np.arange(12.0).reshape(3, 4)] * 2}
        return versa.BrainDataset(name, stimuli, ["01", "02"], responses)

    name = "simulated-orientation"
    images = {name: np.full((2, 2, 3), k, "uint8") for k, name in enumerate("abc")}
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path))
    monkeypatch.setitem(datasets._RENDERERS, name, lambda: images)
    monkeypatch.setattr(datasets, "simulate_dataset", tiny)
    before = versa.load_dataset(name)
    assert versa.load_dataset(name).fingerprint == before.fingerprint
    assert made == [name]
    (folder,) = (tmp_path / "datasets").glob(f"{name}-*")
    (folder / "stimuli.tsv").unlink()
    with caplog.at_level(logging.WARNING, "versa"):
        after = versa.load_dataset(name)
    assert "it is made again" in caplog.text
    assert after.fingerprint == before.fingerprint
    assert made == [name, name]


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match="simulated dataset must be among simulated-"):
        simulate_dataset("simulated-faces", None)
