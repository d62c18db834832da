"""
Figure 3: visual diets
======================

What a network is trained on is its visual diet. The paper's Figure 3 sets networks of
other diets (faces, places, ...) against the one that saw ImageNet.

**What is shown here is the form, not the paper's result.** The networks are untrained
and differ in nothing but the seed of their weights. That makes them a yardstick:
differences of this size come about without any diet.
"""

import versa
from versa.plotting import plot_diets

names = [f"alexnet_gn_untrained:seed={seed}" for seed in (1, 2, 3, 4)]
layers = ["conv_block_1", "conv_block_3", "conv_block_5", "fc6", "fc7"]
results = [
    versa.fit(name, layers, dataset="simulated-inanimate", progress=False)
    for name in names
]

# %%
# Violins against a band
# ----------------------
# The band is the first network: its mean and 95% interval; a violin is a network's
# scores over overlapping splits. Neither is a test. Whether two networks differ is in
# the table below, and "not significant" does not mean "as good".

diets = plot_diets(results, baseline=names[0], method="versa-debiased")

# %%
# In numbers
# ----------
# All compared with the baseline, in three sectors: a family of nine tests.

comparison = versa.compare(results, baseline=names[0])
table = comparison.pairs()
table = table[table["method"] == "versa-debiased"]
table[["sector", "model_a", "difference", "t", "p_corrected_subjects"]].round(4)

# %%
# The range over seeds is a table of its own, for untrained networks are one draw each:

seeds = comparison.seeds()
seeds[seeds["method"] == "versa-debiased"].round(3)

# %%
# With the real networks
# ----------------------
# The diets are in the zoo; with the paper's data in place, this is Figure 3::
#
#     names = ["alexnet_gn_ipcl_ref06_diet_imagenet",
#              "alexnet_gn_ipcl_ref07_diet_openimagesv6",
#              "alexnet_gn_ipcl_ref08_diet_places2",
#              "alexnet_gn_ipcl_ref09_diet_vggface2"]
#     results = [versa.fit(name, dataset="orientation") for name in names]
#     plot_diets(results, baseline=names[0], method="versa")
