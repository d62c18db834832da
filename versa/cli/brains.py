"""The commands of ``versa-data`` for brain data: from the scanner to a dataset."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from versa.cli.running import add_common, names, show

_BETAS_EPILOG = """\
examples:
  versa-data betas bids --out study --images stimuli --filter task=objects
  versa-data betas bids --derivatives bids/derivatives/fmriprep --out study \\
      --filter space=MNI152NLin2009cAsym --confounds simple --hrf spm --noise ols
"""
_SECTORS_EPILOG = """\
A SOURCE is the path of an image with {subject} for the label, or atlas/NAME for an
atlas that nilearn fetches; after a colon the regions of a label image, with + between,
or a threshold (mask.nii.gz:>0.5). + also joins sources, as does an option given twice.

examples:
  versa-data sectors study --early-v 'rois/sub-{subject}_visual.nii.gz:1+2+3' \\
      --otc 'rois/sub-{subject}_OTC.nii.gz' --n-voxels 1000
  versa-data sectors study --sector 'V1=atlas/juelich:GM Visual cortex V1 BA17 L'
"""


def add_brain_commands(commands: Any) -> None:
    """Add the commands to the parser of ``versa-data``.

    Each sets `action`, a function of the options that returns the exit code.
    """
    _add_betas(commands)
    _add_images(commands)
    _add_sectors(commands)
    _add_check(commands)
    _add_fetch(commands)
    _add_convert(commands)


def _command(
    commands: Any, name: str, help: str, description: str, action: Any, epilog: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(action=action)
    return parser


# ---- betas ------------------------------------------------------------------------


def _add_betas(commands: Any) -> None:
    parser = _command(
        commands,
        "betas",
        "estimate betas from BOLD runs and events (BIDS, fMRIPrep)",
        "Estimate one beta per condition and voxel, for all, odd and even runs, by\n"
        "nilearn's first-level GLM, and begin a dataset folder with them.",
        _betas,
        _BETAS_EPILOG,
    )
    add = parser.add_argument
    add("bids", metavar="BIDS", help="folder with the events (and the images)")
    add("--out", required=True, metavar="FOLDER", help="dataset folder to begin")
    add("--derivatives", metavar="FOLDER", help="fMRIPrep's folder with the images")
    add(
        "--subjects", type=names, metavar="LABELS", help="such as 01,02; all by default"
    )
    add(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="part that file names must have, such as task=objects (repeatable)",
    )
    add("--images", metavar="FOLDER", help="images, called like their conditions")
    add("--name", help="name of the dataset; that of the folder by default")
    add("--mask", metavar="PATH", help="mask of voxels, with {subject} for the label; "
        "of one with many values also a threshold, mask.nii.gz:>0.5")  # fmt: skip
    add("--space", help="TAL, MNI152..., individual; what the files say by default")
    add("--resample", action="store_true", help="resample masks to the runs' grid")
    add(
        "--condition-column",
        default="trial_type",
        metavar="NAME",
        help="column of the events that names the condition (default: trial_type)",
    )
    add("--nuisance", type=names, default=[], metavar="NAMES",
        help="events that are modelled and are no conditions")  # fmt: skip
    add("--leave-out", type=names, default=[], metavar="NAMES",
        help="events that are not modelled, such as rest")  # fmt: skip
    add("--drop-late", action="store_true",
        help="leave out events after the end of a run that was cut short")  # fmt: skip
    add("--slice-time-ref", type=float, metavar="PART",
        help="when in the repetition time scans count as taken, 0 to 1 (default: what "
        "StartTime says)")  # fmt: skip
    add("--repetition-time", choices=("sidecar", "header"),
        help="which counts where they differ (default: that is refused)")  # fmt: skip
    add(
        "--confounds",
        metavar="STRATEGY|NAMES",
        help="simple, scrubbing, compcor, ica_aroma, or columns with commas between",
    )
    add("--hrf", default="glover", metavar="MODEL", help="glover (default), spm, ...")
    add("--drift", default="cosine", help="cosine (default), polynomial or none")
    add("--high-pass", type=float, default=0.01, metavar="HZ", help="default: 0.01")
    add("--drift-order", type=int, default=1, metavar="N", help="of polynomials")
    add("--noise", default="ar1", help="ar1 (default), arN or ols")
    add("--smoothing", type=float, metavar="MM", help="full width at half maximum")
    add("--raw-signal", action="store_true", help="no scaling to %% signal change")
    add("--no-figures", action="store_true", help="draw neither designs nor maps")
    add_common(parser)


def _betas(options: argparse.Namespace) -> int:
    from versa.fmri.betas.glm import GLMSettings
    from versa.fmri.betas.runs import STRATEGIES
    from versa.fmri.study.betas import estimate_betas, reliability_table

    confounds = options.confounds
    if confounds is not None and confounds not in STRATEGIES:
        confounds = names(confounds)
    find = {
        "derivatives": options.derivatives,
        "filters": _pairs(options.filter, "--filter"),
        "confounds": confounds,
        "condition_column": options.condition_column,
        "slice_time_ref": options.slice_time_ref,
        "repetition_time": options.repetition_time,
    }
    settings = GLMSettings(
        hrf_model=options.hrf,
        drift_model=options.drift,
        high_pass=options.high_pass,
        drift_order=options.drift_order,
        noise_model=options.noise,
        signal_scaling=False if options.raw_signal else 0,
        smoothing_fwhm=options.smoothing,
        left_out=options.leave_out,
        nuisance=options.nuisance,
        drop_late=options.drop_late,
    )
    folder = estimate_betas(
        options.bids,
        options.out,
        subjects=options.subjects,
        settings=settings,
        mask=options.mask,
        space=options.space,
        resample="nearest" if options.resample else None,
        images=options.images,
        name=options.name,
        progress=not options.quiet,
        **find,
    )
    show(reliability_table(folder))
    if not options.no_figures:
        from versa.plotting.study import draw_betas

        for path in draw_betas(
            folder, options.bids, settings, {**find, "left_out": settings.left_out}
        ):
            print(path)
    return 0


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Texts such as task=objects as a mapping."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise ValueError(f"{option} must be KEY=VALUE; got {text!r}.")
        if key in found:
            raise ValueError(f"{option} must name {key} once; got it twice.")
        found[key] = value
    return found


def _sources(texts: Sequence[str]) -> dict[str, str]:
    """Texts such as V1=mask.nii.gz as a mapping; sources of one name are joined."""
    found: dict[str, str] = {}
    for text in texts:
        for name, source in _pairs([text], "--sector").items():
            found[name] = f"{found[name]}+{source}" if name in found else source
    return found


def _counts(texts: Sequence[str]) -> dict[str, int]:
    """Texts such as V1=100 as a mapping."""
    found = {}
    for name, number in _pairs(texts, "--most-active").items():
        if not number.isdigit() or int(number) < 1:
            raise ValueError(
                f"--most-active must be NAME=N with N from 1; got {name}={number}."
            )
        found[name] = int(number)
    return found


# ---- images and sectors -----------------------------------------------------------


def _add_images(commands: Any) -> None:
    parser = _command(
        commands,
        "images",
        "add the images to a dataset folder",
        "Add the images to a dataset folder with betas: one per condition, by name.",
        _images,
    )
    parser.add_argument("folder", metavar="FOLDER", help="dataset folder")
    parser.add_argument("images", metavar="IMAGES", help="folder of image files")
    add_common(parser)


def _images(options: argparse.Namespace) -> int:
    from versa.fmri.study.images import add_images

    print(add_images(options.folder, options.images))
    return 0


def _add_sectors(commands: Any) -> None:
    parser = _command(
        commands,
        "sectors",
        "define the sectors of a dataset folder, and draw them",
        "Define sectors from masks, labels or an atlas: EarlyV, pOTC and aOTC by the\n"
        "recipe of Konkle & Alvarez (2022) with --early-v and --otc, or any others.",
        _sectors,
        _SECTORS_EPILOG,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="dataset folder with betas")
    add("--early-v", action="append", metavar="SOURCE",
        help="V1 to V3 (given twice: both, as + joins)")  # fmt: skip
    add("--otc", action="append", metavar="SOURCE",
        help="occipito-temporal cortex (given twice: both)")  # fmt: skip
    add(
        "--sector",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="a sector as it is drawn (repeatable; + joins two sources, as does one "
        "NAME given twice)",
    )
    add("--active", metavar="MAP",
        help="contrast [all > rest]: active (default, what `betas` left), betas (their "
        "mean), or a path with {subject}")  # fmt: skip
    add("--group", action="store_true", help="choose active voxels for the whole group")
    add("--n-voxels", type=int, metavar="N",
        help="most active voxels of OTC (default: 1000)")  # fmt: skip
    add("--most-active", action="append", default=[], metavar="NAME=N",
        help="keep the N most active voxels of a sector (repeatable)")  # fmt: skip
    add("--min-reliability", type=float, metavar="R",
        help="keep voxels of a larger odd/even reliability (default: all)")  # fmt: skip
    add("--per-hemisphere", action="store_true", help="N in each hemisphere")
    add("--cut", type=float, metavar="Y",
        help="Talairach Y between pOTC and aOTC in mm (default: -53)")  # fmt: skip
    add("--transform", metavar="NAME",
        help="from MNI to Talairach: lancaster (default), lancaster-spm, "
        "lancaster-fsl, brett")  # fmt: skip
    add("--closed", choices=("posterior", "anterior"),
        help="side of voxels at the cut itself (default: posterior)")  # fmt: skip
    add("--resample", action="store_true", help="resample masks to the betas' grid")
    add("--background", metavar="PATH", help="anatomical image, with {subject}")
    add("--no-figures", action="store_true", help="do not draw the sectors")
    add_common(parser)


def _sectors(options: argparse.Namespace) -> int:
    from versa.fmri.study.sectors import add_sectors, choose_sectors, paper_sectors

    plain = _sources(options.sector)
    recipe = options.early_v is not None and options.otc is not None
    if not recipe and (options.early_v is not None or options.otc is not None):
        raise ValueError("--early-v and --otc must be given together; one is missing.")
    if recipe == bool(plain):
        raise ValueError(
            "sectors must come from --early-v and --otc, or from --sector; got "
            f"{'both' if recipe else 'neither'}."
        )
    _check_options(options, recipe)
    given = {
        "contrast": options.active,
        "per_hemisphere": options.per_hemisphere or None,
        "min_reliability": options.min_reliability,
        "y": options.cut,
        "transform": options.transform,
        "resample": "nearest" if options.resample else None,
        "n_voxels": options.n_voxels,
        "closed": options.closed,
        "group": options.group or None,
    }
    common = {name: value for name, value in given.items() if value is not None}
    made: dict[str, Any]
    if recipe:
        made = {
            "early": "+".join(options.early_v),
            "occipito_temporal": "+".join(options.otc),
            **common,
        }
        found = paper_sectors(options.folder, **made)
    else:
        counts = _counts(options.most_active)
        made = {"sources": plain, "most_active": counts, **common}
        found = choose_sectors(options.folder, **made)
    drawn = []
    if not options.no_figures:  # before the masks: a picture that fails leaves no trace
        from versa.plotting.study import draw_sectors

        cut = {name: common[name] for name in ("y", "transform") if name in common}
        drawn = draw_sectors(
            options.folder, found.sectors, background=options.background, **cut
        )
    add_sectors(options.folder, found.sectors, recipe=made)
    show(found.table.round(1))
    for text in found.warnings:
        print(f"warning: {text}", file=sys.stderr)
    for path in drawn:
        print(path)
    return 0


def _check_options(options: argparse.Namespace, recipe: bool) -> None:
    """Refuse options that would have no effect."""
    if recipe:
        unused = {"--most-active": options.most_active or None}
    else:
        unused = {
            "--group": options.group or None,
            "--n-voxels": options.n_voxels,
            "--closed": options.closed,
        }
    for option, value in unused.items():
        if value is not None:
            kind = "--early-v and --otc" if recipe else "--sector"
            raise ValueError(
                f"{option} has no effect with {kind}. Leave it out; versa-data "
                "sectors -h tells what each is for."
            )


# ---- check ------------------------------------------------------------------------


def _add_check(commands: Any) -> None:
    parser = _command(
        commands,
        "check",
        "list the problems of a dataset folder, file by file",
        "Check every file of a dataset folder. The exit code is 0 if it can be used.",
        _check,
    )
    parser.add_argument("folder", metavar="FOLDER", help="dataset folder")
    add_common(parser)


def _check(options: argparse.Namespace) -> int:
    return report_problems(Path(options.folder))


def report_problems(folder: Path) -> int:
    """Print the problems of a dataset folder; 0 if it can be used."""
    from versa.fmri.dataset.checking import check_dataset

    problems = check_dataset(folder)
    for problem in problems:
        print(problem)
    n_errors = sum(problem.level == "error" for problem in problems)
    n_warnings = len(problems) - n_errors
    if n_errors:
        raise ValueError(
            f"{folder} has {n_errors} error{'s'[: n_errors != 1]} and {n_warnings} "
            f"warning{'s'[: n_warnings != 1]}. Correct the errors, then check again."
        )
    print(f"{folder}: no errors, {n_warnings} warning{'s'[: n_warnings != 1]}.")
    return 0


# ---- archives ---------------------------------------------------------------------


def _add_fetch(commands: Any) -> None:
    parser = _command(
        commands,
        "fetch",
        "download the paper's data from osf.io and convert them",
        "Download the archive of Konkle & Alvarez (2022), osf.io/trne8, every file\n"
        "checked by its hashes, and convert an experiment of it into a dataset folder\n"
        "by a mapping file. Without one, the contents of the archive are listed, so\n"
        "that you can write it.",
        _fetch,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="orientation or inanimate")
    add("--list", action="store_true", help="show the files and stop")
    add("--files", action="append", metavar="PATTERN",
        help="download only these, such as '*.mat' (repeatable)")  # fmt: skip
    add("--update", action="store_true", help="take the project's present versions")
    add("--mapping", metavar="FILE", help="mapping file; by default beside the archive")
    add("--project", metavar="ID", default="trne8", help="OSF project (default: trne8)")
    add_common(parser)


def _fetch(options: argparse.Namespace) -> int:
    from versa.fmri.published.contents import archive_contents
    from versa.fmri.published.konkle2022 import (
        convert_archive,
        converted_folder,
        fetch_archive,
        mapping_path,
    )
    from versa.fmri.published.osf import files_table, list_files

    # name and project are checked before the network is used
    mapping = mapping_path(options.name, options.project)
    if options.list:
        table = files_table(list_files(options.project))
        shown = ["path", "size", "version", "modified", "sha256"]
        show(table[shown], width=None)  # a hash that is cut cannot be compared
        return 0
    anew = options.update or options.mapping is not None
    folder = converted_folder(options.name, mapping=mapping, anew=anew)
    if folder is not None:
        return report_problems(folder)
    archive, table = fetch_archive(
        options.name,
        options.project,
        patterns=options.files,
        update=options.update,
    )
    show(table, width=None)
    print(f"archive: {archive}")
    if options.mapping is not None:
        mapping = Path(options.mapping)
    if not mapping.is_file():
        show(archive_contents(archive), width=None)
    return report_problems(convert_archive(options.name, archive, mapping))


def _add_convert(commands: Any) -> None:
    parser = _command(
        commands,
        "convert",
        "convert an archive of any layout by a mapping file",
        "Convert a folder of BrainVoyager files, MATLAB structs or arrays into a\n"
        "dataset folder, by a mapping file that says where the betas of which subject\n"
        "and sector are. Without one, list the names, shapes and types of what the\n"
        "folder holds, so that you can write it.",
        _convert,
    )
    add = parser.add_argument
    add("archive", metavar="FOLDER", help="folder of the archive")
    add("--mapping", metavar="FILE", help="mapping file (TOML)")
    add("--out", metavar="FOLDER", help="dataset folder to make")
    add_common(parser)


def _convert(options: argparse.Namespace) -> int:
    from versa.fmri.dataset.folder import write_dataset
    from versa.fmri.published.contents import archive_contents
    from versa.fmri.published.converting import convert
    from versa.fmri.published.mapping import read_mapping

    if options.mapping is None and options.out is None:
        show(archive_contents(options.archive), width=None)
        return 0
    for option in ("mapping", "out"):
        if getattr(options, option) is None:
            raise ValueError(
                "--mapping FILE and --out FOLDER must be given together; "
                f"--{option} is missing. Without both, the contents are listed."
            )
    dataset = convert(options.archive, read_mapping(options.mapping))
    return report_problems(write_dataset(dataset, Path(options.out)))
