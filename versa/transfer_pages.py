"""Web pages that a server sends where a file was asked for.

What such a page says is the reason that a user needs; and a page of Google Drive asks
for a confirmation, which is given once.
"""

from html.parser import HTMLParser
from urllib.parse import parse_qsl, urljoin, urlsplit

__all__ = ["WebPage", "looks_like_page", "page_in"]


def page_in(start: bytes) -> str:
    """What the first bytes of a file say of the web page that it is.

    Returns
    -------
    page : str
        Empty if it is no web page.

    Examples
    --------
    >>> page_in(b"<html><title>Sign in</title>")
    "a web page, titled 'Sign in'"
    >>> page_in(b"PK")
    ''
    """
    return WebPage(start).text("a web page") if looks_like_page(start) else ""


def looks_like_page(start: bytes, *, typed: bool = False) -> bool:
    """Whether the first bytes are those of a web page.

    Parameters
    ----------
    start : bytes
    typed : bool
        Whether the server calls it a page.

    Examples
    --------
    >>> looks_like_page(b" <!doctype html>"), looks_like_page(b"log in", typed=True)
    (True, True)
    """
    # no page holds a NUL; weights do, and the length with which safetensors begin may
    # look like " <"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (typed or text.startswith(b"<")) and b"\0" not in start[:512]


class WebPage(HTMLParser):
    """Title of a web page, and the download that it offers (Google Drive).

    Parameters
    ----------
    content : bytes
        The page, or its beginning.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.texts = {"title": "", "uc-error-subcaption": ""}
        self.action: str | None = None
        self.link: str | None = None
        self.inputs: dict[str, str] = {}
        self._inside = ""
        self._in_form = False
        self.feed(content.decode("utf-8", errors="replace"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See the base class."""
        values = {name: value or "" for name, value in attrs}
        kind = "title" if tag == "title" else values.get("class", "")
        if kind in self.texts and not self.texts[kind]:
            self._inside = kind
        if tag == "form" and values.get("id") == "download-form":
            self.action, self._in_form = values.get("action", ""), True
        elif tag == "input" and self._in_form and values.get("type") == "hidden":
            self.inputs[values.get("name", "")] = values.get("value", "")
        elif tag == "a" and "confirm=" in urlsplit(values.get("href", "")).query:
            self.link = self.link or values["href"]

    def handle_endtag(self, tag: str) -> None:
        """See the base class."""
        if tag in ("title", "p", "div"):
            self._inside = ""
        elif tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        """See the base class."""
        if self._inside:
            self.texts[self._inside] += data

    def text(self, page: str) -> str:
        """Append title and reason of the page to what it is called."""
        title, reason = (" ".join(text.split())[:200] for text in self.texts.values())
        page += f", titled {title!r}" if title else ""
        return page + (f", which says {reason.rstrip('.')!r}" if reason else "")

    def offer(self, url: str) -> tuple[str, dict[str, str]] | None:
        """Address and query of the download that the page at `url` offers, if any."""
        link = self.link if self.action is None else self.action
        if link is None:
            return None
        target = urlsplit(urljoin(url, link))
        if target.scheme != urlsplit(url).scheme:
            return None
        inputs = {} if self.action is None else self.inputs
        query = {**dict(parse_qsl(target.query)), **inputs}
        return target._replace(query="").geturl(), query
