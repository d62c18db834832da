"""Leave-one-out ridge encoding of voxels: the one solver.

For every held-out image the prediction is what scikit-learn's
``RidgeCV(alphas, alpha_per_target=True)`` fitted to the other images would give, with
RidgeCV's own inner leave-one-out to choose alpha, but in closed form: nothing is
refitted. With ``K`` the Gram matrix centred on all images, ``M = (K + alpha I)^-1``
with the constant direction projected out, ``z = M Y`` and ``m = diag(M)``:

- the prediction for image i by a model that never saw i is ``y_i - z_i / m_i``;
- the squared error on j of a model that saw neither i nor j is
  ``((m_i z_j - M_ij z_i) / (m_i m_j - M_ij^2))^2``;
- summed over j it needs only products of (N, N) with (N, V) matrices. With
  ``W_ij = (m_i m_j - M_ij^2)^-2`` and a zero diagonal it is
  ``E_i = m_i^2 (W z^2)_i - 2 m_i z_i ((W o M) z)_i + z_i^2 sum_j W_ij M_ij^2``.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.parallel import map_in_threads, n_cores, one_blas_thread

__all__ = ["LooRidge", "alpha_grid", "debias", "fold_means", "loo_ridge"]

AUTO_ALPHAS = tuple(10.0**power for power in range(-4, 5))
"""The grid of ``alphas="auto"``, in units of the mean eigenvalue trace(K) / n."""

SKLEARN_ALPHAS = (0.1, 1.0, 10.0)
"""The grid of ``alphas="sklearn"``: the default of scikit-learn's RidgeCV."""

SMALLEST_ALPHA = 1e-10
"""In units of the mean eigenvalue; predictions with smaller penalties lose digits."""

LARGEST_OFFSET = 1e3
"""Mean of the features in units of their spread, beyond which predictions do."""

# Elements of one chunk of responses: large enough that threads spend their time inside
# NumPy and not in handing the interpreter to each other.
_CHUNK_ELEMENTS = 72 * 1024

# Where 1 - M_ij^2 / (m_i m_j) is below this, the expanded sum loses eight digits.
_CANCELLING = 1e-4


class LooRidge(NamedTuple):
    """What :func:`loo_ridge` returns.

    Attributes
    ----------
    predicted : array of shape (n_images, n_voxels)
        Response of each image predicted from all other images, in the unit of the
        responses.
    alpha : array of shape (n_images, n_voxels)
        Regularisation chosen for each held-out image and voxel.
    """

    predicted: Any
    alpha: Any


def alpha_grid(alphas: str | ArrayLike, mean_eigenvalue: float) -> np.ndarray:
    """Ridge penalties to choose from.

    Parameters
    ----------
    alphas : {"auto", "sklearn"} or array-like of shape (n_alphas,)
        ``"auto"``: nine decades around the mean eigenvalue of the centred Gram
        matrix, so that the choice does not depend on the scale of the features.
        ``"sklearn"``: (0.1, 1, 10), whatever the scale. Or positive numbers.
    mean_eigenvalue : float
        ``trace(K) / n_images`` of the centred Gram matrix; zero if all images have
        the same features (then the grid of ``"auto"`` is taken around one).

    Returns
    -------
    grid : ndarray of shape (n_alphas,)
        In the order given; on a tie the first one is chosen, as in scikit-learn.

    Raises
    ------
    ValueError
        If a number is not positive and finite, or there is none.

    Examples
    --------
    >>> alpha_grid("auto", 2.0)[:3]
    array([0.0002, 0.002 , 0.02  ])
    >>> alpha_grid("sklearn", 2.0)
    array([ 0.1,  1. , 10. ])
    """
    if isinstance(alphas, str):
        if alphas == "auto":
            return np.array(AUTO_ALPHAS) * (mean_eigenvalue or 1.0)
        if alphas == "sklearn":
            return np.array(SKLEARN_ALPHAS)
        raise ValueError(
            "alphas must be 'auto', 'sklearn' or positive numbers; "
            f"got {alphas!r}. Use 'auto' unless you match an older analysis."
        )
    grid = np.atleast_1d(np.asarray(alphas, dtype=float))
    if grid.ndim != 1 or grid.size == 0 or not np.all(np.isfinite(grid) & (grid > 0)):
        raise ValueError(
            f"alphas must be positive, finite numbers; got {grid.tolist()}. "
            "Remove the others, or use 'auto'."
        )
    return grid


def mean_eigenvalue(gram: np.ndarray) -> float:
    """``trace(K) / n_images`` of the centred Gram matrix."""
    n_images = len(gram)
    return float(np.trace(gram) - gram.sum() / n_images) / n_images


def loo_ridge(
    gram: Any,
    responses: Any,
    alphas: str | ArrayLike = "auto",
    *,
    alpha_per_voxel: bool = True,
) -> LooRidge:
    """Predict every image's responses from all other images, by ridge regression.

    Equal to leaving one image out, fitting scikit-learn's ``RidgeCV`` (intercept, own
    efficient leave-one-out for alpha) to the others and predicting the one left out.
    Works on NumPy arrays and on torch tensors of any device, in float64.

    Parameters
    ----------
    gram : array of shape (n_images, n_images)
        ``X @ X.T`` of the raw features; it is centred here.
    responses : array of shape (n_images, n_voxels)
        Betas, in any unit. Same kind of array, on the same device, as `gram`.
    alphas : {"auto", "sklearn"} or array-like of shape (n_alphas,), default="auto"
        Penalties to choose from, see :func:`alpha_grid`.
    alpha_per_voxel : bool, default=True
        Choose alpha for every voxel (RidgeCV's ``alpha_per_target=True``), or one
        for all voxels of `responses` (False). Always one per held-out image.

    Returns
    -------
    result : LooRidge
        ``predicted`` and ``alpha``, both of shape (n_images, n_voxels).

    Raises
    ------
    ValueError
        If shapes do not fit, there are fewer than four images, a number is NaN or
        infinite, `gram` is not a Gram matrix, or an alpha is not positive.

    Notes
    -----
    Constant features (a `gram` without any variance between images) predict the mean
    of the other images with the first alpha, which is also what RidgeCV does. Work is
    ``3 n_alphas`` products of (n_images, n_images) with (n_images, n_voxels) matrices.
    Predictions agree with scikit-learn's to 1e-8 of the responses' spread where alpha
    is at least 1e-4 trace(K) / n, and to 1e-6 down to 1e-10 trace(K) / n. This holds
    for features whose mean is at most a thousand times their spread: the raw product
    `gram` squares the offset, and centring it cannot restore the lost digits. Where
    the centred features have rank n - 2, or images are duplicates, the choice between
    two alphas that are both below 1e-8 trace(K) / n is not reliable.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4; the
    leave-one-out identities are those of Allen (1974), extended to pairs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((20, 5))
    >>> voxels = features @ rng.standard_normal((5, 3))
    >>> predicted, alpha = loo_ridge(features @ features.T, voxels)
    >>> bool(np.corrcoef(predicted[:, 0], voxels[:, 0])[0, 1] > 0.99)
    True
    """
    solution = solve(gram, responses, alphas, alpha_per_voxel=alpha_per_voxel)
    return LooRidge(solution.predicted, solution.alpha)


class Solution(NamedTuple):
    """Predictions, and which penalty of the grid each of them was made with."""

    predicted: Any  # (n_images, n_voxels)
    choice: Any  # (n_images, n_voxels), places in the grid
    grid: Any  # (n_alphas,)

    @property
    def alpha(self) -> Any:
        """The chosen penalties, (n_images, n_voxels)."""
        from array_api_compat import array_namespace

        xp = array_namespace(self.grid)
        flat = xp.reshape(self.choice, (-1,))
        return xp.reshape(xp.take(self.grid, flat), tuple(self.choice.shape))


def solve(
    gram: Any,
    responses: Any,
    alphas: str | ArrayLike = "auto",
    *,
    alpha_per_voxel: bool = True,
) -> Solution:
    """What `loo_ridge` does, with the grid and the places in it."""
    from array_api_compat import array_namespace, device

    gram, responses = _same_kind(gram, responses)
    xp = array_namespace(gram, responses)
    _check(xp, gram, responses)
    with one_blas_thread():
        operators, grid = operators_of(xp, gram, alphas)
        run = _alpha_per_voxel if alpha_per_voxel else one_alpha
        predicted, choice = run(xp, operators, responses)
    where = device(gram)
    return Solution(predicted, choice, xp.asarray(grid, dtype=xp.float64, device=where))


def operators_of(
    xp: Any, gram: Any, alphas: str | ArrayLike
) -> tuple["Operators", np.ndarray]:
    """All that predictions depend on beside the responses, and the penalties."""
    gram = xp.astype(gram, xp.float64)
    eigenvalues, vectors = _spectrum(xp, gram)
    total = float(xp.sum(eigenvalues))
    grid = alpha_grid(alphas, total / gram.shape[0])
    # without variance between images every alpha gives the mean of the others
    return _operators(xp, eigenvalues, vectors, grid if total else grid[:1]), grid


def _spectrum(xp: Any, gram: Any) -> tuple[Any, Any]:
    """Eigenvalues (N - 1,) of the centred Gram matrix and its eigenvectors
    (N, N - 1), orthogonal to the constant."""
    n_images = gram.shape[0]
    basis = xp.asarray(_helmert(n_images), dtype=xp.float64, device=gram.device)
    eigenvalues, vectors = xp.linalg.eigh(basis.T @ gram @ basis)
    top = float(eigenvalues[-1])
    # what centring leaves of features that are equal for all images
    trace = abs(float(xp.linalg.trace(gram)))
    noise = n_images * float(np.finfo(float).eps) * trace
    if float(eigenvalues[0]) < -max(1e-6 * abs(top), noise):
        raise ValueError(
            "gram must be X @ X.T, without negative eigenvalues; its smallest is "
            f"{float(eigenvalues[0]):.3g}, its largest {top:.3g}. Pass the raw product."
        )
    if float(xp.sum(eigenvalues)) <= noise:
        eigenvalues = xp.zeros_like(eigenvalues)
    eigenvalues = xp.where(eigenvalues > 0, eigenvalues, xp.zeros_like(eigenvalues))
    return eigenvalues, basis @ vectors


def _alpha_per_voxel(
    xp: Any, operators: "Operators", responses: Any
) -> tuple[Any, Any]:
    shape, where = tuple(responses.shape), operators.residual.device
    predicted = xp.empty(shape, dtype=xp.float64, device=where)
    choice = xp.empty(shape, dtype=xp.int64, device=where)

    def run(chunk: slice) -> None:
        y = xp.astype(responses[:, chunk], xp.float64)
        predicted[:, chunk], choice[:, chunk] = predict(xp, operators, y)

    if isinstance(responses, np.ndarray):
        map_in_threads(run, _chunks(*shape, on_cpu=True))
    else:
        for chunk in _chunks(*shape, on_cpu=False):
            run(chunk)
    return predicted, choice


def one_alpha(xp: Any, operators: "Operators", responses: Any) -> tuple[Any, Any]:
    """Predictions and place of the alpha, one for all voxels of a held-out image."""
    responses = xp.astype(responses, xp.float64)
    shape = tuple(responses.shape)
    if not shape[1]:
        return responses, xp.zeros(shape, dtype=xp.int64, device=responses.device)
    chunks = _chunks(*shape, on_cpu=isinstance(responses, np.ndarray))
    errors = [_summed_errors(xp, operators, responses[:, chunk]) for chunk in chunks]
    choice = xp.argmin(sum(errors[1:], start=errors[0]), axis=0)  # first of equals
    rows = xp.stack([operators.residual[int(k), i, :] for i, k in enumerate(choice)])
    return responses - rows @ responses, xp.broadcast_to(choice[:, None], shape)


def fold_means(responses: np.ndarray) -> np.ndarray:
    """Mean response of all other images: the intercept-only encoder.

    Parameters
    ----------
    responses : ndarray of shape (n_images, n_voxels)
        Betas, in any unit.

    Returns
    -------
    means : ndarray of shape (n_images, n_voxels)
        What an intercept-only model predicts for each held-out image.

    Notes
    -----
    ``means_i - means_j`` is ``-(y_i - y_j) / (n - 1)``: the held-out response itself.
    This is the leave-one-out bias, and the score of these predictions is the null.

    Examples
    --------
    >>> fold_means(np.array([[0.0], [3.0], [6.0]]))
    array([[4.5],
           [3. ],
           [1.5]])
    """
    n_images = responses.shape[0]
    return (responses.sum(axis=0) - responses) / (n_images - 1)


def debias(predicted: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Replace the mean of the training fold by the mean of all images.

    Parameters
    ----------
    predicted : ndarray of shape (n_images, n_voxels)
        Leave-one-out predictions of any linear model with an intercept.
    responses : ndarray of shape (n_images, n_voxels)
        The responses that were predicted, in the same unit.

    Returns
    -------
    debiased : ndarray of shape (n_images, n_voxels)
        ``predicted_i + (y_i - mean(y)) / (n_images - 1)``: the same weights, without
        what the training mean leaks about the held-out image.

    Examples
    --------
    >>> y = np.array([[0.0], [3.0], [6.0]])
    >>> debias(fold_means(y), y).ravel()
    array([3., 3., 3.])
    """
    n_images = responses.shape[0]
    return predicted + (responses - responses.mean(axis=0)) / (n_images - 1)


class Operators(NamedTuple):
    """Matrices that turn responses into leave-one-out residuals and inner errors.

    With ``r = residual @ y``, the residual of each image in a model that never saw
    it, the inner squared error of penalty k is ``r * (cross[k] @ r) + square[k] @ r^2``
    (the formula of the module with ``z = m r``).
    """

    residual: Any  # (n_alphas, N, N): diag(1 / m) M
    square: Any  # (n_alphas, N, N): diag(m^2) W diag(m^2)
    cross: Any  # (n_alphas, N, N): diag(m) (-2 W o M diag(m) + diag(own)) diag(m)
    by_pairs: tuple[bool, ...]  # (n_alphas,): where the expanded sum would cancel

    def reordered(self, order: np.ndarray) -> "Operators":
        """Those of ``gram[order][:, order]``, without another decomposition."""
        residual, square, cross = (
            np.take(np.take(matrices, order, 1), order, 2) for matrices in self[:3]
        )
        return Operators(residual, square, cross, self.by_pairs)


def _operators(xp: Any, eigenvalues: Any, vectors: Any, grid: np.ndarray) -> Operators:
    one = xp.eye(vectors.shape[0], dtype=xp.float64, device=vectors.device)
    alphas = xp.asarray(grid, dtype=xp.float64, device=vectors.device)[:, None]
    # Nothing changes when M is multiplied by a constant: keep its entries below 1.
    shrinkage = (alphas + eigenvalues[0]) / (alphas + eigenvalues)  # (n_alphas, N - 1)
    inverse = (vectors * shrinkage[:, None, :]) @ vectors.T  # (n_alphas, N, N)
    m = xp.linalg.diagonal(inverse)
    rows, columns = m[:, :, None], m[:, None, :]
    product = rows * columns
    squared = inverse * inverse
    # Positive in exact arithmetic; rounding may spoil it for near duplicates.
    determinant = xp.maximum(product - squared, product * (4 * np.finfo(float).eps))
    smallest = xp.min(determinant / product + one, axis=(1, 2))
    weight = (1.0 - one) / (determinant * determinant)
    own = xp.sum(weight * squared, axis=2)[:, :, None] * one
    return Operators(
        inverse / rows,
        (rows * rows) * weight * (columns * columns),
        rows * (own - 2.0 * rows * weight * inverse) * columns,
        tuple(float(value) < _CANCELLING for value in smallest),
    )


def _residuals(operators: Operators, y: Any) -> Any:
    """Leave-one-out residuals of every penalty in one product, (n_alphas, N, V)."""
    n_alphas, n_images, _ = operators.residual.shape
    stacked = operators.residual.reshape(n_alphas * n_images, n_images) @ y
    return stacked.reshape(n_alphas, n_images, y.shape[1])


def _inner_error(xp: Any, operators: Operators, k: int, residual: Any) -> Any:
    """Squared errors of penalty k, summed over the images that were left in, (N, V)."""
    if operators.by_pairs[k]:
        return _inner_error_by_pairs(xp, operators.residual[k, :, :], residual)
    error = operators.cross[k, :, :] @ residual
    error *= residual
    error += operators.square[k, :, :] @ (residual * residual)
    return error


def _inner_error_by_pairs(xp: Any, ratio: Any, residual: Any) -> Any:
    """The same without expanding the square: N times the work, half the digits lost.

    ``e_ij = (r_j - ratio_ji r_i) / (1 - ratio_ij ratio_ji)`` with ``ratio_ji = M_ij /
    m_j``. Both differences are small where the features leave one direction of the
    images free (rank n - 2 after centring, or a duplicate) and alpha is tiny.
    """
    rest = xp.maximum(
        1.0 - ratio * ratio.T, 4 * np.finfo(float).eps * xp.ones_like(ratio)
    )
    rows = []
    for i in range(ratio.shape[0]):
        error = residual - ratio[:, i : i + 1] * residual[i : i + 1, :]
        error /= rest[:, i : i + 1]  # zero where j is i
        rows.append(xp.sum(error * error, axis=0))
    return xp.stack(rows)


def predict(xp: Any, operators: Operators, y: Any) -> tuple[Any, Any]:
    """Predictions and index of the chosen alpha of one chunk, both (N, V)."""
    residuals = _residuals(operators, y)
    best = _inner_error(xp, operators, 0, residuals[0, :, :])
    small = xp.int8 if residuals.shape[0] <= 127 else xp.int32
    choice = xp.zeros(y.shape, dtype=small, device=y.device)
    for k in range(1, residuals.shape[0]):
        error = _inner_error(xp, operators, k, residuals[k, :, :])
        better = xp.astype(error < best, small)
        best = xp.minimum(best, error)
        choice = xp.maximum(choice, better * k)  # k ascends: the latest is the best
    # A gather at the end: masked copies in the loop would cost more than the products.
    choice = xp.astype(xp.reshape(choice, (-1,)), xp.int64)
    place = choice * choice.shape[0]
    place += xp.arange(choice.shape[0], dtype=xp.int64, device=y.device)
    residual = xp.take(xp.reshape(residuals, (-1,)), place)
    return y - xp.reshape(residual, y.shape), xp.reshape(choice, y.shape)


def _summed_errors(xp: Any, operators: Operators, y: Any) -> Any:
    """Inner squared errors summed over voxels, (n_alphas, N)."""
    residuals = _residuals(operators, y)
    return xp.stack(
        [
            xp.sum(_inner_error(xp, operators, k, residuals[k, :, :]), axis=1)
            for k in range(residuals.shape[0])
        ]
    )


def _chunks(n_images: int, n_voxels: int, *, on_cpu: bool) -> list[slice]:
    """Columns of each piece of work: as many pieces as keep every core busy."""
    elements = _CHUNK_ELEMENTS if on_cpu else _CHUNK_ELEMENTS * 64
    rounds = max(1, -(-n_voxels // max(32, elements // n_images)))
    n_pieces = -(-rounds // n_cores()) * n_cores() if on_cpu else rounds
    step = max(32, -(-n_voxels // n_pieces))
    return [slice(i, min(i + step, n_voxels)) for i in range(0, n_voxels, step)]


@functools.cache
def _helmert(n: int) -> np.ndarray:
    """Orthonormal basis of what is orthogonal to the constant, (n, n - 1)."""
    from scipy.linalg import helmert

    return np.ascontiguousarray(helmert(n).T)


def _same_kind(gram: Any, responses: Any) -> tuple[Any, Any]:
    from array_api_compat import is_array_api_obj

    gram, responses = (
        array if is_array_api_obj(array) else np.asarray(array, dtype=float)
        for array in (gram, responses)
    )
    if type(gram) is not type(responses):
        raise ValueError(
            "gram and responses must be arrays of one library; got "
            f"{type(gram).__name__} and {type(responses).__name__}. Convert one."
        )
    return gram, responses


def _check(xp: Any, gram: Any, responses: Any) -> None:
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(
            f"gram must be (n_images, n_images); got {tuple(gram.shape)}. "
            "Pass X @ X.T of the features X (n_images, n_units)."
        )
    n_images = gram.shape[0]
    if responses.ndim != 2 or responses.shape[0] != n_images:
        raise ValueError(
            f"responses must be (n_images, n_voxels) with {n_images} images as in "
            f"gram; got {tuple(responses.shape)}."
        )
    if n_images < 4:
        raise ValueError(
            "loo_ridge must have at least 4 images, to leave two out and still fit; "
            f"got {n_images}."
        )
    for name, array in (("gram", gram), ("responses", responses)):
        finite = xp.isfinite(array)
        if not bool(xp.all(finite)):
            columns = int(xp.sum(xp.astype(~xp.all(finite, axis=0), xp.int64)))
            raise ValueError(
                f"{name} must be finite; {columns} of {array.shape[1]} columns hold "
                "NaN or infinity. Drop them first."
            )
    asymmetry = float(xp.max(xp.abs(gram - gram.T)))
    if asymmetry > 1e-8 * float(xp.max(xp.abs(gram))):
        raise ValueError(
            f"gram must be symmetric; it differs from its transpose by {asymmetry:.3g}."
            " Pass X @ X.T of the features X (n_images, n_units)."
        )
