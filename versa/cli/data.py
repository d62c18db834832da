"""The console script ``versa-data``: weights and brain data on this machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import versa
from versa.cli.brains import add_brain_commands
from versa.cli.running import add_common, run_command, show

_EPILOG = """\
examples:
  versa-data weights mocov2_rn50_800ep swav_rn50_800ep
  versa-data weights --paper --where
  versa-data weights tc_say_resnext50 --file ~/Downloads/TC-SAY-resnext.tar

On a machine without a network, copy the cache folder of one that has it (VERSA_CACHE;
for networks of timm also HF_HOME), and set VERSA_OFFLINE=1 and HF_HUB_OFFLINE=1.
"""


def data_command(arguments: Sequence[str] | None = None) -> int:
    """The console script ``versa-data``; ``sys.argv`` by default.

    The exit code is 0; 2 after a sentence that says what to change; 130 after Ctrl-C.
    """
    return run_command(
        _parser(),
        lambda options: options.action(options),
        arguments,
        lambda _: "run the same command to resume: complete files are kept",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="versa-data",
        description="Download weights, and make dataset folders of brain data.",
    )
    parser.add_argument(
        "--version", action="version", version=f"versa {versa.__version__}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    weights = commands.add_parser(
        "weights",
        help="download and check the weights of networks",
        description="Download and check the weights of networks, so that they load "
        "without a network connection.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = weights.add_argument
    add(
        "models",
        nargs="*",
        metavar="NAME",
        help="name of versa-compare --list-models, torchvision/NAME or timm/NAME",
    )
    add("--paper", action="store_true", help="all networks of the paper")
    add(
        "--where",
        action="store_true",
        help="only say where they come from and go",
    )
    add("--file", metavar="FILE", help="put this file in the place of the one NAME's")
    add_common(weights)
    weights.set_defaults(action=_weights)
    add_brain_commands(commands)
    return parser


def _weights(options: argparse.Namespace) -> int:
    from versa.models.zoo.prefetch import install_weights, weights_table

    wanted = list(options.models)
    if options.paper:
        wanted += [n for n in versa.list_models(paper=True)["name"] if n not in wanted]
    if not wanted:
        raise ValueError("NAME must be given at least once, or --paper.")
    if options.where and options.file is not None:
        raise ValueError("--where must come without --file; got both. Choose one.")
    if options.file is not None:
        if len(wanted) != 1:
            raise ValueError(f"--file must come with one NAME; got {len(wanted)}.")
        print(install_weights(wanted[0], Path(options.file)))
        return 0
    if options.where:
        show(weights_table(wanted))
        return 0
    return _prefetch(wanted, traceback=options.traceback)


def _prefetch(wanted: Sequence[str], *, traceback: bool) -> int:
    """One after the other; those that fail do not keep the others from coming."""
    from versa.models.zoo.names import find_network
    from versa.models.zoo.prefetch import prefetch_weights

    for name in wanted:
        find_network(name)  # a misspelt name is refused before the first download
    failed = []
    for name in wanted:
        try:
            path = prefetch_weights(name)
        except (ValueError, OSError, ImportError) as error:
            if traceback:
                raise
            failed.append(name)
            sentence = " ".join(str(error).split())
            print(f"versa-data weights: {name}: {sentence}", file=sys.stderr)
            continue
        print(f"{name}: {'needs no weights' if path is None else path}")
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(wanted)} could not be had: {', '.join(failed)}. "
            "Those that could are kept; run the same command to try the others again."
        )
    return 0
