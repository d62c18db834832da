"""One wording for every refusal: what, rule, value, next step."""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from versa.checksums import check_whole_stream

_MANY = 100  # names


def listing(items: Iterable[object], *, limit: int = 8) -> str:
    """Write names in a row, cut after `limit`.

    Examples
    --------
    >>> listing(["EarlyV", "pOTC", "aOTC"])
    'EarlyV, pOTC, aOTC'
    >>> listing(range(5), limit=2)
    '0, 1 and 3 more'
    """
    names = [shown(item) for item in items]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def shown(item: object, *, limit: int = 200) -> str:
    """Text of a value of a file as a person can read it: printable, and not endless.

    >>> shown("a\\tb" + "c" * 300, limit=5)
    'a\\\\tbcc...'
    """
    text = str(item)
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
    return cut + ("..." if len(text) > limit else "")


def unknown(kind: str, value: object, options: Iterable[str]) -> str:
    """Sentence for a name that is not among `options`, with its close matches.

    Examples
    --------
    >>> unknown("sector", "earlyvis", ["EarlyV", "pOTC", "aOTC"])
    "sector must be among EarlyV, pOTC, aOTC; got 'earlyvis'. Did you mean EarlyV?"
    """
    names = list(options)
    text = f"{kind} must be among {listing(names)}; got {shown(value)!r}."
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(shown(value).lower(), lowered, n=3, cutoff=0.5)
    if len(names) > _MANY:  # a list of these helps nobody
        text = f"{kind} must be a known name; got {shown(value)!r}."
    if close:
        text += f" Did you mean {' or '.join(lowered[match] for match in close)}?"
    return text


def population_words(n_subjects: int, n_images: int, generalize: str) -> str:
    """Whom intervals and tests of one kind are for.

    Examples
    --------
    >>> population_words(10, 72, "images")
    'new images and these 10 subjects'
    """
    people = f"these {n_subjects} subjects" if n_subjects > 1 else "this one subject"
    return {
        "subjects": f"new subjects and these {n_images} images",
        "images": f"new images and {people}",
        "both": "new subjects and new images",
    }[generalize]


def scope_sentence(n_subjects: int, n_images: int, generalize: str = "subjects") -> str:
    """Sentence on the population that intervals and tests are for.

    Examples
    --------
    >>> scope_sentence(10, 72)
    'Intervals and tests are for new subjects and these 72 images.'
    """
    if n_subjects == 1 and generalize == "subjects":
        return "There are no intervals or tests over one subject."
    words = population_words(n_subjects, n_images, generalize)
    if generalize == "subjects" or n_subjects == 1:
        return f"Intervals and tests are for {words}."
    usual = population_words(n_subjects, n_images, "subjects")
    return (
        f"Intervals and tests are for {words} where marked ({generalize}), else for "
        f"{usual}."
    )


def unique_names(names: object, what: str, *, hint: str = "") -> tuple[str, ...]:
    """Names as a tuple; refused unless each is a text, not empty, and given once.

    Examples
    --------
    >>> unique_names(["01", "02", "01"], "subjects", hint="Leave one out.")
    Traceback (most recent call last):
    ...
    ValueError: subjects must be unique; repeated: '01'. Leave one out.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"{what} must be a list of names; got {names!r}.")
    found = tuple(names)
    odd = [name for name in found if not isinstance(name, str) or not name]
    if odd or not found:
        got = listing(map(repr, odd)) or "none"
        raise ValueError(f"{what} must be one or more non-empty texts; got {got}.")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        text = f"{what} must be unique; repeated: {listing(map(repr, twice))}."
        raise ValueError(f"{text} {hint}".rstrip())
    return found


def chosen_names(
    wanted: str | Iterable[str], kind: str, options: Collection[str]
) -> tuple[str, ...]:
    """Wanted names, at least one, each known and given once.

    Examples
    --------
    >>> chosen_names("aOTC", "sector", ["EarlyV", "pOTC", "aOTC"])
    ('aOTC',)
    """
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in options:
            raise ValueError(unknown(kind, name, options))
    return unique_names(names, f"{kind}s")


def by_number(name: str) -> list[tuple[int, str]]:
    """Key of a name that puts img2 before img10.

    Examples
    --------
    >>> sorted(["img10", "img2", "img1b", "img1"], key=by_number)
    ['img1', 'img1b', 'img2', 'img10']
    """
    parts = re.split("([0-9]+)", name)
    return [
        (int(part or 0), "") if row % 2 else (0, part) for row, part in enumerate(parts)
    ]


def in_text_order(names: Iterable[object]) -> bool:
    """Whether names are sorted as texts, where their numbers have another order.

    Examples
    --------
    >>> in_text_order(["run1", "run10", "run2"]), in_text_order(["run2", "run1"])
    (True, False)
    """
    texts = [str(name) for name in names]
    return texts == sorted(texts) != sorted(texts, key=by_number)


def one_line(error: BaseException) -> str:
    """Text of an error of another library as part of a sentence, without full stop."""
    text = shown(" ".join(str(error).split()), limit=600)
    return text.rstrip(".") or type(error).__name__


@contextmanager
def reading(path: Path, rule: str) -> Iterator[None]:
    """Refuse a file that is missing, or on which its reader raises anything at all.

    What a third-party reader raises on a damaged file is not documented, so that no
    list of errors is given. A ValueError that begins with the path is already ours.
    A gzip or bzip2 file must agree with its check sum to the end.

    Examples
    --------
    >>> with reading(Path("a.json"), "a JSON file"):
    ...     pass
    Traceback (most recent call last):
    ...
    ValueError: a.json must exist; it is missing.
    """
    if path.is_dir():
        raise ValueError(f"{path} must be {rule}; it is a folder.")
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        check_whole_stream(path)
        yield
    except ImportError:  # a package that is not installed says nothing of the file
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(
            f"{path} must be {rule}; reading it fails with: {one_line(error)}."
        ) from error
