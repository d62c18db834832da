"""The read-outs of ``versa-train-ipcl``: knn, linear and map."""

import argparse
import csv
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versa.cache import atomic_write
from versa.cli.running import add_layout, names, with_layout

if TYPE_CHECKING:
    from versa.models.vision import VisionModel

_MODEL = (
    "name of versa-compare --list-models, ARCHITECTURE@FILE, or a card of your own "
    "(.toml), which then holds the accuracy"
)


def add_readouts(
    parser: Callable[..., argparse.ArgumentParser],
) -> dict[str, argparse.ArgumentParser]:
    """Parsers of the three commands; `parser` takes name, action and description."""
    knn = parser(
        "knn", _knn, "Accuracy of the nearest neighbours among the training images."
    )
    _add_images(knn)
    add = knn.add_argument
    add("--layers", type=names, help="with commas between (default: l2norm, or fc7)")
    add("--k", type=int, default=200, help="neighbours (default: %(default)s)")
    add("--temperature", type=float, default=0.07, help="(default: %(default)s)")
    add(
        "--crop",
        choices=("whole", "validation"),
        default="validation",
        help="of all images: whole as in the authors' published script (short side = "
        "crop), or validation (256 / 224; default)",
    )

    linear = parser(
        "linear", _linear, "Accuracy of a linear classifier on a layer, frozen below."
    )
    _add_images(linear)
    add = linear.add_argument
    add("--layer", help="(default: fc7, or the last one before the classifier)")
    add("--epochs", type=int, default=10, help="(default: %(default)s)")
    add("--lr", type=float, default=30.0, help="peak (default: %(default)s)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add("--resume", metavar="FILE", help="written now and then, and resumed from")

    plane = parser("map", _map, "Map of images in two dimensions (t-SNE), as Fig. 1b.")
    add = plane.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add("images", metavar="IMAGES", help="folder of one folder per class, or a pack")
    add(
        "--out",
        required=True,
        metavar="FILE",
        help="figure; a table is written beside it",
    )
    add("--layer", help="(default: l2norm, or fc7)")
    add("--images-per-class", type=int, help="at most (default: all)")
    add("--perplexity", type=float, default=30.0, help="(default: %(default)s)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    _add_device(plane)
    return {"knn": knn, "linear": linear, "map": plane}


def _add_images(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    text = "folder with one folder per class, or a file of pack"
    add("--train", required=True, metavar="FOLDER", help=f"training images: {text}")
    add("--val", required=True, metavar="FOLDER", help=f"images to classify: {text}")
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_layout(add)
    add("--device", help="cpu, cuda, cuda:1 (default: cpu)")
    add("--batch-size", type=int, default=128, help="(default: %(default)s)")
    add("--workers", type=int, help="threads that read images")


def _opened(options: argparse.Namespace) -> tuple["VisionModel", Path | None]:
    """The network, and its card if that is a file of the user's."""
    from versa.models.zoo.loading import load_model

    card = Path(options.model) if options.model.endswith(".toml") else None
    return load_model(with_layout(options.model, options.layout)), card


def _passing(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "batch_size": options.batch_size,
        "device": options.device,
        "workers": options.workers,
        "progress": not options.quiet,
    }


def _embedding(model: "VisionModel") -> str:
    return "l2norm" if "l2norm" in dict(model.module.named_modules()) else "fc7"


def _source(what: str, options: argparse.Namespace) -> str:
    train, val = (Path(p).resolve() for p in (options.train, options.val))
    today = datetime.date.today().isoformat()
    return f"{what}, from {train} to {val}, versa-train-ipcl {today}"


def _knn(options: argparse.Namespace) -> int:
    from versa.models.readouts.neighbours import readout_knn

    model, card = _opened(options)
    layers = options.layers or [_embedding(model)]
    found = readout_knn(
        model,
        options.train,
        options.val,
        layers,
        k=options.k,
        temperature=options.temperature,
        transform=model.preprocess if options.crop == "whole" else None,
        **_passing(options),
    )
    crop = f"{options.crop} crop"
    for layer, scores in found.items():
        top1, top5 = scores["top1"], scores["top5"]
        print(f"{layer}: top1 {top1:.2f}, top5 {top5:.2f} ({crop})")
    if card is not None:
        what = f"{options.k} nearest neighbours in {layers[0]}, {crop}"
        _record(card, "top1_knn", found[layers[0]]["top1"], _source(what, options))
    return 0


def _linear(options: argparse.Namespace) -> int:
    from versa.models.readouts.linear import layer_below_classifier, readout_linear

    model, card = _opened(options)
    layer = options.layer or layer_below_classifier(model)
    passing = _passing(options)
    del passing["batch_size"]  # here it is part of the protocol
    found = readout_linear(
        model,
        options.train,
        options.val,
        layer,
        epochs=options.epochs,
        peak_lr=options.lr,
        seed=options.seed,
        resume=options.resume,
        **passing,
    )
    print(f"{layer}: top1 {found['top1']:.2f}, top5 {found['top5']:.2f}")
    if card is not None:
        what = f"linear read-out of {layer}, {options.epochs} epochs"
        _record(card, "top1_linear", found["top1"], _source(what, options))
    return 0


def _record(card: Path, field: str, value: float, source: str) -> None:
    from versa.models.ipcl.export import add_accuracy

    add_accuracy(card, {field: value}, source)
    print(f"{field} is in {card}")


def _map(options: argparse.Namespace) -> int:
    import numpy as np

    from versa.models.readouts.images import labelled_images, stream_features
    from versa.models.readouts.maps import embedding_map, plot_map
    from versa.untrusted import no_formula

    model, _ = _opened(options)
    source = labelled_images(options.images)
    labels = source.labels
    chosen = np.arange(len(labels))
    if options.images_per_class is not None:
        if options.images_per_class < 1:
            raise ValueError(
                f"--images-per-class must be 1 or more; got {options.images_per_class}."
            )
        chosen = np.concatenate(
            [
                np.flatnonzero(labels == k)[: options.images_per_class]
                for k in range(len(source.classes))
            ]
        )
        labels = labels[chosen]
    some = ([source.images[k] for k in chosen], labels)
    layer = options.layer or _embedding(model)
    parts = stream_features(model, some, layer, **_passing(options))
    features = np.concatenate([x.flatten(1).cpu().numpy() for x, _ in parts])
    places = embedding_map(features, seed=options.seed, perplexity=options.perplexity)
    plot_map(places, labels, source.classes, options.out)
    table = Path(options.out).with_suffix(".csv")
    with (
        atomic_write(table) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["image", "class", "x", "y"])
        for k, (x, y) in zip(chosen, places, strict=True):
            name = source.classes[source.labels[k]]
            texts = map(no_formula, (source.name(int(k)), name))
            writer.writerow([*texts, f"{x:.5g}", f"{y:.5g}"])
    print(options.out)
    print(table)
    return 0
