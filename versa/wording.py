"""One wording for every refusal: what, rule, value, next step."""

import difflib
from collections.abc import Iterable

__all__ = ["listing", "unknown"]


def listing(items: Iterable[object], *, limit: int = 8) -> str:
    """Write names in a row, cut after `limit`.

    Examples
    --------
    >>> listing(["EarlyV", "pOTC", "aOTC"])
    'EarlyV, pOTC, aOTC'
    >>> listing(range(5), limit=2)
    '0, 1 and 3 more'
    """
    names = [str(item) for item in items]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def unknown(kind: str, value: object, options: Iterable[str]) -> str:
    """Sentence for a name that is not among `options`, with its close matches.

    Examples
    --------
    >>> unknown("sector", "earlyvis", ["EarlyV", "pOTC", "aOTC"])
    "sector must be among EarlyV, pOTC, aOTC; got 'earlyvis'. Did you mean EarlyV?"
    """
    names = list(options)
    text = f"{kind} must be among {listing(names)}; got {str(value)!r}."
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(value).lower(), lowered, n=3, cutoff=0.5)
    if close:
        text += f" Did you mean {' or '.join(lowered[match] for match in close)}?"
    return text
