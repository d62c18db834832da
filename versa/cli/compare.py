"""The console script ``versa-compare``: parse, fit and compare, print."""

import argparse
import contextlib
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import versa
from versa.cache import atomic_write
from versa.cli.running import (
    add_common,
    add_layout,
    drawing,
    names,
    run_command,
    say,
    show,
    show_fitting,
    with_layout,
)
from versa.wording import chosen_names, listing, population_words, unique_names, unknown

if TYPE_CHECKING:
    import pandas as pd

    from versa.comparison import Comparison
    from versa.result import FitResult

_NAME_LENGTH = 80  # of a result file, before the digits of its hash
_FIT_ONLY = {
    "--dataset": "dataset",
    "--methods": "methods",
    "--layers": "layers",
    "--sectors": "sectors",
    "--device": "device",
    "--shared-alpha": "shared_alpha",
    "--standardize": "standardize",
    "--voxel-scores": "voxel_scores",
    "--rdm": "rdm",
    "--compare-by": "compare_by",
    "--permutations": "permutations",
    "--no-rdms": "no_rdms",
}

_SHOWN = (
    "name",
    "method",
    "architecture",
    "diet",
    "paper",
    "top1_knn",
    "top1_linear",
    "top1",
    "licence",
)
_FORMATS = ("svg", "pdf", "png")
_PAPER_BEST = (
    *("model", "sector", "layer", "r", "ci_low", "ci_high", "null_r"),
    *("ceiling", "explained"),
)
_PAPER_PAIRS = (
    *("sector", "model_a", "model_b", "difference", "t", "df", "p"),
    *("p_corrected", "significant"),
)
_EPILOG = """\
methods:
  versa           the paper's encoding models: leave-one-out ridge, then RSA of the
                  predicted responses. The mean of the training fold carries the
                  held-out response: null r is what this bias alone can produce.
  versa-debiased  the same weights with one common mean: no leave-one-out bias.
  rsa             classic RSA of the unit activations, nothing is fitted.

intervals and tests:
  Nadeau-Bengio corrected over all half-splits, with J - 1 degrees of freedom (the
  paper; J split evaluations; rejects too often) and S - 1 (S subjects; closer to
  nominal).

examples:
  versa-compare alexnet_gn_untrained alexnet_gn_untrained:seed=1 \\
      --dataset simulated-orientation --out results
  versa-compare alexnet_gn_ipcl_ref01 alexnet_gn_untrained:seeds=0-4 \\
      --dataset orientation --baseline alexnet_gn_ipcl_ref01
  versa-compare alexnet_gn@runs/ipcl/weights.safetensors --dataset my_dataset
  versa-compare results/results/*.nc --baseline alexnet_gn_untrained --family 30 \\
      --report report.html --figures figures
"""


def compare_command(arguments: Sequence[str] | None = None) -> int:
    """The console script ``versa-compare``; ``sys.argv`` by default.

    The exit code is 0; 2 after a sentence that says what to change; 130 after Ctrl-C.
    """
    return run_command(_parser(), _compare, arguments, _interrupted)


def _interrupted(options: argparse.Namespace) -> str:
    if options.no_cache:
        return "nothing was kept because of --no-cache"
    return "run the same command to resume: finished layers are in the cache"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="versa-compare",
        description="Compare networks with brains: layer-wise scores, cross-validated "
        "best layers and pairwise tests.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_fit(parser.add_argument)
    _add_numbers(parser.add_argument)
    _add_inference(parser.add_argument)
    _add_output(parser.add_argument)
    add_common(parser)
    return parser


def _add_fit(add: Callable[..., object]) -> None:
    """What is fitted."""
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help="name of --list-models, torchvision/NAME, timm/NAME, ARCHITECTURE@FILE "
        "(weights of your own), or a saved result; LABEL=MODEL to call it LABEL",
    )
    add(
        "--dataset",
        metavar="NAME_OR_FOLDER",
        help="name of --list-datasets or a dataset folder",
    )
    add("--methods", metavar="A,B", type=names, help="versa,versa-debiased,rsa")
    add(
        "--layers",
        metavar="A,B",
        type=names,
        help="dotted module names, or 'leaf' (default: the layers of the model's card)",
    )
    add_layout(add)
    add("--sectors", metavar="A,B", type=names, help="default: all of the dataset")


def _add_numbers(add: Callable[..., object]) -> None:
    """How the scores of a fit are computed."""
    add(
        "--alphas",
        metavar="A,B",
        type=_alphas,
        default="auto",
        help="ridge penalties: auto (default), sklearn, or numbers",
    )
    add("--shared-alpha", action="store_true", help="one alpha for all voxels")
    add("--standardize", action="store_true", help="z-score units over the images")
    add(
        "--rdm",
        metavar="DISTANCE",
        default=None,
        help="distance of patterns: correlation (default), euclidean, cosine, "
        "crossnobis",
    )
    add(
        "--compare-by",
        metavar="MEASURE",
        default=None,
        help="how RDMs are compared: pearson (default), spearman, kendall-tau-a, "
        "cosine, whitened, cka",
    )
    add(
        "--permutations",
        metavar="M",
        type=int,
        default=0,
        help="permute the images M times, such as 1000, for chance levels and p values "
        "of layers (default: 0)",
    )
    add(
        "--voxel-scores",
        action="store_true",
        help="keep how well each voxel is predicted: table encoding; maps as NIfTI, in "
        "the folder maps of --out",
    )
    add("--device", help="cpu, cuda, ... (default: cpu)")
    add("--batch-size", metavar="N", type=int, default=32, help="images per batch")
    add("--convert-images", action="store_true", help="make images RGB, of any size")
    add("--drop-bad-voxels", action="store_true", help="drop constant and NaN voxels")
    add("--no-rdms", action="store_true", help="do not keep the subjects' RDMs")
    add("--no-cache", action="store_true", help="ignore the cache")


def _add_inference(add: Callable[..., object]) -> None:
    """What is tested, and for whom it holds; saved results can be asked, too."""
    add("--baseline", metavar="MODEL", help="compare all others with this model")
    add(
        "--family",
        metavar="N",
        type=int,
        help="tests in the family (default: those made; the paper's: 30)",
    )
    add(
        "--correction",
        choices=("bonferroni", "holm", "fdr"),
        default="bonferroni",
        help="correction for the family (default: bonferroni)",
    )
    add(
        "--multiverse",
        action="store_true",
        help="show in which readings (method, halves, ratio, df, family) each "
        "comparison holds; with --out write all of them",
    )
    add("--exact", action="store_true", help="add exact sign-flip tests over subjects")
    add(
        "--halves",
        choices=("both", "mean", "first"),
        help="one sample of a split: both halves (default), mean (void), first",
    )
    add(
        "--equivalence",
        metavar="R",
        type=float,
        help="margin in r, such as .05: also test whether networks are on par",
    )
    add(
        "--ratio",
        metavar="R",
        type=_ratio,
        default=1.0,
        help="n_test / n_train of the corrected variance: 1 (default), a number, or "
        "'literal'",
    )
    add(
        "--generalize",
        choices=("subjects", "images", "both"),
        help="population of a further interval and test, by bootstrap: new images, or "
        "new subjects and images (default: subjects, with these images)",
    )
    add(
        "--partition",
        action="store_true",
        help="also print what each of 2 to 6 networks explains alone, and what they "
        "share",
    )
    add(
        "--calibration",
        action="store_true",
        help="also simulate how often the tests err in a study like this one",
    )


def _add_output(add: Callable[..., object]) -> None:
    """What is written, and what is listed instead."""
    add("--all", action="store_true", help="also print every row and column")
    add(
        "--paper",
        action="store_true",
        help="also print what the paper reports: method versa with its null, and J - 1 "
        "degrees of freedom",
    )
    add("--out", metavar="FOLDER", help="write tables, results and provenance.json")
    add(
        "--report",
        metavar="FILE.html",
        help="write one page with words, tables, figures, RDMs and methods",
    )
    add(
        "--picture",
        metavar="FILE",
        action="append",
        default=[],
        help="show this picture, or page of versa.plotting.write_view, in the report, "
        "too; may be given several times",
    )
    add("--figures", metavar="FOLDER", help="write all figures that apply")
    add(
        "--format",
        metavar="A,B",
        type=names,
        default=["svg"],
        help="of --figures: svg (default), pdf, png",
    )
    add(
        "--list-models",
        metavar="TEXT",
        nargs="?",
        const="",
        help="list the zoo, or the networks with this text in a column, and stop",
    )
    add(
        "--list-layers",
        action="store_true",
        help="list each MODEL's layers with their sizes and stop; no download",
    )
    add("--list-datasets", action="store_true", help="list datasets and stop")
    add("--version", action="version", version=f"versa {versa.__version__}")


def _ratio(text: str) -> float | str:
    if text == "literal":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number or 'literal'; got {text!r}."
        ) from None


def _alphas(text: str) -> str | list[float]:
    if text in ("auto", "sklearn"):
        return text
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be auto, sklearn or numbers with commas between; got {text!r}."
        ) from None


def _compare(options: argparse.Namespace) -> int:
    if options.list_models is not None or options.list_datasets:
        if options.list_models is not None:
            _list_models(options.list_models)
        if options.list_datasets:
            show(versa.list_datasets())
        return 0
    if options.list_layers:
        return _list_layers(options)
    wanted = _labelled(options.models)
    options.models = [network.text for network in wanted]
    if not wanted:
        raise ValueError(
            "MODEL must be given at least once. See --list-models, or try "
            "alexnet_gn_untrained --dataset simulated-orientation."
        )
    fresh = [network for network in wanted if not network.saved]
    texts = [network.text for network in fresh]
    if fresh and not options.dataset:
        raise ValueError(
            f"--dataset must be given to fit {', '.join(texts)}. See --list-datasets, "
            "or take --dataset simulated-orientation."
        )
    _require_sensible(options, texts)
    _require_writable(options)
    folder = None if options.out is None else Path(options.out)
    results = {n: _loaded(n) for n in wanted if n.saved}
    labels = [results[n].model if n.saved else n.label for n in wanted]
    called = dict(zip(options.models, labels, strict=True))
    baseline = _baseline(options.baseline, labels, called)
    results |= _fitted(fresh, options, folder)
    comparison = versa.compare(
        [results[network] for network in wanted],
        baseline=baseline,
        family=options.family,
        test_train_ratio=options.ratio,
        equivalence=options.equivalence,
        generalize=options.generalize,
        correction=options.correction,
        exact=options.exact,
        halves=options.halves,
    )
    further = _further(comparison, options)
    _print(comparison, further, options)
    if folder is not None:
        _write(comparison, folder, options, further)
        _write_maps(comparison, folder)
    _draw(comparison, options)
    return 0


def _list_models(text: str) -> None:
    """The zoo, or what of it has a text in any column that is shown."""
    table = versa.list_models()[list(_SHOWN)]
    cells = table.astype(str).apply(lambda column: column.str.lower())
    found = cells.apply(lambda c: c.str.contains(text.lower(), regex=False))
    table = table[found.any(axis=1)]
    if table.empty:
        raise ValueError(
            f"--list-models must be given a text that occurs in the zoo; got {text!r}. "
            "All networks of torchvision and timm load, too, and are not listed: "
            "torchvision/NAME, timm/NAME."
        )
    show_fitting(table)
    say(
        "\nNext: versa-compare NAME NAME --dataset simulated-orientation. All networks "
        "of torchvision and timm load, too: torchvision/NAME, timm/NAME."
    )


def _list_layers(options: argparse.Namespace) -> int:
    from versa.models.zoo.listing import list_layers

    if not options.models:
        raise ValueError("MODEL must be given with --list-layers. See --list-models.")
    for name in options.models:
        print(f"{name}")
        first = _seeds(name)[0]  # all seeds have the same layers
        show(list_layers(with_layout(first, options.layout), _layer_list(options)))
    return 0


def _layer_list(options: argparse.Namespace) -> list[str] | str | None:
    return "leaf" if options.layers == ["leaf"] else options.layers


def _seeds(name: str) -> list[str]:
    """NAME:seeds=0-4 stands for five initialisations of an untrained network."""
    base, mark, text = name.partition(":seeds=")
    if not mark:
        return [name]
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(
            f"seeds must be a range such as {base}:seeds=0-4; got {':seeds=' + text!r}."
        )
    return [f"{base}:seed={k}" for k in range(int(match[1]), int(match[2]) + 1)]


def _require_sensible(options: argparse.Namespace, fresh: Sequence[str]) -> None:
    """Refuse before the long work what would be refused after it."""
    if options.family is not None and options.family < 1:
        raise ValueError(f"--family must be 1 or more; got {options.family}.")
    ratio = options.ratio
    if ratio != "literal" and not (math.isfinite(ratio) and ratio >= 0):
        raise ValueError(f"--ratio must be 0 or more, or 'literal'; got {ratio}.")
    _require_countable(options)
    margin = options.equivalence
    if margin is not None and not 0 < margin < 2:
        raise ValueError(f"--equivalence must be between 0 and 2; got {margin}.")
    if options.layout is not None and not any("@" in name for name in fresh):
        raise ValueError(
            "--layout must come with weights of your own, ARCHITECTURE@FILE; got "
            f"{', '.join(fresh) or 'saved results only'}."
        )
    if not fresh:
        given = [flag for flag, name in _FIT_ONLY.items() if getattr(options, name)]
        if given:
            raise ValueError(
                f"{', '.join(given)} must come with a model to fit; got saved results "
                "only. Leave it out, or name a model."
            )


def _require_countable(options: argparse.Namespace) -> None:
    """Refuse what --partition cannot do; the rest it says of saved results."""
    if not options.partition:
        return
    n_models = len(options.models)
    if not 2 <= n_models <= 6:
        raise ValueError(f"--partition must be given 2 to 6 networks; got {n_models}.")
    if options.no_rdms:
        raise ValueError(
            "--partition must come with the RDMs of the subjects. Leave --no-rdms out."
        )
    if options.compare_by in ("spearman", "kendall-tau-a"):
        raise ValueError(
            "--partition must come with RDMs compared by pearson, cosine or whitened; "
            f"got --compare-by {options.compare_by}."
        )


class _Wanted(NamedTuple):
    """A network of the command line."""

    text: str  # what fit or load_result takes
    label: str  # what it is called; of a saved result "" is its own name
    saved: bool
    own: bool = False  # the label was given, or is made of a file


def _labelled(texts: Sequence[str]) -> list[_Wanted]:
    """Networks and their labels: LABEL=MODEL, of a checkpoint by default its file."""
    found = []
    for given in texts:
        label, text = _parts(given)
        for name in _seeds(text):
            saved = _is_saved(name)
            seed = re.search(r":seed=\d+$", name) if ":seeds=" in text else None
            own = f"{label}{seed[0]}" if label and seed else label
            usual = "" if saved else _label(name)
            found.append(_Wanted(name, own or usual, saved, bool(own)))
    files = {n: n.text.partition("@")[2] for n in found if _is_checkpoint(n)}
    short = _short_names([*files.values()], {n.label for n in found})
    return [
        n._replace(label=short[files[n]], own=True) if n in files else n for n in found
    ]


def _parts(given: str) -> tuple[str, str]:
    """Label and model; a file may have = in its name, and a seed has it."""
    match = re.fullmatch(r"([^=:@/\\]+)=(.+)", given)
    if match is None or Path(given).exists():
        return "", given
    return match[1].strip(), match[2]


def _is_checkpoint(network: _Wanted) -> bool:
    """Whether it is ARCHITECTURE@FILE without a label of its own."""
    from versa.models.zoo.names import find_network

    plain = not (network.saved or network.own)
    return plain and bool(find_network(network.text).weights)


def _short_names(files: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Stems of files; with as many folders before them as tell them apart."""
    names: dict[str, str] = {}
    for file in files:
        path = Path(file)
        parts = [*path.parent.parts, path.stem]
        others = [Path(other) for other in files if other != file]
        for n in range(1, len(parts) + 1):
            names[file] = "/".join(parts[-n:])
            same = [[*p.parent.parts, p.stem][-n:] == parts[-n:] for p in others]
            if not any(same) and names[file] not in taken:
                break
        else:
            names[file] = file
    return names


def _loaded(network: _Wanted) -> "FitResult":
    """A saved result, with the label that it was given."""
    result = versa.load_result(network.text)
    if not network.label:
        return result
    record = json.loads(result.data.attrs["provenance"])
    record["model"].setdefault("source", result.model)
    record["model"]["name"] = network.label
    text = json.dumps(record, sort_keys=True)
    return versa.FitResult(result.data.assign_attrs(provenance=text))


def _label(name: str) -> str:
    """What the fit of a model will be called; refuses unknown names."""
    from versa.models.zoo.names import find_network

    return find_network(name).label


def _baseline(
    baseline: str | None, names: Sequence[str], labels: Mapping[str, str]
) -> str | None:
    unique_names(names, "networks", hint="Give them labels, LABEL=MODEL.")
    if baseline is None or baseline in names:
        return baseline
    if baseline in labels:
        return labels[baseline]
    with contextlib.suppress(ValueError):  # an alias, or the default seed
        if _label(baseline) in names:
            return _label(baseline)
    raise ValueError(unknown("--baseline", baseline, names))


def _is_saved(name: str) -> bool:
    if Path(name).is_dir():
        raise ValueError(
            f"MODEL must be a name or a saved result; {name} is a folder. Give its "
            f"files, such as {Path(name) / '*.nc'}."
        )
    card = name.endswith(".toml")  # of a network of one's own
    return name.endswith(".nc") or (Path(name).is_file() and not card)


def _require_writable(options: argparse.Namespace) -> None:
    """Make the folders and try the files, before any long work."""
    chosen_names(options.format, "--format", _FORMATS)
    if options.picture and options.report is None:
        raise ValueError("--picture must come with --report; give it a file.")
    if options.report is not None:
        from versa.report.embedding import report_file, shown_file

        _try("--report", Path(options.report), report_file(options.report).parent)
        for picture in options.picture:
            shown_file(picture)
    for flag, folder in (("--out", options.out), ("--figures", options.figures)):
        if folder is not None:
            _try(flag, Path(folder), Path(folder))


def _try(flag: str, named: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        kind = "folder" if folder == named else "file"
        raise ValueError(
            f"{flag} must be a {kind} that can be written; {named} cannot "
            f"({error.strerror or error}). Choose another one."
        ) from error


def _fitted(
    networks: Sequence[_Wanted], options: argparse.Namespace, folder: Path | None
) -> "dict[_Wanted, FitResult]":
    """Fit every model; each result is saved as soon as it is there."""
    if not networks:
        return {}
    brain = versa.load_dataset(options.dataset, halves=options.rdm == "crossnobis")
    layers = _layer_list(options)
    given = {name: getattr(options, name) for name in ("methods", "rdm", "compare_by")}
    chosen = {name: value for name, value in given.items() if value is not None}
    results = {}
    for network in networks:
        results[network] = versa.fit(
            with_layout(network.text, options.layout),
            layers,
            brain,
            **chosen,
            name=network.label if network.own else None,
            sectors=options.sectors,
            alphas=options.alphas,
            alpha_per_voxel=not options.shared_alpha,
            standardize=options.standardize,
            voxel_scores=options.voxel_scores,
            permutations=options.permutations,
            halves=options.halves or "both",
            device=options.device,
            batch_size=options.batch_size,
            convert_images=options.convert_images,
            drop_bad_voxels=options.drop_bad_voxels,
            keep_rdms=not options.no_rdms,
            generalize=options.generalize or "subjects",
            cache=not options.no_cache,
            progress=not options.quiet,
        )
        if folder is not None:
            file = _file_name(network.label if network.own else network.text)
            results[network].save(folder / "results" / f"{file}.nc")
    return results


def _file_name(model: str) -> str:
    """Name of a result file; digits of a hash tell apart what looks the same."""
    plain = re.sub(r"[^a-z0-9_.=-]+", "-", model.lower())[:_NAME_LENGTH]
    if plain == model:
        return plain
    return f"{plain}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


class _Further(NamedTuple):
    """A table that was asked for beside the usual ones."""

    title: str
    table: "pd.DataFrame"
    note: str  # under it
    left_out: tuple[str, ...] = ()  # columns that only files have
    full: "pd.DataFrame | None" = None  # what files hold in its place


def _further(
    comparison: "Comparison", options: argparse.Namespace
) -> dict[str, _Further]:
    """The tables of further options, by the names of their files."""
    first = comparison.results[0]
    tables = {}
    if options.partition:
        tables["partition"] = _Further(
            "Variance that the networks explain alone, and that they share",
            versa.partition(comparison.results, test_train_ratio=options.ratio),
            "Weights are fitted in one half of the subjects and scored in the other: "
            f"a part may be below 0. {first.scope('subjects')}",
        )
    if options.calibration:
        tables["calibration"] = _Further(
            "How often the tests would find a difference where there is none",
            versa.calibration(comparison),
            "Simulated studies with as many subjects, this ceiling and this spread "
            "between them, and two networks that are equally good: rejections by the "
            "t-tests with J - 1 and S - 1 degrees of freedom and by sign flips. A test "
            "is right if it rejects as often as its level says. Rates are for "
            f"{population_words(len(first.subjects), len(first.stimuli), 'subjects')}.",
            ("ceiling", "ceiling_simulated", "spread_simulated"),
        )
    if options.multiverse and len(comparison.table) and not first.single:
        tables["multiverse"] = _multiverse(comparison)
    return tables


def _multiverse(comparison: "Comparison") -> _Further:
    """How often each comparison holds, and every reading for the file."""
    from versa.inference.readings import multiverse, shares

    table = multiverse(
        comparison.results, baseline=comparison.baseline, alpha=comparison.alpha
    )
    return _Further(
        "Share of the readings in which each comparison holds",
        shares(table),
        "Readings: method, halves, n_test / n_train, degrees of freedom and family. "
        f"{comparison.results[0].scope('subjects')}",
        full=table,
    )


def _print(
    comparison: "Comparison",
    further: Mapping[str, _Further],
    options: argparse.Namespace,
) -> None:
    print(comparison.answer(**drawing()))
    if options.paper:
        _print_paper(comparison)
    if options.all:
        _print_all(comparison)
    for extra in further.values():
        print(f"\n{extra.title}\n")
        _show(extra.table.drop(columns=list(extra.left_out)), extra.note)
    _print_voxels(comparison)
    if options.all:
        for sentence in _of_old_results(comparison):
            print(f"\n{sentence}")
    print()
    if options.out is None:
        say(
            "All rows and columns: --all; the paper's: --paper; tables as files: --out "
            "FOLDER; pictures: --report FILE.html."
        )


def _print_all(comparison: "Comparison") -> None:
    """Every row and column."""
    from versa.stats.tables import to_markdown

    first = comparison.results[0]
    print("\nLayer-wise scores\n")
    _show(comparison.layers(), comparison.scope)
    print(
        "\nBest layer (the highest score; not cross-validated)\n"
        if first.single
        else "\nCross-validated best layer (chosen in one half, scored in the other)\n"
    )
    _show(comparison.best(), comparison.scope)
    seeds = comparison.seeds()
    if len(seeds):
        print("\nOver the seeds (best layers, as above)\n")
        print(to_markdown(seeds))
    if len(comparison.table):
        print(
            "\nPairwise differences (no test over one subject)\n"
            if first.single
            else f"\nPairwise comparisons ({comparison.correction_name} family of "
            f"{comparison.family}{_threshold(comparison)})\n"
        )
        _show(comparison.table, comparison.scope)


def _print_paper(comparison: "Comparison") -> None:
    """What the paper reports: its method, its null, J - 1 degrees of freedom."""
    from versa.stats.tables import to_markdown

    first = comparison.results[0]
    method = "versa" if "versa" in first.methods else first.leading_method
    print(
        f"\nAs in the paper: method {method}, J - 1 degrees of freedom (J split "
        "evaluations; rejects too often)\n"
    )
    for table, columns in (
        (comparison.best(), _PAPER_BEST),
        (comparison.table, _PAPER_PAIRS),
    ):
        rows = table[table["method"] == method]
        if len(rows):
            rows = rows[list(columns)]
            rows.attrs = table.attrs
            print(f"{to_markdown(rows)}\n")
    print(comparison.scope)


def _of_old_results(comparison: "Comparison") -> list[str]:
    """What results of older versions do not say of their ceilings."""
    from versa.fmri.scoring import ceiling_warnings

    found = []
    for result in comparison.results:
        said = result.provenance["warnings"]
        for text in ceiling_warnings(result.data, result.compare_by):
            if text not in said:
                found.append(f"{result.model}, {text}")
    return found


def _print_voxels(comparison: "Comparison") -> None:
    """How well voxels are predicted, if that was kept."""
    from versa.fmri.voxel_maps import over_subjects
    from versa.stats.tables import to_markdown

    if any(result.keeps_voxels for result in comparison.results):
        print("\nVoxels (medians, averaged over the subjects)\n")
        print(to_markdown(over_subjects(comparison.encoding())))


def _show(table: "pd.DataFrame", scope: str) -> None:
    """Print a table, and under it for whom its intervals and tests hold."""
    from versa.stats.tables import to_markdown

    print(f"{to_markdown(table)}\n\n{scope}")


def _threshold(comparison: "Comparison") -> str:
    """The level that Bonferroni leaves for each test."""
    if comparison.correction != "bonferroni":
        return ""
    return f": p < {comparison.alpha / comparison.family:.3g}"


def _write(
    comparison: "Comparison",
    folder: Path,
    options: argparse.Namespace,
    further: Mapping[str, _Further],
) -> None:
    from versa.stats.tables import write_table

    comparison.write(folder)
    for name, extra in further.items():
        table = extra.table if extra.full is None else extra.full
        write_table(table, folder, name, note=extra.note)
    record = {
        "command": ["versa-compare", *options.command],
        "options": vars(options),
        "comparison": {
            "family": comparison.family,
            "baseline": comparison.baseline,
            "test_train_ratio": comparison.test_train_ratio,
            "equivalence": comparison.equivalence,
            "generalize": comparison.generalize,
            "correction": comparison.correction,
            "halves": comparison.halves,
        },
        "fits": [result.provenance for result in comparison.results],
    }
    with atomic_write(folder / "provenance.json") as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    written = ", ".join(["layers", "best", "pairs", *further])
    say(
        f"All rows: --all. Tables in {folder}{os.sep}: {written} as .csv, .md and "
        ".tex; results; provenance.json."
    )


def _write_maps(comparison: "Comparison", folder: Path) -> None:
    """Maps of the voxels, of the results that keep their scores."""
    from versa.fmri.voxel_maps import write_maps

    kept = [result for result in comparison.results if result.keeps_voxels]
    if not kept:
        return
    if not all("voxel_place" in result.data for result in kept):
        say("\nNo maps: the voxels have no place in the head.")
        return
    for result in kept:
        write_maps(result.data, folder / "maps", _file_name(result.model))
    say(f"\nMaps of {listing(r.model for r in kept)}: {folder / 'maps'}{os.sep}")


def _draw(comparison: "Comparison", options: argparse.Namespace) -> None:
    """Write the figures and the report, if they were asked for."""
    if options.figures is not None:
        from versa.plotting.catalogue import draw_results

        folder = Path(options.figures)
        drawn = [
            path
            for format in options.format
            for path in draw_results(comparison, folder, format=format)
        ]
        say(f"\nDrawn in {folder}{os.sep}: {listing(p.name for p in drawn)}.")
    if options.report is not None:
        from versa.report.page import write_report

        pictures = [(Path(path).stem, path) for path in options.picture]
        path = write_report(comparison, options.report, pictures=pictures)
        print(f"\nReport: {path}")
