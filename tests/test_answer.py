"""The answer card: what it says, how wide it is, and that no claim is too strong."""

import html
from dataclasses import replace

import numpy as np
import pytest

import versa
from tests.synthetic import synthetic_fit
from versa.answer import Facts, _keys, _ranges, answer_card

LONG = "alexnet_gn_untrained@/data/of/a/long/path/checkpoint_0000{}.safetensors"


def comparison(n=3, shift=0.3, names=None, options=None, **changes):
    names = names or [f"net{i}" for i in range(n)]
    fits = [
        synthetic_fit(name, seed=i, shift=shift * i, **changes)
        for i, name in enumerate(names)
    ]
    return versa.compare(fits, **(options or {}))


def widest(text):
    return max(map(len, text.splitlines()))


def sentence(text, sector):
    """What is said of a sector, in one line."""
    lines = text.split(f"{sector}: ")[1].splitlines()
    last = next(k for k, line in enumerate(lines) if line.endswith("."))
    return " ".join(line.strip() for line in lines[: last + 1])


@pytest.mark.parametrize(
    ("n", "permutations", "options"),
    [
        (1, 0, {}),
        (2, 19, {"equivalence": 0.05}),
        (7, 19, {}),
        (20, 9, {"baseline": "net3"}),
        (8, 0, {"equivalence": 0.05}),
    ],
)
def test_no_line_is_wider(n, permutations, options):
    changes = {"permutations": permutations, "methods": ("versa-debiased",)}
    made = comparison(n, 0.05, None, options, **changes)
    names = {f"net{k}": LONG.format(k) for k in range(n)}
    facts = Facts(LONG, "versa-debiased", made.scope, margin=0.05, family=n)
    best, table = made.best(), made.table
    longer = best.replace(names), table.replace(names)
    for width in (80, 120):
        for ascii_only in (False, True):
            given = {"width": width, "ascii_only": ascii_only}
            for text in (
                made.answer(**given),
                answer_card(*longer, facts, **given),
            ):
                assert widest(text) <= width
                assert text.isascii() == ascii_only
    shown = answer_card(*longer, facts, width=80).replace("\n", "").replace(" ", "")
    for name in names.values():  # nothing is cut
        assert name.split("/")[-1].replace("_", "") in shown.replace("_", "")
    assert widest(repr(made)) <= 80


def test_letters_and_numbers_of_networks():
    assert _keys(3) == ["A", "B", "C"]
    assert _keys(28)[-1] == "28"
    assert _ranges([0, 1, 3, 4, 5], _keys(28)) == "1 2 4-6"


def test_many_sectors_and_other_ends():
    sectors = ("EarlyV", "pOTC", "aOTC", "FFA", "Control")
    changes = {"sectors": sectors, "methods": ("rsa",)}
    text = repr(comparison(3, **changes))
    assert all(f"{sector}: net" in text for sector in sectors)
    assert "by rsa" in text
    assert widest(text) <= 80


def test_says_who_wins():
    made = comparison(2)
    rows = made.pairs().query("method == 'versa-debiased' and sector == 'aOTC'")
    (p,) = rows["p_corrected_subjects"]
    assert 0.001 < p < 0.05
    said = sentence(repr(made), "aOTC")
    assert said == f"net1 beats net0 (p = {f'{p:.3f}'[1:]})."
    row = next(line for line in repr(made).splitlines() if line.startswith("B net1"))
    best = made.best().query("method == 'versa-debiased' and sector == 'EarlyV'")
    low, high = best[["ci_low_subjects", "ci_high_subjects"]].iloc[1]
    assert f"[{low:.2f} {high:.2f}]".replace("0.", ".") in row
    assert f"{100 * best['explained'].iloc[1]:.0f}%" in row
    assert row.split()[-2] == "A"


def test_says_that_it_cannot_tell():
    made = comparison(2, shift=0.01)
    rows = made.pairs().query("method == 'versa-debiased' and sector == 'aOTC'")
    detects = f"{rows['detectable'].iloc[0]:.2f}".replace("0.", ".")
    said = sentence(repr(made), "aOTC")
    assert said == f"cannot tell net1 from net0; this study detects {detects}."


def test_says_that_they_are_on_par():
    fits = [synthetic_fit("a"), synthetic_fit("b")]
    said = sentence(repr(versa.compare(fits, equivalence=0.05)), "aOTC")
    assert said == "a and b are on par within ±.05."


def test_a_small_difference_is_called_small():
    made = comparison(2, options={"equivalence": 0.6})
    said = sentence(repr(made), "aOTC")
    assert said.startswith("net1 beats net0 (p = ")
    assert said.endswith("), by less than .60.")


def test_speaks_of_the_baseline():
    made = comparison(3, options={"baseline": "net1"})
    said = sentence(repr(made), "aOTC")
    assert said.startswith("net2 beats net1 (p = ")
    assert "net1 beats net0 (p = " in said


def test_says_what_is_chance():
    fits = [synthetic_fit(name, permutations=99) for name in "ab"]
    for result in fits:
        result.data["permuted_best"].loc[{"sector": "aOTC"}] += 2
    text = repr(versa.compare(fits))
    assert sentence(text, "aOTC") == "no network is distinguishable from chance."
    assert "chance" not in sentence(text, "EarlyV")
    alone = repr(fits[0])
    assert sentence(alone, "aOTC").startswith("a is not distinguishable from chance (p")
    assert sentence(alone, "EarlyV") == "a is above chance (p = .010)."


def test_a_score_that_may_be_0():
    result = synthetic_fit()
    noise = np.random.default_rng(0).normal(0, 0.2, result.scores.shape)
    data = result.data.assign(scores=(result.scores.dims, noise))
    said = sentence(repr(replace(result, data=data)), "aOTC")
    assert said == "the highest score cannot be told from 0."


def test_no_score_and_no_ceiling():
    result = synthetic_fit("a")
    data = result.data.copy(deep=True)
    data["scores"].loc[{"sector": "aOTC"}] = np.nan
    data["ceiling"].loc[{"sector": "EarlyV"}] = 0.0
    lost = replace(result, data=data)
    for text in (repr(lost), repr(versa.compare([lost]))):
        assert sentence(text, "aOTC") == "no network has a score."
        assert "ceiling not above 0" in sentence(text, "EarlyV")
    both = versa.compare(lost, synthetic_fit("b"))
    assert "no score" in repr(both)
    assert widest(repr(both)) <= 80


def test_one_subject():
    result = synthetic_fit(n_subjects=2)
    best = result.best().assign(ci_low_subjects=np.nan, ci_high_subjects=np.nan)
    facts = Facts("one: 1 subject", "rsa", "There are no intervals.", single=True)
    text = answer_card(best, None, facts)
    assert "one subject, no test" in sentence(text, "aOTC")
    assert "subjects − 1" not in text


def test_the_biased_method_says_what_learning_nothing_scores():
    said = sentence(repr(comparison(2, methods=("versa",))), "aOTC")
    assert "learning nothing scores .38 by this method" in said
    assert "above 0" not in sentence(repr(synthetic_fit(methods=("versa",))), "aOTC")


def test_a_difference_must_hold_for_new_images_too():
    made = comparison(2)
    table = made.table.copy()
    table["p_corrected_both"], table["significant_both"] = 0.2, False
    best = made.best().assign(ci_low_both=0.1, ci_high_both=0.9)
    facts = Facts("sample", "rsa", "New images.", population="both", family=2)
    text = answer_card(best, table, facts)
    assert "cannot tell net1 from net0" in sentence(text, "aOTC")
    assert "[.10 .90]" in text


def test_warnings_follow():
    results = [synthetic_fit("a"), synthetic_fit("b")]
    for result in results:
        result.provenance["warnings"].append("fc6: something odd.")
    assert "a, b: fc6: something odd." in repr(versa.compare(results))
    assert "fc6: something odd." in repr(results[0])
    few = versa.compare(results, family=1, test_train_ratio=0)
    assert "The family of 1 is smaller" in repr(few)
    assert "takes the splits for independent" in repr(few).replace("\n", " ")


def test_letters_of_terminals():
    made = comparison(2)
    text = made.answer(styled=True)
    assert "\x1b[1mEarlyV:\x1b[0m" in text
    for mark in ("\x1b[0m", "\x1b[1m", "\x1b[2m"):
        text = text.replace(mark, "")
    assert text == made.answer()


def test_notebook():
    for one in (comparison(2), synthetic_fit("<b>")):
        assert one._repr_html_() == f"<pre>{html.escape(repr(one))}</pre>"
