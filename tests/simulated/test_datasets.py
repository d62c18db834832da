"""The embedded datasets: their known answer comes back."""

import logging
import multiprocessing
import os

import numpy as np
import pytest

import versa
from versa.simulated.brains import (
    DESIGNS,
    pattern_covariance,
    simulate_responses,
)
from versa.simulated.datasets import KNOWN_NETWORK, simulate_dataset
from versa.stats.intervals import fisher_mean

PAPER_CEILINGS = {
    "simulated-orientation": {"EarlyV": 0.90, "pOTC": 0.90, "aOTC": 0.89},
    "simulated-inanimate": {"EarlyV": 0.86, "pOTC": 0.74, "aOTC": 0.60},
}
SHAPES = {"simulated-orientation": (7, 40), "simulated-inanimate": (10, 72)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("VERSA_CACHE", str(folder))
        patch.setenv("VERSA_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="module")
def network(cache):
    return versa.load_model(KNOWN_NETWORK)


@pytest.fixture(scope="module", params=list(DESIGNS))
def twin(request, cache):
    return versa.load_dataset(request.param)


def test_design_and_ceilings(twin, network):
    assert (twin.n_subjects, twin.n_images) == SHAPES[twin.name]
    for sector, n_voxels in {"EarlyV": 1000, "pOTC": 600, "aOTC": 400}.items():
        assert [v.shape[1] for v in twin.responses[sector]] == [n_voxels] * len(
            twin.subjects
        )
        assert twin.sectors[sector][0].space == "TAL"
    result = versa.fit(network, ["fc6"], twin, methods=["rsa"], progress=False)
    for sector, ceiling in PAPER_CEILINGS[twin.name].items():
        measured = fisher_mean(result.ceiling.loc[sector])
        assert measured == pytest.approx(ceiling, abs=1e-4)


def test_known_layers_win_despite_the_noise(twin, network):
    best = versa.fit(
        network, None, twin, methods=["versa-debiased"], progress=False
    ).best()
    found = dict(zip(best.sector, best.layer, strict=True))
    neighbours = {
        "EarlyV": {"conv_block_1"},
        "pOTC": {"conv_block_3", "conv_block_4"},  # their RDMs correlate at .997
        "aOTC": {"fc6", "fc7"},  # and these at .99
    }
    assert all(found[sector] in layers for sector, layers in neighbours.items())


def test_without_noise_the_layer_is_found_and_reaches_the_ceiling(twin, network):
    clean = simulate_dataset(twin.name, twin.stimuli, noise=False)
    result = versa.fit(network, None, clean, progress=False)
    layers = DESIGNS[twin.name].layers
    for (sector, _), rows in result.layers().groupby(["sector", "method"]):
        assert rows.set_index("layer").r.idxmax() == layers[sector]
    for row in result.best().itertuples():
        assert row.layer == layers[row.sector]
        if row.method == "versa-debiased":
            # five components are learned from the other images almost completely
            assert row.r > row.ceiling - 0.05 > 0.94


def test_all_components_reach_the_ceiling_of_classic_rsa(twin, network):
    """Voxels that read out the whole layer: no learning, no loss."""
    from versa.models.features import extract_grams

    layers = DESIGNS[twin.name].layers
    grams = extract_grams(network, twin.stimuli.paths, list(layers.values()))
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
        name="whole", stimuli=twin.stimuli, subjects=list("abcd"), responses=responses
    )
    table = versa.fit(network, None, whole, methods=["rsa"], progress=False).layers()
    for sector, layer in layers.items():
        rows = table[table.sector == sector].set_index("layer")
        assert rows.r.idxmax() == layer
        assert rows.r[layer] > rows.ceiling[layer] - 1e-3


def _load(folder, done):
    os.environ["VERSA_CACHE"] = folder
    done.put(versa.load_dataset("simulated-orientation").fingerprint)


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


def test_kept_and_made_again_when_damaged(cache, caplog):
    name = "simulated-orientation"
    before = versa.load_dataset(name)
    (folder,) = (cache / "datasets").glob(f"{name}-*")
    (folder / "stimuli.tsv").unlink()
    with caplog.at_level(logging.WARNING, "versa"):
        after = versa.load_dataset(name)
    assert "it is made again" in caplog.text
    assert after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(
        after.responses["aOTC"][3], before.responses["aOTC"][3]
    )
