"""Tables of the report: the digits of the Markdown, the bytes of the CSV."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from versa.comparison import Comparison
from versa.fmri.voxel_maps import over_subjects
from versa.report.glossary import GLOSSARY, Term
from versa.result import FitResult
from versa.stats.tables import for_reading, to_csv

if TYPE_CHECKING:
    import pandas as pd

_TITLES = {
    "best": "Best layers, cross-validated",
    "pairs": "Networks against each other",
    "seeds": "Over the initialisations of untrained networks",
    "layers": "All layers",
    "encoding": "How well voxels are predicted",
}
_NOTES = {
    "best": "Each network's best layer was chosen in one half of the subjects and "
    "scored in the other half, over all half-splits.",
    "pairs": "Paired tests of the cross-validated best layers, corrected for the "
    "overlap of the splits; {correction} family of {family}.",
    "seeds": "Of the cross-validated best layers' mean r.",
    "layers": "The score of every layer, without any choice of the best.",
    "encoding": "Leave-one-out predictions of single voxels: medians over the voxels "
    "of a sector, averaged over the subjects. The file has a row for each of these.",
}
_NOTES_OF_ONE = {
    "best": "Each network's layer with the highest score. It is not cross-validated, "
    "because one subject has no halves, and so it is too high.",
    "pairs": "Differences of the best layers; there is no test over one subject.",
    "seeds": "Of the best layers, which are not cross-validated.",
}
"""In their place where there is one subject."""


@dataclass(frozen=True)
class ReportTable:
    """A table as the page shows it."""

    name: str  # of the file it can be saved as, without ending
    title: str
    note: str
    headings: tuple[str, ...]  # each is in the glossary
    rows: tuple[tuple[str, ...], ...]
    n_text: int  # columns on the left that hold words; others hold numbers
    tail: bool  # whether the last column holds words, too
    packed: str  # the CSV, deflated, in base64; empty if there is none

    @property
    def terms(self) -> list[tuple[str, Term]]:
        """Headings with what they mean."""
        return [(heading, GLOSSARY[heading]) for heading in self.headings]


def score_tables(comparison: Comparison, best: "pd.DataFrame") -> list[ReportTable]:
    """The tables that :meth:`Comparison.write` writes and that have rows."""
    tables = {
        "best": best,
        "pairs": comparison.pairs(),
        "seeds": comparison.seeds(),
        "layers": comparison.layers(),
    }
    shown = dict(tables)
    if any(result.keeps_voxels for result in comparison.results):
        tables["encoding"] = comparison.encoding()
        shown["encoding"] = over_subjects(tables["encoding"])
    titles, notes = _TITLES, _NOTES
    if comparison.results[0].single:
        titles = titles | {"best": "Best layers, not cross-validated"}
        notes = notes | _NOTES_OF_ONE
    return [
        _table(
            name,
            titles[name],
            _note(
                notes[name].format(
                    family=comparison.family, correction=comparison.correction_name
                ),
                name,
                comparison,
            ),
            shown[name],
            zlib.compress(to_csv(table).encode("utf-8"), 9),
        )
        for name, table in tables.items()
        if len(table)
    ]


def _note(text: str, name: str, comparison: Comparison) -> str:
    """What stands under a table; for whom its intervals hold, if it has any."""
    return text if name == "encoding" else f"{text} {comparison.scope}"


def network_table(results: Sequence[FitResult]) -> ReportTable:
    """What is known of each network, from its card; without a CSV."""
    import pandas as pd

    rows = []
    for result in results:
        card = result.card
        rows.append(
            {
                "network": result.model,
                "architecture": card.get("architecture") or "-",
                "training": card.get("method") or "-",
                "diet": card.get("diet") or "-",
                "licence": card.get("licence") or "-",
                "layers": len(result.layer_names),
                "kNN top-1": _percent(card.get("top1_knn")),
                "linear top-1": _percent(card.get("top1_linear")),
                "top-1": _percent(card.get("top1")),
            }
        )
    title = "The networks"
    note = "From their model cards; accuracies are as published, in percent."
    return _table("networks", title, note, pd.DataFrame(rows), b"")


def _table(
    name: str, title: str, note: str, table: "pd.DataFrame", csv: bytes
) -> ReportTable:
    from pandas.api.types import is_numeric_dtype

    shown = for_reading(table)
    words = [not is_numeric_dtype(table[column]) for column in table.columns]
    return ReportTable(
        name,
        title,
        note,
        tuple(shown.columns),
        tuple(tuple(row) for row in shown.values.tolist()),
        words.index(False),
        words[-1],
        base64.b64encode(csv).decode("ascii"),
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
