"""Tests of versa.simulated.objects."""

import numpy as np
import pytest

from versa.simulated.objects import INANIMATE, ORIENTED, recipes, turned


def volume(grid):
    """Volume inside a grid whose ends are closed by their mean points."""
    ends = np.broadcast_to(grid[[0, -1]].mean(axis=1, keepdims=True), grid[:2].shape)
    grid = np.concatenate([ends[:1], grid, ends[1:]])
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    six = (np.cross(a, b) * c).sum() + (np.cross(a, c) * d).sum()
    return six / 6


def part(text):
    return next(recipes(f"thing: 1 0 0 0; {text}")).parts[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box 1 2 3", 6),
        ("box 1 2 3 *2,1,1", 12),
        ("ball 1 2 3", 4 / 3 * np.pi * 6),
        ("rod 1 2", 2 * np.pi),
        ("rod 1,.5 2", 2 * np.pi * (1 + 0.5 + 0.25) / 3),
        ("rod 1 2 4", 2 * 2),
        ("gear 6 1,1,1 2", 2 * np.pi),
        ("slab 2 -1,-1 1,-1 1,1 -1,1", 8),
        ("slab 2 -1,1 1,1 1,-1 -1,-1", 8),
        ("turn 0,0 1,0 1,2 0,2", 2 * np.pi),
        ("vase 0,-1 .5,-.866 .866,-.5 1,0 .866,.5 .5,.866 0,1", 4 / 3 * np.pi),
        ("arc 2 .5", 2 * np.pi**2 * 2 * 0.25),
        ("arc 2 .5 0 90", 2 * np.pi**2 * 2 * 0.25 / 4),
        ("tube .5 0,0,0 0,0,1 0,0,2 0,0,3", 3 * np.pi * 0.25),
        ("spring 2 .1 3 0", 3 * 2 * np.pi**2 * 2 * 0.01),
    ],
)
def test_shapes_have_their_volume(text, expected):
    assert volume(part(text).grid) == pytest.approx(expected, rel=0.06)


def test_grids_close_on_themselves():
    for table in (ORIENTED, INANIMATE):
        for recipe in recipes(table):
            for piece in recipe.parts:
                np.testing.assert_allclose(
                    piece.grid[:, 0], piece.grid[:, -1], atol=1e-9
                )


@pytest.mark.parametrize(
    ("angles", "before", "after"),
    [
        ((90, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, 90, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, 90), (1, 0, 0), (0, 1, 0)),
        ((90, 0, 90), (0, 0, 1), (1, 0, 0)),
    ],
)
def test_turned_is_right_handed_about_x_then_y_then_z(angles, before, after):
    np.testing.assert_allclose(turned(*angles) @ before, after, atol=1e-12)


def test_marks_place_a_part():
    piece = part("ball 1 1 1 ~4 |z @2,0,1 /0,0,90")
    places = {tuple(shift.round(9) + 0.0) for _, shift in piece.poses}
    corners = [(2, 0), (0, 2), (-2, 0), (0, -2)]
    assert places == {(*xy, z) for xy in corners for z in (-1, 1)}
    assert sum(np.linalg.det(matrix) > 0 for matrix, _ in piece.poses) == 4


def test_look_has_defaults_and_lasts():
    first, second, third = next(
        recipes("a: 1 0 0 0; ball 1 1 1; box 1 1 1 #red+blue.g.bands.2.5; rod 1 1")
    ).parts
    assert (first.look.finish, first.look.pattern, first.look.count) == (
        "s",
        "plain",
        1,
    )
    assert (second.look.finish, second.look.pattern) == ("g", "bands")
    assert third.look.count == 2.5
    np.testing.assert_array_equal(third.look.colors, second.look.colors)
    assert second.look.colors[0].argmax() == 0
    assert second.look.colors[1].argmax() == 2


def test_view_shows_right_and_up():
    side = next(recipes("a: 1 0 0 0; ball 1 1 1")).view
    np.testing.assert_allclose(side @ [1, 0, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(side @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(side @ [0, -1, 0], [0, 0, 1], atol=1e-12)
    above = next(recipes("a: 1 0 90 0; ball 1 1 1")).view
    np.testing.assert_allclose(above @ [0, 0, 1], [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bal 1 1 1", r"shape must be among .*; got 'bal'. Did you mean ball"),
        ("ball 1 1 1 #rede", r"color must be among .*; got 'rede'. Did you mean red"),
        ("ball 1 1 1 #red+bleu", r"color must be among .* Did you mean blue"),
        ("ball 1 1 1 #red.x", r"finish must be among m, s, g, c; got 'x'"),
        ("ball 1 1 1 #red.g.band", r"pattern must be among .* Did you mean bands"),
    ],
)
def test_unknown_words_of_the_table(text, message):
    with pytest.raises(ValueError, match=message):
        part(text)


def test_all_objects_have_their_own_name():
    names = [
        recipe.name for table in (ORIENTED, INANIMATE) for recipe in recipes(table)
    ]
    assert len(names) == len(set(names)) == 80
