"""How far embeddings are spread out: against NumPy, and at both ends."""

import numpy as np
import pytest
import torch

from versa.models.ipcl.spread import moments, spread


def test_spread_is_that_of_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)) * [3, 2, 1, 1, 0.5, 0.1] + 1
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    parts = [moments(torch.from_numpy(part)) for part in np.split(x, 5)]
    found = spread(torch.stack(parts).sum(0))
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    share = values / values.sum()
    rank = np.exp(-(share * np.log(share)).sum())
    assert found["effective_rank"] == pytest.approx(rank, rel=1e-9)
    sd = np.sqrt(x.var(axis=0).mean()) * np.sqrt(6)
    assert found["embedding_sd"] == pytest.approx(sd, rel=1e-9)


def test_spread_at_both_ends():
    same = torch.tensor([[0.0, 1.0]]).expand(8, 2)
    assert spread(moments(same)) == {"embedding_sd": 0.0, "effective_rank": 0.0}
    around = torch.cat([torch.eye(4), -torch.eye(4)])
    assert spread(moments(around)) == pytest.approx(
        {"embedding_sd": 1.0, "effective_rank": 4.0}
    )
    bad = spread(moments(torch.full((3, 2), torch.nan)))
    assert all(np.isnan(value) for value in bad.values())
