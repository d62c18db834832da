"""What every number of the report means, for a reader without the paper at hand."""

from typing import NamedTuple


class Term(NamedTuple):
    """One word of the report."""

    meaning: str  # what it is
    scale: str = ""  # its range
    reading: str = ""  # how to read it

    @property
    def text(self) -> str:
        """All of it, in sentences."""
        scale = self.scale and f"Values: {self.scale}"
        return " ".join(part for part in (self.meaning, scale, self.reading) if part)


_J = (
    "with J − 1 degrees of freedom, J being the number of split evaluations (the paper)"
)
_S = (
    "with S − 1 degrees of freedom, S being the number of subjects (closer to nominal: "
    "in simulations .02 to .07 are rejected at .05)"
)
_POPULATIONS = {
    "images": "new images and these subjects",
    "both": "new subjects and new images",
}
_P_SCALE = "0 to 1."
_LIBERAL = "It finds differences too often, because splits of one group overlap."

_CORRECTED = (  # heading, and what is done to p
    ("Bonf.", "p times the number of tests in the family (Bonferroni)"),
    (
        "Holm",
        "p corrected for the number of tests in the family after Holm: the smallest "
        "times that number, the next times one less, and so on",
    ),
    (
        "FDR",
        "p corrected for the rate of false ones among the differences found (Benjamini "
        "and Hochberg)",
    ),
)

GLOSSARY = {
    "r": Term(
        "How similar the network and the brain are: the Pearson correlation of their "
        "RDMs, averaged through Fisher z over both halves of all half-splits of the "
        "subjects.",
        "−1 to 1; 0 is no relation.",
        "Compare it with the ceiling, and with chance where that is given. In the "
        "table of best layers the layer was chosen in one half of the subjects and "
        "scored in the other.",
    ),
    "95% CI (J-1)": Term(
        f"95% confidence interval of r, {_J}, and with the correction of Nadeau and "
        "Bengio for overlapping splits.",
        "two correlations, low and high.",
        "It is too narrow; it is here to compare with the paper.",
    ),
    "95% CI (S-1)": Term(
        f"95% confidence interval of r, {_S}, and with the correction of Nadeau and "
        "Bengio for overlapping splits.",
        "two correlations, low and high.",
        "Read this one: it allows for there being few subjects.",
    ),
    "null r": Term(
        "What the bias of the method versa alone can produce: the score of an "
        "intercept-only encoder, which has learned nothing from the network. In the "
        "paper's leave-one-out procedure the training mean leaks information about "
        "the held-out image, and repeats the noise of the same subjects.",
        "−1 to 1; a dash where it does not apply (it belongs to the method versa).",
        "It is not chance level: good layers score below it, and unrelated ones far "
        "below. That a score of versa is mostly bias is seen by versa-debiased, which "
        "leaves less than half of it.",
    ),
    "chance": Term(
        "The mean score after the images of the brain were permuted against those of "
        "the network and everything was done again: what an unrelated network gets.",
        "−1 to 1; commonly a little above 0, and higher for the best of many layers.",
        "Compare r with it.",
    ),
    "z": Term(
        "How far r is above chance: the difference in Fisher z, in standard deviations "
        "of the scores of permuted images.",
        "any number; a dash where these do not vary.",
        "Compare it between layers of the same table; for a decision read p perm.",
    ),
    "p perm.": Term(
        "How often permuted images score as high as the images do: p of the "
        "hypothesis that the network is unrelated to this part of the brain. In the "
        "table of best layers the layer is chosen anew in every permutation.",
        "0 to 1, at least 1 / (permutations + 1).",
        "Below 0.05 the network is commonly called related. It is about these "
        "subjects; the intervals are about other subjects and these images.",
    ),
    "p perm. (max)": Term(
        "The same p for the highest of all layers of all networks in the sector: how "
        "often any of them scores as high with permuted images. Scores are "
        "standardized first, as levels of chance differ.",
        "0 to 1, at least 1 / (permutations + 1).",
        "Read this one to pick the best of many layers.",
    ),
    "ceiling": Term(
        "Noise ceiling: the correlation between the brain RDMs of the two halves of "
        "the subjects, averaged over all half-splits.",
        "−1 to 1.",
        "How well one half of the subjects predicts the other. It is no upper bound: "
        "both halves are noisy, so a good model may exceed it, up to about its root.",
    ),
    "CI ceiling": Term(
        "95% confidence interval of the noise ceiling for new subjects and these "
        "images, by the jackknife: each subject is left out in turn.",
        "two correlations, low and high.",
        "If it reaches to 0, the subjects do not agree and no score can be read. For a "
        "result without its subjects' RDMs it is by the correction of Nadeau and "
        "Bengio, which is up to three times wider.",
    ),
    "r²/ceiling²": Term(
        "r squared over the ceiling squared, with the sign of r: how the paper reads "
        "the share of the explainable variance.",
        "Negative where r is; above 100% where r exceeds the ceiling.",
        "100% means at the noise ceiling. A dash stands where the ceiling cannot be "
        "told from 0.",
    ),
    "CI r²/c²": Term(
        "95% confidence interval of r²/ceiling² for new subjects and these images, by "
        "the jackknife.",
        "two shares, low and high.",
        "It allows for score and ceiling being of the same subjects.",
    ),
    "r²/ceiling": Term(
        "r squared over the ceiling, with the sign of r: the share of what a perfect "
        "model would have, whose r is the root of the ceiling.",
        "Negative where r is; rarely above 100%.",
        "100% means that no model could do better in halves of this size.",
    ),
    **{
        f"95% CI ({name})": Term(
            f"95% confidence interval of r for {population}, by bootstrap with the "
            "correction of Schuett and colleagues (2023).",
            "two correlations, low and high.",
            "It allows for there being few images, which the others do not.",
        )
        for name, population in _POPULATIONS.items()
    },
    **{
        f"CI A - B ({name})": Term(
            f"95% confidence interval of A - B for {population}, by bootstrap: the "
            "same samples for both networks, and the best layer chosen in each.",
            "two differences, low and high.",
            "If it holds 0, the difference may not be there with other images.",
        )
        for name, population in _POPULATIONS.items()
    },
    **{
        f"{heading} ({name})": Term(
            f"{meaning}, for {population}, by bootstrap.", scale, reading
        )
        for name, population in _POPULATIONS.items()
        for heading, meaning, scale, reading in (
            ("df", "Degrees of freedom of the test", "whole numbers.", ""),
            (
                "p",
                "Probability of a difference this large if there were none",
                _P_SCALE,
                "Not yet corrected for the number of tests.",
            ),
            (
                "p Bonf.",
                "p times the number of tests in the family",
                _P_SCALE,
                "Below 0.05 the difference is commonly called significant.",
            ),
            (
                "sig. Bonf.",
                "Whether the difference is significant after the correction",
                "yes or no.",
                "No does not mean that the networks are equal.",
            ),
        )
    },
    "chosen": Term(
        "How often the named layer was the best one, over both halves of all splits.",
        "0% to 100%.",
        "Near 100% the choice is stable; low shares mean that several layers do "
        "about as well.",
    ),
    "choices": Term(
        "All layers that were ever chosen as the best, with their shares.",
        "shares that add up to 100%.",
    ),
    "layer": Term(
        "A stage of the network, by its name in the code; in the table of best "
        "layers the one that was chosen most often.",
        "",
        "Early layers are near the image, late ones near the network's output.",
    ),
    "voxels": Term("How many voxels there are, of all subjects.", "whole numbers."),
    "voxel r": Term(
        "How well single voxels are predicted: the correlation of the predicted and "
        "the measured responses over the images, which were left out one at a time; "
        "the median over voxels, averaged over subjects.",
        "−1 to 1.",
        "Chance is below 0, about −.2, where the penalty of the regression is chosen: "
        "compare it with permutations.",
    ),
    "voxel R²": Term(
        "Share of a voxel's variance over images that is predicted; the median over "
        "voxels, averaged over subjects.",
        "up to 1; below 0 if the mean response predicts better.",
    ),
    "voxel ceiling": Term(
        "Noise ceiling of voxel r: the highest correlation that can be expected, from "
        "the agreement of odd and even runs (the square root of it, corrected to all "
        "runs by Spearman-Brown); the median over voxels, averaged over subjects.",
        "0 to 1.",
    ),
    "r/ceiling": Term(
        "Voxel r over the noise ceiling of the voxel, in the voxels whose ceiling is "
        "above 0.3; the median over these, averaged over subjects.",
        "1 is all that can be predicted.",
    ),
    "reliable": Term("How many voxels have a noise ceiling above 0.3."),
    "model": Term("The network."),
    "network": Term("The network, by its name in the zoo or the one it was given."),
    "sector": Term(
        "The part of the brain.",
        "",
        "EarlyV is early visual cortex (V1 to V3); pOTC and aOTC are the posterior "
        "and the anterior part of occipitotemporal cortex, where objects are "
        "represented. Other names are those of the dataset.",
    ),
    "method": Term(
        "How network and brain are compared.",
        "",
        "versa: a voxel encoding model, then RSA of its predictions, as in the paper; "
        "null r tells what its bias can produce. versa-debiased: the same without that "
        "leave-one-out bias. rsa: classic RSA of the activations; nothing is "
        "fitted.",
    ),
    "A": Term("The first network of the pair."),
    "B": Term("The second network of the pair, or the baseline."),
    "r A": Term("Score r of the cross-validated best layer of network A.", "−1 to 1."),
    "r B": Term("Score r of the cross-validated best layer of network B.", "−1 to 1."),
    "A - B": Term(
        "Difference of the two mean scores.",
        "−2 to 2.",
        "Above 0, network A is more similar to the brain than B.",
    ),
    "95% CI A - B": Term(
        "95% confidence interval of the difference, with S − 1 degrees of freedom: "
        "made in Fisher z, and given in r around the mean z of the two networks.",
        "two differences of r, low and high.",
        "All differences that the data do not rule out. Where 0 is inside, p (S-1) is "
        "above 0.05.",
    ),
    "detectable": Term(
        "The difference of r that a study with as many subjects, which differ as much, "
        "finds in 80% of cases, by the test with S − 1 degrees of freedom at the level "
        "that is left after Bonferroni correction.",
        "0 to 2.",
        "Where none was found, this says how large a difference may have been missed.",
    ),
    "90% CI A - B": Term(
        "90% confidence interval of the difference, made as the one of 95%.",
        "two differences of r, low and high.",
        "Where it lies within the margin of equivalence, p equiv. is below 0.05.",
    ),
    "p equiv.": Term(
        "p of the test of equivalence (two one-sided tests, S − 1 degrees of freedom): "
        "probability of a difference this small or smaller if the true one were as "
        "large as the margin.",
        _P_SCALE,
        "Below 0.05 the networks are on par within the margin. It is not corrected for "
        "the number of pairs: to say that all pairs are on par needs no correction, to "
        "pick out some does.",
    ),
    "BF10": Term(
        "Bayes factor of the difference (JZS, Cauchy prior of scale 0.707), of t as a "
        "paired t over the subjects: how much likelier the data are if the networks "
        "differ.",
        "0 and above; 1 is undecided.",
        "Above 3 speaks for a difference, below 1/3 for none.",
    ),
    "verdict": Term(
        "What may be said of the pair.",
        "on par, different or cannot tell; a dash is no test.",
        "On par: p equiv. is below 0.05. Different: not so, and significant with S − 1 "
        "degrees of freedom after correction. Cannot tell: neither; see what was "
        "detectable.",
    ),
    "t": Term(
        "Statistic of the paired t-test over the splits, with the correction of Nadeau "
        "and Bengio for their overlap.",
        "any number.",
        "The further from 0, the clearer the difference; its sign is that of A - B.",
    ),
    "df": Term(
        "Degrees of freedom of the paper's test: the number of split evaluations "
        "minus 1.",
        "whole numbers.",
    ),
    "p": Term(
        f"Probability of a difference this large or larger if there were none, {_J}.",
        _P_SCALE,
        _LIBERAL,
    ),
    **{
        f"p {short}": Term(f"{text}, {_J}.", _P_SCALE, _LIBERAL)
        for short, text in _CORRECTED
    },
    **{
        f"sig. {short}": Term(
            f"Whether the difference is significant after the correction, {_J}.",
            "yes or no; a dash is no test.",
            "Prefer the column with S − 1.",
        )
        for short, _ in _CORRECTED
    },
    "df (S-1)": Term(
        "Degrees of freedom of the test that is closer to nominal: the number of "
        "subjects minus 1.",
        "whole numbers.",
    ),
    "p (S-1)": Term(
        f"Probability of a difference this large or larger if there were none, {_S}.",
        _P_SCALE,
        "Not yet corrected for the number of tests.",
    ),
    **{
        f"p {short} (S-1)": Term(
            f"{text}, {_S}.",
            _P_SCALE,
            "Below 0.05 the difference is commonly called significant.",
        )
        for short, text in _CORRECTED
    },
    **{
        f"sig. {short} (S-1)": Term(
            f"Whether the difference is significant after the correction, {_S}.",
            "yes or no; a dash is no test.",
            "Read this one. No does not mean that the networks are equal.",
        )
        for short, _ in _CORRECTED
    },
    "p sign-flip": Term(
        "p of the exact sign-flip test of the subjects' own scores at the layers that "
        "are chosen most often: the share of all patterns of signs whose sum is as far "
        "from 0 as that of the differences.",
        "2 / 2 to the power of the number of subjects, to 1; not corrected.",
        "It needs no normal distribution, but takes the layers as given.",
    ),
    "n_seeds": Term(
        "How many random initialisations of the untrained network take part.",
        "whole numbers.",
    ),
    "lowest": Term("Lowest r among the initialisations.", "−1 to 1."),
    "highest": Term("Highest r among the initialisations.", "−1 to 1."),
    "architecture": Term("The kind of network: its layers and how they are joined."),
    "training": Term(
        "How the network was trained; untrained networks have random weights."
    ),
    "diet": Term("The images that the network was trained on."),
    "kNN top-1": Term(
        "Published accuracy on ImageNet by nearest neighbours in the features.",
        "0 to 100 percent; a dash where none is known.",
    ),
    "linear top-1": Term(
        "Published accuracy on ImageNet of a linear classifier on the features.",
        "0 to 100 percent; a dash where none is known.",
    ),
    "top-1": Term(
        "Published accuracy on ImageNet of the network's own classifier.",
        "0 to 100 percent; a dash where none is known.",
    ),
    "licence": Term("Terms under which the weights may be used."),
    "layers": Term("How many layers were compared with the brain.", "whole numbers."),
    "RDM": Term(
        "Representational dissimilarity matrix: how different the responses to each "
        "pair of images are.",
        "1 − Pearson r: 0 for the same pattern, 1 for unrelated, 2 for opposite ones.",
    ),
    "half-split": Term(
        "A division of the subjects into two halves. All possible ones are used, and "
        "each gives two evaluations, one per half."
    ),
}
"""Heading of a table, or word of the report, and what it means."""
