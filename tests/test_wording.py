"""Sentences of refusals: names that are listed, unknown, or not unique."""

import re

import pytest

from versa.wording import chosen_names, listing, reading, unique_names, unknown


def test_long_lists_are_cut():
    assert listing(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert listing(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_close_names_are_offered():
    assert unknown("sector", "earlyv", ["EarlyV"]).endswith("Did you mean EarlyV?")
    assert unknown("sector", 3, ["EarlyV"]).endswith("got '3'.")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("01", "subjects must be a list of names; got '01'."),
        (3, "subjects must be a list of names; got 3."),
        ([], "subjects must be one or more non-empty texts; got none."),
        (["a", "", 1], "subjects must be one or more non-empty texts; got '', 1."),
        (["b", "a", "b"], "subjects must be unique; repeated: 'b'. Leave one out."),
    ],
)
def test_names_are_unique_texts(names, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        unique_names(names, "subjects", hint="Leave one out.")


def test_names_are_chosen_in_the_order_given():
    assert unique_names(iter("ba"), "subjects") == ("b", "a")
    assert chosen_names(["b", "a"], "subject", "abc") == ("b", "a")
    with pytest.raises(ValueError, match="subject must be among a, b, c; got 'd'"):
        chosen_names("d", "subject", "abc")
    with pytest.raises(ValueError, match=r"subjects must be one or more .*; got none"):
        chosen_names([], "subject", "abc")


class ForeignError(Exception):
    """An error that another library defines for itself."""


@pytest.mark.parametrize(
    "error", [ForeignError("odd\nbytes."), KeyError("key"), MemoryError()]
)
def test_any_error_of_a_reader_is_a_sentence_with_the_file(tmp_path, error):
    path = tmp_path / "a.dat"
    path.write_bytes(b"x")
    start = f"^{re.escape(str(path))} must be a table; reading it fails with: "
    text = f"{start}[^\n]+[^.]\\.$"
    with pytest.raises(ValueError, match=text), reading(path, "a table"):
        raise error


def test_sentences_of_ours_and_missing_packages_stay_as_they_are(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(b"x")
    for ours in (ValueError(f"{path} must be short."), ImportError("install it")):
        with pytest.raises(type(ours)) as caught, reading(path, "a table"):
            raise ours
        assert caught.value is ours
    text = "must be a table; it is a folder"
    with pytest.raises(ValueError, match=text), reading(tmp_path, "a table"):
        pass
