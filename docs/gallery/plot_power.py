"""
How many subjects do I need?
============================

Before the scanner is booked: how often would the corrected test find a difference of a
given size between two networks, with S subjects?

The answer depends on three things: how noisy your subjects' RDMs are, how much subjects
differ in which network suits them, and how large the difference is. So simulate a
*population* with the noise of your experiment, draw studies of S subjects from it, run
on each the test that `versa.compare` runs, and count.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binomtest

import versa
from versa.fmri.ceilings import half_correlations, noise_ceiling
from versa.fmri.rdm import correlation_rdm
from versa.simulated import simulate_responses
from versa.stats.intervals import fisher_mean, fisher_z
from versa.stats.splits import split_halves
from versa.stats.ttests import corrected_paired_ttest

# %%
# A population
# ------------
# The geometry comes from the rendered images of the dataset: voxels read out layer
# ``fc7``. Every subject has weights of their own, so subjects differ truly, and on top
# of it noise, here with 2.2 times the standard deviation of the signal. Look at the
# noise ceiling to see whether this is *your* experiment: with ten subjects, the paper's
# are .60 to .90.

fit = versa.fit(
    "alexnet_gn_untrained",
    ["conv_block_1", "conv_block_4", "fc7"],
    dataset="simulated-orientation",
    methods=["rsa"],
    progress=False,
)
layers = fit.data["model_rdm"].loc["rsa", "aOTC"]


def covariance_of(rdm):
    """Between images: that of patterns with these correlation distances."""
    n_images = round((1 + np.sqrt(1 + 8 * len(rdm))) / 2)
    matrix = np.eye(n_images)
    matrix[np.triu_indices(n_images, k=1)] = 1 - rdm
    return matrix + np.triu(matrix, k=1).T


NOISE = 2.2  # standard deviation, of the signal it is 1
POPULATION = 200
rng = np.random.default_rng(0)
signal = simulate_responses(
    covariance_of(layers.loc["fc7"].values),
    n_subjects=POPULATION,
    n_voxels=100,
)
people = np.stack(
    [
        correlation_rdm(voxels + NOISE * rng.standard_normal(voxels.shape))
        for voxels in signal
    ]
)
ceilings = [
    fisher_mean(noise_ceiling(people[start : start + 10], split_halves(10)))
    for start in range(0, POPULATION, 10)
]
print(
    f"noise ceiling of ten subjects: {np.mean(ceilings):.2f} "
    f"({min(ceilings):.2f} to {max(ceilings):.2f} in {len(ceilings)} groups)"
)

# %%
# Two networks whose difference is known
# --------------------------------------
# A network's RDM is the mean of the population plus an error; its size sets r. One
# network errs towards an early layer, the other towards a middle one. So some subjects
# suit the one and some the other, although in the whole population r is exactly what it
# is told to be.


def standard(rdm, *without):
    """Mean 0 and length 1, with nothing in it of the others."""
    rdm = rdm - rdm.mean()
    for other in without:
        rdm = rdm - (rdm @ other) * other
    return rdm / np.linalg.norm(rdm)


truth = standard(people.mean(axis=0))
errors = [
    standard(layers.loc[name].values, truth)
    for name in ("conv_block_1", "conv_block_4")
]


def network(r, error):
    """An RDM that correlates by r with the population's."""
    return r * truth + np.sqrt(1 - r**2) * error


# %%
# Studies
# -------

R = 0.70  # of the better network
DIFFERENCES = (0.0, 0.05, 0.10)
SUBJECTS = (4, 5, 6, 7, 8, 10, 12, 14)
STUDIES = 600
LEVEL = 0.05


def p_values(n_subjects, difference, n_studies=STUDIES):
    """Of every study, with J - 1 and with S - 1 degrees of freedom."""
    rng = np.random.default_rng(n_subjects)  # the same studies for every difference
    splits = split_halves(n_subjects)
    models = [network(R, errors[0]), network(R - difference, errors[1])]
    found = []
    for _ in range(n_studies):
        group = people[rng.choice(POPULATION, n_subjects, replace=False)]
        z = [fisher_z(half_correlations([rdm], group, splits)) for rdm in models]
        paper = corrected_paired_ttest(*z)
        subjects = corrected_paired_ttest(*z, df=n_subjects - 1)
        found.append((paper.pvalue, subjects.pvalue))
    return np.array(found)


rows = []
for difference in DIFFERENCES:
    for n_subjects in SUBJECTS:
        p = p_values(n_subjects, difference)
        for name, column in (("J - 1", p[:, 0]), ("S - 1", p[:, 1])):
            hits = int(np.sum(column < LEVEL))
            interval = binomtest(hits, STUDIES).proportion_ci(method="wilson")
            rows.append((difference, n_subjects, name, hits / STUDIES, *interval))
columns = ["difference", "subjects", "df", "found", "low", "high"]
table = pd.DataFrame(rows, columns=columns)

# %%
# The curves
# ----------
# Share of studies with p < .05, with 95% intervals (Wilson) for the number of simulated
# studies. With a difference of zero the right answer is .05: to "find" more than that
# is to find what is not there.

figure = Figure(figsize=(8.2, 3.6), layout="constrained")
panels = figure.subplots(1, 2, sharey=True)
styles = zip(
    DIFFERENCES, ("#999999", "#56B4E9", "#0072B2"), ("s", "^", "o"), strict=True
)
styles = {difference: style for difference, *style in styles}
titles = {"S - 1": "S - 1 degrees of freedom", "J - 1": "J - 1, as in the paper"}
for panel, name in zip(panels, ("S - 1", "J - 1"), strict=True):
    for difference, (colour, marker) in styles.items():
        part = table[(table["difference"] == difference) & (table["df"] == name)]
        error = [part["found"] - part["low"], part["high"] - part["found"]]
        panel.errorbar(
            part["subjects"], part["found"], error, color=colour, marker=marker,
            capsize=2, label=f"{R:.2f} against {R - difference:.2f}",
        )  # fmt: skip
    panel.axhline(LEVEL, color="black", linewidth=0.8, linestyle=":")
    panel.axhline(0.8, color="black", linewidth=0.8, linestyle="--")
    panel.set(title=titles[name], xlabel="subjects, S", ylim=(0, 1), xticks=SUBJECTS)
    panel.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel(f"share of {STUDIES} studies with p < {LEVEL}")
handles, labels = panels[0].get_legend_handles_labels()
figure.legend(
    handles, labels, title="r of the two networks", loc="outside lower center", ncols=3,
    frameon=False,
)  # fmt: skip

# %%
# The same as a table, for S - 1.

shown = table[table["df"] == "S - 1"].pivot(
    index="subjects", columns="difference", values="found"
)
shown.round(2)

# %%
# The short way
# -------------
# :func:`versa.power` needs no simulation: it takes the spread of the subjects from a
# pilot, here the layers of one network against its best one, and assumes that spread
# and level stay as they are. `detectable` is the difference found in 80% of studies.

versa.power(fit, SUBJECTS, difference=0.10).query("sector == 'aOTC'").round(3)

# %%
# How to read it
# --------------
# - The grey line of the right panel lies above .05: with J - 1 degrees of freedom the
#   test finds differences where there are none. So its higher power is borrowed, and
#   the left panel is the one to plan with.
# - Where a line crosses .8 (dashed) is the number of subjects with which four studies
#   of five find that difference.
# - This is one test at .05. A family of 30 comparisons tests at .05 / 30: set `LEVEL`
#   to it, and see how few subjects can carry that.
# - Replace `people` by the RDMs of a pilot study, drawn with replacement, and `errors`
#   by the networks that you mean to compare. What a handful of pilot subjects says
#   about the variance between subjects is itself uncertain; plan with a margin.
