"""
Compare two networks
====================

From two names to tables, figures and a report. The networks are one architecture with
two random initialisations; the brains are simulated, and read out the first of the two.
So the answer is known: the first network should win, and its layers should match the
sectors in order.
"""

from pathlib import Path

import versa
from versa.plotting import plot_best, plot_comparison, plot_layers
from versa.report import write_report

# %%
# Fit
# ---
# Each network sees the 40 images once. Then every subject's voxels are predicted from
# each layer, and the predicted geometry is compared with the measured one in all 35
# ways to halve the seven subjects.

results = [
    versa.fit(name, dataset="simulated-orientation", progress=False)
    for name in ("alexnet_gn_untrained", "alexnet_gn_untrained:seed=1")
]
results[0]

# %%
# Layer by layer
# --------------
# The grey band is the noise ceiling, the coloured ones are 95% intervals with S - 1
# degrees of freedom. `versa-debiased` is the method to draw conclusions from (:doc:`why
# </leak>`).

layers = plot_layers(results, method="versa-debiased")

# %%
# The best layer of each
# ----------------------
# Chosen in one half of the subjects and scored in the other, in every split. This is
# the number by which networks are compared: the maximum over layers would be too good.

best = plot_best(results, method="versa-debiased")

# %%
# Is one better than the other?
# -----------------------------
# A test that knows that the halves overlap, corrected for the number of comparisons.
# :doc:`/quickstart` explains every column.

comparison = versa.compare(results)
columns = ["method", "sector", "r_a", "r_b", "difference", "t"]
columns += ["p_corrected_subjects", "significant_subjects"]
comparison.pairs()[columns].round(4)

# %%
# The methods disagree in EarlyV, where `rsa` finds the *other* network better, with
# confidence: the simulated voxels read out five components of the layer and not all of
# it, which an encoding model can find and RSA of the whole layer cannot. A significant
# test says that a difference is there, not what it means.

matrix = plot_comparison(comparison, method="versa-debiased")

# %%
# A page to send around
# ---------------------
# One HTML file with the tables, the figures, a methods paragraph and the provenance,
# that opens anywhere without a network connection. ``versa-compare ... --report
# report.html`` writes the same.

report = write_report(comparison, Path("report.html"))
print(f"{report}: {report.stat().st_size / 1e6:.1f} MB")
report.unlink()  # keep yours
