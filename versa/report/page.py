"""Write the report: gather its parts, fill the page, write one file."""

import json
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from versa.cache import atomic_write
from versa.comparison import Comparison
from versa.plotting.catalogue import headline_method
from versa.report.embedding import (
    View,
    draw_figures,
    policy_hash,
    report_file,
    shown_file,
)
from versa.report.glossary import GLOSSARY
from versa.report.matrices import matrices
from versa.report.prose import cautions, methods_paragraphs, summary_sentences
from versa.report.references import bibtex
from versa.report.tables import network_table, score_tables
from versa.result import FitResult
from versa.wording import unique_names


def write_report(
    comparison: Comparison | Sequence[Comparison],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    figures: bool = True,
    pictures: Sequence[tuple[str, str | os.PathLike[str]]] = (),
) -> Path:
    """Write a comparison as one HTML page that needs no network.

    The page holds the results in words, the tables (to sort, to copy, and as the
    bytes of :meth:`Comparison.write`'s CSV), figures, a viewer of the RDMs, the
    stimuli, a methods section to paste with its references, warnings and the
    provenance. Every heading explains itself. Nothing is loaded from anywhere.

    Parameters
    ----------
    comparison : Comparison or sequence of Comparison
        Several ones are of different datasets; each has a part of the page.
    path : path-like
        A file that ends with ``.html``. An existing one is replaced.
    title : str, optional
        Heading of the page; by default the names of the datasets.
    figures : bool, default=True
        Draw the figures.
    pictures : sequence of (caption, path)
        Pictures to show as well, such as sectors on the brain
        (:func:`versa.plotting.plot_sectors`): ``.png``, ``.svg``, ``.jpg``, or the
        ``.html`` of :func:`versa.plotting.write_view`, which can be turned on the page.
        The results hold no voxels, so the page cannot draw these.

    Returns
    -------
    path : Path
        The file. The same results give the same bytes.

    Raises
    ------
    ValueError
        If the file has another ending, a picture is absent or of another kind, or two
        comparisons are of the same dataset.
    """
    path = report_file(path)
    parts = [comparison] if isinstance(comparison, Comparison) else list(comparison)
    _require_datasets(parts)
    shown = [(caption, shown_file(place)) for caption, place in pictures]
    views = [one for _, one in shown if isinstance(one, View)]
    datasets = [_part(part, f"d{n}", figures) for n, part in enumerate(parts)]
    results = [result for part in parts for result in part.results]
    names = ", ".join(part.results[0].dataset for part in parts)
    page = _filled(
        title=title or f"Networks and brains: {names}",
        datasets=datasets,
        pictures=shown,
        view_scripts=_unique(script for one in views for script in one.scripts),
        view_styles=_unique(style for one in views for style in one.styles),
        glossary={
            heading: (f"g{n}", term)
            for n, (heading, term) in enumerate(GLOSSARY.items())
        },
        bibtex=bibtex(
            results, parity=any(part.equivalence is not None for part in parts)
        ),
        created=_created(results),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _require_datasets(parts: Sequence[Comparison]) -> None:
    if not parts or not all(isinstance(part, Comparison) for part in parts):
        raise ValueError(
            "comparison must be a Comparison or several; got "
            f"{', '.join(type(part).__name__ for part in parts) or 'none'}. "
            "Make one with versa.compare."
        )
    unique_names(
        [part.results[0].dataset for part in parts],
        "datasets of the comparisons",
        hint="Compare all networks of a dataset at once.",
    )


def _part(comparison: Comparison, key: str, figures: bool) -> dict[str, Any]:
    """Everything that the page says of one dataset."""
    first = comparison.results[0]
    best = comparison.best()
    tables = score_tables(comparison, best)
    viewer = matrices(comparison.results, best)
    data = {
        "dataset": first.dataset,
        "tables": {table.name: table.packed for table in tables},
        "stimuli": [name for name, _ in first.stimuli],
        "method": headline_method(first),
        "rdms": viewer,
    }
    return {
        "key": key,
        "name": first.dataset,
        "summary": summary_sentences(comparison, best),
        "cautions": cautions(comparison, best),
        "tables": [*tables, network_table(comparison.results)],
        "figures": draw_figures(comparison) if figures else [],
        "viewer": viewer is not None,
        "stimuli": _stimuli(comparison.results),
        "methods": methods_paragraphs(comparison),
        "provenance": [
            (result.model, json.dumps(result.provenance, indent=1, sort_keys=True))
            for result in comparison.results
        ],
        "data": data,
    }


def _stimuli(results: Sequence[FitResult]) -> list[tuple[str, str]]:
    """Names of the stimuli and small pictures, empty where there are none."""
    names = [name for name, _ in results[0].stimuli]
    for result in results:
        if "thumbnail" in result.data:
            pictures = [str(text) for text in result.data["thumbnail"].values]
            return list(zip(names, pictures, strict=True))
    return [(name, "") for name in names]


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _created(results: Sequence[FitResult]) -> str:
    """When the last of the fits was made."""
    return max(str(result.provenance.get("created") or "") for result in results)


def _filled(**parts: Any) -> str:
    """The page, whose policy lets only its own style and script work."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    texts = {
        ending: resources.files("versa.report")
        .joinpath(f"page.{ending}")
        .read_text("utf-8")
        for ending in ("html.j2", "css", "js")
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment.from_string(texts["html.j2"]).render(
        style=Markup(texts["css"]),
        script=Markup(texts["js"]),
        style_hash=policy_hash(texts["css"]),
        script_hash=policy_hash(texts["js"]),
        **parts,
    )
