"""The console script ``versa-train-ipcl``: train, and all that goes with it."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import versa
from versa.cli.readouts import add_readouts
from versa.cli.running import add_common, run_command
from versa.progress import counted

_AGAIN = 75  # exit code: stopped by a scheduler, run the same command again
_EPILOG = """\
other commands (each with -h):
  versa-train-ipcl pack DATA FILE        one memory-mapped file of small JPEGs
  versa-train-ipcl export RUN            safetensors and a card of the zoo
  versa-train-ipcl plot RUN              figure of loss, rate and accuracy
  versa-train-ipcl knn MODEL             accuracy of the nearest neighbours
  versa-train-ipcl linear MODEL          accuracy of a linear read-out
  versa-train-ipcl map MODEL IMAGES      images in two dimensions (t-SNE)
Write ./NAME for a folder of images with one of these names.

The defaults are the recipe of Konkle & Alvarez (2022). The same command resumes a run
that was stopped. Exit codes: 0 done; 2 something must be changed, and the message
says what; 75 a scheduler asked to stop (SIGTERM, SIGUSR2) or the images are out of
reach, all is saved: run it again; 130 Ctrl-C.

examples:
  versa-train-ipcl /data/imagenet/train --out runs/ipcl \\
      --set monitor.val=/data/imagenet/val --set precision=bf16 \\
      --set engine.chunk_groups=4 --set engine.compile=true
  versa-train-ipcl --config supervised_ref12_5views imagenet.pack --out runs/a
  torchrun --nproc-per-node 8 --no-python versa-train-ipcl imagenet.pack --out runs/b
"""


def train_command(arguments: Sequence[str] | None = None) -> int:
    """The console script ``versa-train-ipcl``; ``sys.argv`` by default.

    The exit code is 0; 2 after a sentence that says what to change; 75 if a scheduler
    stopped the training, which the same command resumes; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = _commands()
    if given and given[0] in commands:
        parser = commands[given[0]]
        given = given[1:]
    else:
        parser = _train_parser()
    add_common(parser)
    action = functools.partial(_or_again, parser.get_default("action"))
    return run_command(parser, action, given, _interrupted)


def _or_again(
    action: Callable[[argparse.Namespace], int], options: argparse.Namespace
) -> int:
    """75 where the file system does not hand out images: that passes."""
    from versa.models.ipcl.image_source import UnreachableImages

    try:
        return action(options)
    except UnreachableImages as error:
        print(f"versa-train-ipcl: {error}", file=sys.stderr)
        return _AGAIN


def _interrupted(_options: argparse.Namespace) -> str:
    return "what is done is kept; run the same command to resume"


def _parser(
    name: str,
    action: Callable[[argparse.Namespace], int],
    description: str,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"versa-train-ipcl {name}".strip(),
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(action=action)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "data",
        nargs="*",
        metavar="DATA",
        help="folder of images, one subfolder per class or none, or a file of pack; "
        "several are drawn from by their weights",
    )
    add(
        "--config",
        metavar="RECIPE",
        help="YAML file, or the name of a recipe of versa; absent keys have defaults",
    )
    add(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value of a key, such as epochs=10 or optimizer.lr=0.01; may be "
        "given several times",
    )


def _train_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "",
        _train,
        "Train a network by instance-prototype contrastive learning (IPCL), or the\n"
        "matched supervised model (--set method=supervised).",
        _EPILOG,
    )
    add = parser.add_argument
    add("--version", action="version", version=f"versa {versa.__version__}")
    _add_config(parser)
    add("--out", metavar="FOLDER", help="folder of the run; it is made or continued")
    add(
        "--init-from",
        metavar="FILE",
        help="weights that a new run begins with; or the folder of another run, to "
        "continue what it has learned by a new cycle",
    )
    add(
        "--new-data",
        action="store_true",
        help="resume although the images have changed since the run was begun",
    )
    add(
        "--print-config",
        action="store_true",
        help="print the complete configuration as YAML and train nothing",
    )
    return parser


def _commands() -> dict[str, argparse.ArgumentParser]:
    pack = _parser("pack", _pack, "Write images into one memory-mapped file of JPEGs.")
    add = pack.add_argument
    add("data", metavar="DATA", help="folder of images")
    add("file", metavar="FILE", help="file to make; resumed if interrupted")
    add("--short-side", type=int, default=256, help="pixels (default: %(default)s)")
    add("--quality", type=int, default=90, help="of the JPEGs (default: %(default)s)")
    add("--workers", type=int, help="threads (default: one per core)")

    export = _parser("export", _export, "Write the weights of a run, and a card.")
    add = export.add_argument
    add("run", metavar="RUN", help="folder of the run")
    add("--out", metavar="FOLDER", help="of card and weights (default: RUN/export)")
    add("--name", help="in the zoo (default: the name of the run's folder)")
    add("--step", type=int, help="of the checkpoint (default: the newest)")

    plot = _parser("plot", _plot, "Draw loss, learning rate and accuracy of a run.")
    add = plot.add_argument
    add("run", metavar="RUN", help="folder of the run")
    add("--out", metavar="FILE", help="figure (default: RUN/curve.png)")
    made = {"pack": pack, "export": export, "plot": plot}
    return made | add_readouts(_parser)


def _train(options: argparse.Namespace) -> int:
    from versa.models.ipcl.recipes import config_text, read_config
    from versa.models.zoo.networks import trust_package_of

    config = read_config(options.config, *_changes(options))
    if f"architecture={config.architecture}" in options.changes:
        # code of one's own, named on one's own command line: not by a file of others
        trust_package_of(config.architecture)
    if options.print_config:
        print(config_text(config), end="")
        return 0
    if not config.data:
        raise ValueError("DATA must name at least one folder of images or packed file.")
    if options.out is None:
        raise ValueError("--out must name the folder of the run, such as runs/ipcl.")
    from versa.models.ipcl.training import train

    end = train(
        config, options.out, new_data=options.new_data, progress=not options.quiet
    )
    if end.interrupted:
        raise KeyboardInterrupt
    place = f"step {end.step} of {end.n_steps}"
    if end.preempted:
        done = f"stopped and saved after {place}" if end.step else "stopped in step 1"
        print(f"{done}; run the same command to {'resume' if end.step else 'begin'}.")
        return _AGAIN
    if end.is_main:
        from versa.models.ipcl.export import EXPORTS, export_run
        from versa.models.zoo.reading import training_record

        path = Path(options.out) / EXPORTS / f"{Path(options.out).resolve().name}.toml"
        print(f"trained for {end.n_steps} steps.")
        weights = path.with_suffix(".safetensors")
        made = training_record(weights).get("step") if path.is_file() else None
        if made != end.step:  # none, or one from the middle of the training
            try:
                export_run(options.out)
            except ValueError as error:
                print(f"Not exported: {error}")
                print(
                    f"Write weights and card by versa-train-ipcl export {options.out}"
                )
                return 0
        print(f"Card, and weights beside it: {path}")
        print(f"With VERSA_ZOO={path.parent} the network is called {path.stem}.")
    return 0


def _changes(options: argparse.Namespace) -> list[str]:
    from json import dumps

    given = {"data": options.data, "init_from": options.init_from}
    own = [f"{k}={dumps(v, ensure_ascii=False)}" for k, v in given.items() if v]
    return [*own, *options.changes]


def _pack(options: argparse.Namespace) -> int:
    from versa.models.ipcl.packing import pack
    from versa.models.ipcl.sources import ImageTree

    images = ImageTree(options.data)
    with counted(len(images), "pack", "image", show=not options.quiet) as bar:

        def progress(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        packed = pack(
            images,
            options.file,
            short_side=options.short_side,
            quality=options.quality,
            workers=options.workers,
            progress=progress,
        )
    print(f"{options.file}: {len(packed)} of {len(images)} images")
    return 0


def _export(options: argparse.Namespace) -> int:
    from versa.models.ipcl.export import export_run

    print(export_run(options.run, options.out, name=options.name, step=options.step))
    return 0


def _plot(options: argparse.Namespace) -> int:
    from versa.models.ipcl.logs import CURVE, plot_run

    path = Path(options.run) / CURVE if options.out is None else Path(options.out)
    plot_run(options.run, path)
    print(path)
    return 0
