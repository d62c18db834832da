"""How far embeddings are spread out: what tells a collapse from a good start."""

import torch

SPREAD = ("embedding_sd", "effective_rank")


def moments(rows: torch.Tensor) -> torch.Tensor:
    """Number, sums and products (1 + dim + dim ** 2,) of rows (n_rows, dim)."""
    x = rows.detach().double()
    count = x.new_full((1,), len(x))
    return torch.cat([count, x.sum(0), (x.T @ x).flatten()])


def spread(total: torch.Tensor) -> dict[str, float]:
    """`SPREAD` of unit rows with these `moments`.

    The standard deviation of a unit, root mean square over units, times the root of
    their number: 1 where directions cancel, 0 where all rows are one. The effective
    rank of the centred rows (Roy & Vetterli 2007): the exponential of the entropy of
    their singular values.
    """
    total = total.cpu()
    dim = int((len(total) - 1) ** 0.5)
    count, mean = total[0], total[1 : 1 + dim] / total[0]
    products = total[1 + dim :].view(dim, dim) / count
    covariance = products - mean[:, None] * mean
    variance = covariance.trace().clamp(min=0)
    if not bool(torch.isfinite(total).all()):
        return dict.fromkeys(SPREAD, float("nan"))
    values = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
    share = values / values.sum()
    entropy = -torch.special.xlogy(share, share).sum()
    rank = float(entropy.exp()) if bool(values.sum() > 0) else 0.0
    return dict(zip(SPREAD, (float(variance.sqrt()), rank), strict=True))
