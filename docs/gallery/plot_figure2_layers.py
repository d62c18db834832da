"""
Figure 2: layers against sectors
================================

The paper's Figure 2 shows, for each sector of the visual brain, how the score rises and
falls over the layers of a network, and beside it the best layer over all half-splits.
Here is its form on the simulated version of the second experiment (10 subjects, 72
objects).

Where is the peak? Here it is known: voxels of EarlyV read out ``conv_block_1``
of `alexnet_gn_untrained`, those of pOTC ``conv_block_4``, those of aOTC ``fc7``.
"""

import versa
from versa.plotting import plot_best, plot_layers

names = ("alexnet_gn_untrained", "alexnet_gn_untrained:seed=1", "alexnet_bn_untrained")
results = [
    versa.fit(name, dataset="simulated-inanimate", progress=False) for name in names
]

# %%
# The curves
# ----------
# Three untrained networks: the one that the brains were made from, the same with other
# weights, and one with BatchNorm in place of GroupNorm. Only the first has a layer to
# be found. The ceiling differs between sectors, as in the paper (.86, .74, .60).

curves = plot_layers(results, method="versa-debiased")

# %%
# Both halves of 126 splits
# -------------------------
# Every violin holds 252 scores of the best layer, chosen in the other half, and ends at
# the last score within 1.5 interquartile ranges of the quartiles, as in the paper. Its
# width is *not* the uncertainty of the mean: the splits overlap. That is what the
# intervals are for.

violins = plot_best(results, method="versa-debiased")

# %%
# The paper's own method
# ----------------------
# The same by the procedure of the paper, number for number. The dashed line is the
# score of an intercept-only encoder; read any curve of this method next to it
# (:doc:`the leave-one-out bias </leak>`).

faithful = plot_layers(results, method="versa")

# %%
# With the real networks
# ----------------------
# Once the paper's data are in place (:doc:`/datasets/orientation`), this is Figure 2::
#
#     names = [f"alexnet_gn_ipcl_ref{n:02d}" for n in range(1, 6)]
#     names += ["alexnet_gn_supervised_ref12_augset1_5x",
#               "alexnet_gn_supervised_ref13_augset1_1x"]
#     results = [versa.fit(name, dataset="inanimate") for name in names]
#     plot_layers(results, method="versa")
