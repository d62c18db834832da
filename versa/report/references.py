"""The literature of a report, as BibTeX."""

import re
from collections.abc import Sequence

import versa
from versa.result import FitResult

PAPER = "10.1038/s41467-022-28091-4"  # Konkle and Alvarez (2022)

_ALWAYS = (
    f"""\
@article{{konkle2022,
  author  = {{Konkle, Talia and Alvarez, George A.}},
  title   = {{A self-supervised domain-general learning framework for human ventral
             stream representation}},
  journal = {{Nature Communications}},
  volume  = {{13}},
  pages   = {{491}},
  year    = {{2022}},
  doi     = {{{PAPER}}},
}}""",
    """\
@article{nadeau2003,
  author  = {Nadeau, Claude and Bengio, Yoshua},
  title   = {Inference for the Generalization Error},
  journal = {Machine Learning},
  volume  = {52},
  number  = {3},
  pages   = {239--281},
  year    = {2003},
  doi     = {10.1023/A:1024068626366},
}""",
    """\
@inproceedings{bouckaert2004,
  author    = {Bouckaert, Remco R. and Frank, Eibe},
  title     = {Evaluating the Replicability of Significance Tests for Comparing
               Learning Algorithms},
  booktitle = {Advances in Knowledge Discovery and Data Mining (PAKDD 2004)},
  series    = {Lecture Notes in Computer Science},
  volume    = {3056},
  pages     = {3--12},
  year      = {2004},
  doi       = {10.1007/978-3-540-24775-3_3},
}""",
)
_PARITY = (
    """\
@article{lakens2017,
  author  = {Lakens, Dani{\\"e}l},
  title   = {Equivalence Tests: A Practical Primer for t Tests, Correlations, and
             Meta-Analyses},
  journal = {Social Psychological and Personality Science},
  volume  = {8},
  number  = {4},
  pages   = {355--362},
  year    = {2017},
  doi     = {10.1177/1948550617697177},
}""",
    """\
@article{rouder2009,
  author  = {Rouder, Jeffrey N. and Speckman, Paul L. and Sun, Dongchu and Morey,
             Richard D. and Iverson, Geoffrey},
  title   = {Bayesian t tests for accepting and rejecting the null hypothesis},
  journal = {Psychonomic Bulletin \\& Review},
  volume  = {16},
  pages   = {225--237},
  year    = {2009},
  doi     = {10.3758/PBR.16.2.225},
}""",
)
_PERMUTATIONS = (
    """\
@article{phipson2010,
  author  = {Phipson, Belinda and Smyth, Gordon K.},
  title   = {Permutation P-values Should Never Be Zero: Calculating Exact P-values When
             Permutations Are Randomly Drawn},
  journal = {Statistical Applications in Genetics and Molecular Biology},
  volume  = {9},
  number  = {1},
  year    = {2010},
  doi     = {10.2202/1544-6115.1585},
}""",
    """\
@article{nichols2002,
  author  = {Nichols, Thomas E. and Holmes, Andrew P.},
  title   = {Nonparametric permutation tests for functional neuroimaging: A primer with
             examples},
  journal = {Human Brain Mapping},
  volume  = {15},
  number  = {1},
  pages   = {1--25},
  year    = {2002},
  doi     = {10.1002/hbm.1058},
}""",
)
_ADDRESS = re.compile(r"https?://[^\s,;)]+")
_SPECIAL = re.compile(r"([&%$#_{}])")


def bibtex(results: Sequence[FitResult], *, parity: bool = False) -> str:
    """BibTeX of the methods, the software, the datasets and the networks.

    Datasets and networks are cited as their own records say, word for word. `parity`
    adds the tests of equivalence; permutations are cited where there are any.
    """
    versions = {
        result.provenance.get("versions", {}).get("versa") for result in results
    }
    version = ", ".join(sorted(v for v in versions if v)) or versa.__version__
    permuted = any("permuted" in result.data for result in results)
    entries = [
        *_ALWAYS,
        *(_PARITY if parity else ()),
        *(_PERMUTATIONS if permuted else ()),
        _software(version),
    ]
    datasets = {
        result.dataset: str(result.provenance["dataset"].get("citation") or "")
        for result in results
    }
    entries += [
        _as_given(f"dataset_{n}", f"Dataset: {name}", citation)
        for n, (name, citation) in enumerate(datasets.items(), 1)
        if citation
    ]
    by_citation = networks_by_citation(results)
    entries += [
        _as_given(f"networks_{n}", f"Weights of {', '.join(names)}", citation)
        for n, (citation, names) in enumerate(by_citation.items(), 1)
        if PAPER not in citation
    ]
    return "\n\n".join(entries) + "\n"


def networks_by_citation(results: Sequence[FitResult]) -> dict[str, list[str]]:
    """Names of the networks whose cards have a citation, by this."""
    found: dict[str, list[str]] = {}
    for result in results:
        citation = result.card.get("citation")
        if citation and result.model not in found.setdefault(citation, []):
            found[citation].append(result.model)
    return found


def _software(version: str) -> str:
    return (
        "@software{versa,\n"
        "  author  = {{The versa developers}},\n"
        "  title   = {versa: does this network see like the brain does?},\n"
        f"  version = {{{version}}},\n"
        "}"
    )


def _as_given(key: str, title: str, citation: str) -> str:
    """An entry of a citation that is free text or an address."""
    lines = [f"@misc{{{key},", f"  title        = {{{_escaped(title)}}},"]
    lines += [
        f"  howpublished = {{\\url{{{address}}}}},"
        for address in _ADDRESS.findall(citation)[:1]
    ]
    if not _ADDRESS.fullmatch(citation):
        lines.append(f"  note         = {{{_escaped(citation)}}},")
    return "\n".join([*lines, "}"])


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
