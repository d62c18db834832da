"""The answer card: who wins where, and how sure it is, as text for a terminal."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from versa.wording import listing, shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["WIDTH", "Facts", "answer_card"]

WIDTH = 80
"""Columns of a card where nobody says how wide the terminal is."""

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_NOBODY = "no network is distinguishable from chance"
_ASCII = str.maketrans(
    {"█": "#", "▌": "#", "·": ".", "±": "+-", "≤": "<=", "²": "2", "−": "-"}
)
_WIDEST_NAME, _WIDEST_LAYER, _WIDEST_BEATS = 30, 18, 14
_WIDEST_BAR, _NARROWEST_BAR, _NARROWEST_TEXT = 30, 10, 13

Row = Any  # of a table: a mapping of columns to values


class Facts(NamedTuple):
    """What a card says beside the scores; alpha to margin are those of the pairs."""

    sample: str  # dataset, and numbers of subjects, images and half-splits
    method: str
    scope: str  # for whom intervals and tests hold
    single: bool = False  # one subject only
    population: str = "subjects"
    alpha: float = 0.05
    correction: str = "Bonferroni"
    family: int = 0
    baseline: str | None = None
    margin: float | None = None
    notes: Sequence[str] = ()  # what must be known: warnings
    more: str = ""  # where everything else is


def answer_card(
    best: "pd.DataFrame",
    pairs: "pd.DataFrame | None",
    facts: Facts,
    *,
    width: int = WIDTH,
    styled: bool = False,
    ascii_only: bool = False,
) -> str:
    """Lay out what was found in every sector.

    Parameters
    ----------
    best : DataFrame
        Cross-validated best layers, as :meth:`FitResult.best` gives them.
    pairs : DataFrame or None
        Pairwise comparisons, as :meth:`Comparison.pairs` gives them.
    facts : Facts
        The method to speak of, and what else is said.
    width : int, default=80
        Longest line; 72 at least.
    styled : bool, default=False
        Use bold and dim letters of ANSI terminals.
    ascii_only : bool, default=False
        Draw the bars with ASCII, for terminals that know nothing else.

    Returns
    -------
    text : str
        Per sector a sentence, then one row per network, the highest first.
    """
    width = max(width, 72) - 4 * ascii_only  # where a sign becomes two
    best = best[best["method"] == facts.method]
    if pairs is not None:
        pairs = pairs[pairs["method"] == facts.method]
    tests = _tests(pairs, facts)
    names = [str(name) for name in best["model"].unique()]
    keys = dict(zip(names, _keys(len(names)), strict=True))
    sectors = [str(sector) for sector in best["sector"].unique()]
    table = _Table(best, tests, keys, facts, width)
    lines = [
        *_wrapped(facts.sample, width),
        *_wrapped(_explained(facts), width),
        "",
        _dim(table.heading(), styled),
    ]
    for sector in sectors:
        rows = best[best["sector"] == sector].sort_values(
            "r", ascending=False, kind="stable", na_position="last"
        )
        sentence = f"{sector}: {verdict(rows, tests.get(sector, []), facts)}"
        first, *others = _wrapped(sentence, width, indent="  ")
        if styled:
            first = first.replace(f"{sector}:", f"{_BOLD}{sector}:{_PLAIN}", 1)
        lines += [first, *others]
        for row in rows.to_dict("records"):
            lines += table.lines(row)
        lines += [_dim(line, styled) for line in table.ceiling(rows.iloc[0])]
        lines.append("")
    lines += _wrapped(_legend(best, tests, facts), width)
    for note in facts.notes:
        lines += ["", *_wrapped(note, width)]
    if facts.more:
        lines += ["", *_wrapped(facts.more, width)]
    text = "\n".join(line.rstrip() for line in lines)
    return text.translate(_ASCII) if ascii_only else text


class _Test(NamedTuple):
    """One comparison; a is the network with the higher score."""

    a: str
    b: str
    p: float  # corrected
    significant: bool
    verdict: str | None
    detectable: float


def _tests(pairs: "pd.DataFrame | None", facts: Facts) -> dict[str, list[_Test]]:
    """Comparisons of every sector, with subjects - 1 degrees of freedom.

    If new images count, too, a difference must hold in both tests.
    """
    found: dict[str, list[_Test]] = {}
    if pairs is None:
        return found
    ends = ["_subjects"]
    if facts.population != "subjects":
        ends.append(f"_{facts.population}")
    for row in pairs.to_dict("records"):
        a, b = str(row["model_a"]), str(row["model_b"])
        if row["difference"] < 0:
            a, b = b, a
        test = _Test(
            a,
            b,
            max(float(row[f"p_corrected{end}"]) for end in ends),
            all(bool(row[f"significant{end}"]) for end in ends),
            row.get("verdict"),
            float(row["detectable"]),
        )
        if np.isfinite(test.p):
            found.setdefault(str(row["sector"]), []).append(test)
    return found


def verdict(rows: "pd.DataFrame", tests: Sequence[_Test], facts: Facts) -> str:
    """What can be said of one sector, as a sentence."""
    scored = rows[np.isfinite(rows["r"])]
    if scored.empty:
        return "no network has a score."
    top = scored.iloc[0]
    if facts.single:
        verb = "scores highest" if len(scored) > 1 else f"scores {_r(top['r'])}"
        return (
            f"{shown(top['model'])} {verb}; one subject, no test, and its best layer "
            "is chosen on these same data."
        )
    parts = [*_reliability(top), *_against_chance(scored, facts)]
    if _NOBODY not in parts or any(test.significant for test in tests):
        parts += _differences(tests, facts, str(top["model"]))
    if not parts:
        zero = "" if facts.method == "versa" else ", above 0"
        parts = [f"{shown(top['model'])} scores {_r(top['r'])}{zero}"]
    if facts.method == "versa" and np.isfinite(top["null_r"]):
        parts.append(f"learning nothing scores {_r(top['null_r'])} by this method")
    return f"{'; '.join(parts)}."


def _reliability(top: "pd.Series") -> list[str]:
    if top["ceiling_low"] > 0:
        return []
    return [
        "the subjects do not agree here (ceiling not above 0), no score can be read"
    ]


def _against_chance(scored: "pd.DataFrame", facts: Facts) -> list[str]:
    """Which networks permuted images tell from chance; without them, from 0."""
    names = [shown(name) for name in scored["model"]]
    p = _chance(scored)
    if not np.isfinite(p).any():
        lowest = scored[_interval_columns(facts)[0]].iloc[0]
        if lowest > 0 or facts.method == "versa":  # whose chance is not 0
            return []
        return ["the highest score cannot be told from 0"]
    above = [name for name, one in zip(names, p, strict=True) if one < facts.alpha]
    if not above:
        if len(names) > 1:
            return [_NOBODY]
        return [f"{names[0]} is not distinguishable from chance ({_p_equals(p[0])})"]
    if len(names) == 1:
        return [f"{names[0]} is above chance ({_p_equals(p[0])})"]
    if len(above) == len(names):
        return []
    verb = "is" if len(above) == 1 else "are"
    return [f"only {listing(above, limit=3)} {verb} distinguishable from chance"]


def _differences(tests: Sequence[_Test], facts: Facts, top: str) -> list[str]:
    """Whom the best network, or the baseline, beats; and where nobody can tell."""
    centre = facts.baseline or top
    near = [test for test in tests if centre in (test.a, test.b)]
    held = [test for test in near if test.significant]
    wins = [test for test in held if test.a == centre]
    losses = [test for test in held if test.b == centre]
    equal = [t for t in near if t.verdict == "on par" and not t.significant]
    open_ = [t for t in near if t.verdict != "on par" and not t.significant]
    name, parts = shown(centre), []
    if losses:
        verb = "beats" if len(losses) == 1 else "beat"
        losers = listing([t.a for t in losses], limit=3)
        parts.append(f"{losers} {verb} {name} ({_p_of(losses)})")
    if wins:
        everyone = len(wins) == len(near) > 2
        others = f"all {len(wins)} others" if everyone else _others(wins, centre)
        parts.append(f"{name} beats {others} ({_p_of(wins)})")
    small = [t for t in held if t.verdict == "on par"]
    if small:
        whom = "" if len(small) == len(held) else f": {_others(small, centre)}"
        parts[-1] += f", by less than {_r(facts.margin)}{whom}"
    if equal:
        margin = f"within ±{_r(facts.margin)}"
        parts.append(f"{name} and {_others(equal, centre)} are on par {margin}")
    if open_:
        parts.append(f"{_open(open_, near, centre)}; {_detects(open_)}")
    elsewhere = [t for t in tests if t.significant and t not in near]
    if elsewhere and not held:
        parts.append(f"{len(elsewhere)} differences between others hold, see beats")
    return parts


def _open(open_: Sequence[_Test], near: Sequence[_Test], centre: str) -> str:
    """Whom nobody can tell from the centre."""
    if len(open_) == len(near) > 3:
        return f"cannot tell {shown(centre)} from any other"
    return f"cannot tell {shown(centre)} from {_others(open_, centre)}"


def _others(tests: Sequence[_Test], centre: str) -> str:
    return listing([t.b if t.a == centre else t.a for t in tests], limit=3)


def _detects(tests: Sequence[_Test]) -> str:
    found = [t.detectable for t in tests if np.isfinite(t.detectable)]
    if not found:
        return "this study has no power"
    low, high = _r(min(found)), _r(max(found))
    return f"this study detects {low if low == high else f'{low} to {high}'}"


def _p_of(tests: Sequence[_Test]) -> str:
    worst = max(test.p for test in tests)
    text = _p_equals(worst)
    return text if len(tests) == 1 else text.replace("=", "≤")


class _Table:
    """The rows of all sectors, in columns of the same widths."""

    def __init__(
        self,
        best: "pd.DataFrame",
        tests: Mapping[str, Sequence[_Test]],
        keys: Mapping[str, str],
        facts: Facts,
        width: int,
    ) -> None:
        self.tests, self.keys, self.facts = tests, keys, facts
        self.permuted = bool(np.isfinite(_chance(best)).any())
        self.paired = any(tests.values())
        records = best.to_dict("records")
        cells = [self._cells(record) for record in records]
        heads = self._heads()
        self.widths = [
            max(map(len, column)) for column in zip(heads, *cells, strict=True)
        ]
        self.widths[1] = min(max(self.widths[1], len("noise ceiling")), _WIDEST_NAME)
        for place in (3, 2):
            both = [_ci(record, ("ceiling_low", "ceiling_high")) for record in records]
            self.widths[place] = max(
                self.widths[place], *map(len, both if place == 3 else ["1.00"])
            )
        self.widths[5] = min(self.widths[5], _WIDEST_LAYER)
        self.widths[7] = min(self.widths[7], _WIDEST_BEATS)
        self._fit(width)
        tops = best[["r", "ceiling"]].to_numpy(dtype=float)
        self.scale = max(0.05, *tops[np.isfinite(tops)]) if tops.size else 1.0

    def _fit(self, width: int) -> None:
        """Give the bar what is left; where that is little, names and layers wrap."""
        gaps = sum(size > 0 for size in self.widths)
        self.bar = width - sum(self.widths) - gaps
        for place in (5, 1):
            lacking = _NARROWEST_BAR - self.bar
            if lacking > 0:
                spared = min(lacking, max(self.widths[place] - _NARROWEST_TEXT, 0))
                self.widths[place] -= spared
                self.bar += spared
        self.bar = max(min(self.bar, _WIDEST_BAR), 0)

    def _heads(self) -> list[str]:
        return [
            "",
            "",
            "r",
            "95% CI",
            "share",
            "best layer",
            "p" if self.permuted else "",
            "beats (p)" if self.paired else "",
        ]

    def _cells(self, row: Row) -> list[str]:
        """Key, name, r, interval, share, layer, p, whom it beats."""
        name, sector = str(row["model"]), str(row["sector"])
        key = self.keys[name] if len(self.keys) > 1 else ""
        if not np.isfinite(row["r"]):
            return [key, shown(name), "-", "no score", "", "", "", ""]
        share = float(row["explained"])
        return [
            key,
            shown(name),
            _r(row["r"]),
            _ci(row, _interval_columns(self.facts)),
            f"{100 * share:.0f}%" if np.isfinite(share) else "-",
            shown(row["layer"]),
            _p(_chance_of(row)) if self.permuted else "",
            self._beats(name, self.tests.get(sector, ())),
        ]

    def _beats(self, name: str, tests: Sequence[_Test]) -> str:
        won = [test for test in tests if test.significant and test.a == name]
        if not won:
            return ""
        places = list(self.keys)
        numbers = sorted(places.index(test.b) for test in won)
        worst = _p(max(test.p for test in won))
        return f"{_ranges(numbers, list(self.keys.values()))} {worst}"

    def heading(self) -> str:
        """The line above all rows."""
        return self._joined(self._heads(), "")

    def lines(self, row: Row) -> list[str]:
        """The row of one network; long texts go on below."""
        cells = self._cells(row)
        wrapped = [
            _broken(cell, size) for cell, size in zip(cells, self.widths, strict=True)
        ]
        bar = self._bar(float(row["r"]), float(row["ceiling"]))
        found = []
        for k in range(max(map(len, wrapped))):
            part = [texts[k] if k < len(texts) else "" for texts in wrapped]
            found.append(self._joined(part, bar if k == 0 else ""))
        return found

    def ceiling(self, row: "pd.Series") -> list[str]:
        """How far the subjects agree with each other."""
        if not np.isfinite(row["ceiling"]):
            return []
        cells = ["", "noise ceiling", _r(row["ceiling"])]
        cells += [_ci(row, ("ceiling_low", "ceiling_high")), "", "", "", ""]
        return [self._joined(cells, self._bar(0.0, float(row["ceiling"])))]

    def _joined(self, cells: Sequence[str], bar: str) -> str:
        parts = []
        for place, (cell, size) in enumerate(zip(cells, self.widths, strict=True)):
            if place == 2:
                parts.append(bar.ljust(self.bar))
            if size:
                right = place in (2, 4, 6)
                parts.append(cell.rjust(size) if right else cell.ljust(size))
        return " ".join(parts)

    def _bar(self, r: float, ceiling: float) -> str:
        """r as a bar, then dots up to the ceiling."""
        halves = 0
        if np.isfinite(r):
            halves = round(2 * self.bar * min(max(r, 0.0) / self.scale, 1.0))
        bar = "█" * (halves // 2) + "▌" * (halves % 2)
        if np.isfinite(ceiling) and ceiling > 0:
            bar = bar.ljust(round(self.bar * ceiling / self.scale), "·")
        return bar


def _explained(facts: Facts) -> str:
    chosen = (
        "the highest score of one subject, not cross-validated"
        if facts.single
        else "chosen in one half of the subjects, scored in the other"
    )
    return (
        f"Best layer of each network by {facts.method}, {chosen}. Bars show r, dots "
        "reach to the noise ceiling."
    )


def _legend(
    best: "pd.DataFrame", tests: Mapping[str, Sequence[_Test]], facts: Facts
) -> str:
    """What the columns are, and for whom they hold."""
    parts = ["share: r²/ceiling², of the variance that can be explained."]
    if not facts.single and facts.population == "subjects":
        parts.append("CI: subjects − 1 degrees of freedom.")
    elif not facts.single:
        parts.append(f"CI: as marked ({facts.population}), by bootstrap.")
    if np.isfinite(_chance(best)).any():
        several = len(best["model"].unique()) > 1
        highest = ", against the highest of all networks" if several else ""
        parts.append(f"p: of permuted images{highest}.")
    if any(tests.values()):
        number = f"{facts.family} test{'s' * (facts.family != 1)}"
        held = " in both tests" if facts.population != "subjects" else ""
        parts.append(
            f"beats: p after {facts.correction} correction for {number}, "
            f"subjects − 1{held}."
        )
    return " ".join([*parts, facts.scope])


def _chance(rows: "pd.DataFrame") -> np.ndarray:
    return np.array([_chance_of(row) for row in rows.to_dict("records")], dtype=float)


def _chance_of(row: Row) -> float:
    """p of permuted images, against the highest of all networks if that is known."""
    for column in ("p_perm_max", "p_perm"):
        p = float(row.get(column, np.nan))
        if np.isfinite(p):
            return p
    return np.nan


def _interval_columns(facts: Facts) -> tuple[str, str]:
    return f"ci_low_{facts.population}", f"ci_high_{facts.population}"


def _ci(row: Row, columns: tuple[str, str]) -> str:
    low, high = (row[column] for column in columns)
    return f"[{_r(low)} {_r(high)}]" if np.isfinite([low, high]).all() else "-"


def _r(value: Any) -> str:
    """A correlation with two decimals and without its leading zero.

    >>> _r(0.531), _r(-0.031), _r(0.999), _r(0.0041)
    ('.53', '-.03', '1.00', '.004')
    """
    number = float(value)
    decimals = 3 if 0 < number < 0.005 else 2
    return f"{number:.{decimals}f}".replace("0.", ".", 1)


def _p(p: float) -> str:
    """A probability with three decimals.

    >>> _p(0.0312), _p(0.0001), _p(1)
    ('.031', '<.001', '1')
    """
    if not np.isfinite(p):
        return "-"
    if p < 0.001:
        return "<.001"
    return "1" if p > 0.9995 else f"{p:.3f}"[1:]


def _p_equals(p: float) -> str:
    text = _p(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def _keys(n: int) -> list[str]:
    """What networks are called in the column of those that are beaten."""
    letters = list(ascii_uppercase)
    return letters[:n] if n <= len(letters) else [str(k + 1) for k in range(n)]


def _ranges(numbers: Sequence[int], keys: Sequence[str]) -> str:
    """Keys in a row, those that follow each other as a range.

    >>> _ranges([0, 2, 3, 4], "ABCDE")
    'A C-E'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(
        keys[run[0]]
        if len(run) == 1
        else f"{keys[run[0]]}{' ' if len(run) == 2 else '-'}{keys[run[-1]]}"
        for run in runs
    )


def _broken(text: str, size: int) -> list[str]:
    """A text in lines of a size, broken after marks where there are any.

    >>> _broken("torchvision/resnet50", 13)
    ['torchvision/', 'resnet50']
    """
    lines = []
    while len(text) > size > 0:
        marks = [k for k in range(size // 2, size) if text[k] in "/_-.:@ "]
        end = marks[-1] + 1 if marks else size
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*lines, text]


def _wrapped(text: str, width: int, indent: str = "") -> Iterable[str]:
    for whole in (" = ", " < ", " ≤ ", "− 1", " to ."):  # not to be torn apart
        text = text.replace(whole, whole.replace(" ", "\N{NO-BREAK SPACE}"))
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines] or [""]


def _dim(line: str, styled: bool) -> str:
    return f"{_DIM}{line.rstrip()}{_PLAIN}" if styled and line.strip() else line
