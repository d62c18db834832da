"""
Leave-one-out bias, seen in a fit
=================================

An intercept-only encoder, which has learned *nothing*, predicts for every image the
mean of the other images. This training mean leaks information about the held-out image,
with a negative sign, and the RDM of such predictions *is* the brain's RDM. The page on
:doc:`the leave-one-out bias </leak>` has the algebra; this one shows it in arrays and
in a fit.
"""

import numpy as np
from matplotlib.figure import Figure

import versa
from versa.fmri.encoding import debias, fold_means, loo_ridge
from versa.fmri.rdm import correlation_rdm
from versa.plotting import plot_null

# %%
# In ten lines
# ------------
# Responses of 300 voxels to 40 images: noise, nothing else.

rng = np.random.default_rng(0)
responses = rng.standard_normal((40, 300))
learned_nothing = fold_means(responses)  # the mean of the other 39 images
measured = correlation_rdm(responses)
predicted = correlation_rdm(learned_nothing)
r = np.corrcoef(measured, predicted)[0, 1]
print(f"r of the RDMs: {r:.3f}; mean predicted distance: {predicted.mean():.1g}")

# %%
# The predictions hardly differ between images, but a correlation does not mind how
# small a difference is. With one mean for all images nothing is left:

repaired = debias(learned_nothing, responses)
print(f"largest difference between two images: {np.ptp(repaired, axis=0).max():.1g}")

# %%
# Features that predict nothing, at four scales
# ---------------------------------------------
# Random features have nothing to say about random responses: the honest score is 0. The
# smaller the features are against a fixed penalty, the less a ridge regression dares to
# learn, and the closer the paper's procedure comes to the encoder above.

features = rng.standard_normal((40, 500))
scales = (1.0, 0.1, 0.01, 0.001)
scores = {"versa": [], "versa-debiased": []}
for scale in scales:
    x = scale * features
    guess = loo_ridge(x @ x.T, responses, "sklearn").predicted
    for name, patterns in (
        ("versa", guess),
        ("versa-debiased", debias(guess, responses)),
    ):
        scores[name].append(np.corrcoef(measured, correlation_rdm(patterns))[0, 1])

figure = Figure(figsize=(5.4, 3.2), layout="constrained")
ax = figure.subplots()
ax.semilogx(scales, scores["versa"], "o-", color="#D55E00", label="versa")
ax.semilogx(
    scales, scores["versa-debiased"], "s-", color="#0072B2", label="versa-debiased"
)
ax.axhline(
    r, color="black", linestyle="--", linewidth=1, label="intercept-only encoder"
)
ax.axhline(0, color="black", linewidth=0.6)
ax.invert_xaxis()
ax.set(
    xlabel="scale of the features", ylabel="r with the measured RDM", ylim=(-0.15, 1.05)
)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(0, 0.6))

# %%
# In a fit
# --------
# The same in a real comparison, layer by layer: the score of the paper's procedure,
# that of an intercept-only encoder, and the score after debiasing. The network is the
# one that the brains were simulated from, so there is something to learn, and the two
# scores agree where the layer predicts well.

result = versa.fit(
    "alexnet_gn_untrained",
    ["conv_block_1", "conv_block_3", "conv_block_5", "fc7", "l2norm"],
    dataset="simulated-inanimate",
    progress=False,
)
whole = plot_null(result)

# %%
# Now penalties that are too large for the features, 1e4 and more. This is what the
# usual .1, 1 and 10 are to a network with small activations. The early layers have
# large ones and go on learning. ``l2norm``, whose features have length 1, learns almost
# nothing, scores by the bias, and would be the best layer of all. In between, at
# ``fc7``, the little that is learned and the bias, which has the opposite sign, cancel
# out, so the bias can also hide what a layer knows. After debiasing both keep their
# place.

large = versa.fit(
    "alexnet_gn_untrained",
    ["conv_block_1", "conv_block_3", "conv_block_5", "fc7", "l2norm"],
    dataset="simulated-inanimate",
    alphas=[1e4, 1e5],
    progress=False,
)
leaning = plot_null(large)

# %%
# `versa.fit` warns where less than half of a score is left after debiasing. This
# catches layers that know nothing, not layers that know something and look better than
# they are, as here; so look at this figure, or read `versa-debiased` in the first
# place.

print("\n".join(large.provenance["warnings"]) or "no warning")
