"""Stimulus sets: files, hashes, and the refusal of any other set or order."""

import hashlib
import pickle

import pytest
from PIL import Image

from versa.fmri.dataset.stimuli import StimulusSet


@pytest.fixture
def folder(tmp_path):
    for name in ("cup.png", "dog.JPG", "ant.jpeg", "._cup.png", "notes.txt"):
        (tmp_path / name).write_bytes(f"bytes of {name}".encode())
    (tmp_path / "more.png").mkdir()
    return tmp_path


@pytest.fixture
def stimuli(folder):
    return StimulusSet.from_folder(folder)


def test_a_folder_gives_its_images_in_name_order(stimuli, folder):
    assert stimuli.names == ("ant", "cup", "dog")
    assert stimuli.paths == tuple(
        folder / f for f in ("ant.jpeg", "cup.png", "dog.JPG")
    )
    assert stimuli.hashes[1] == hashlib.sha256(b"bytes of cup.png").hexdigest()
    assert len(stimuli) == 3
    assert repr(stimuli) == "<StimulusSet: 3 images, ant, cup, dog>"


def test_a_pattern_chooses_files(folder):
    assert StimulusSet.from_folder(folder, "c*").names == ("cup",)


def test_real_photographs(shared):
    stimuli = StimulusSet.from_folder(shared / "data" / "images92" / "stimuli")
    assert len(stimuli) == 92
    assert list(stimuli.names) == sorted(stimuli.names)


def test_the_digest_depends_on_names_content_and_order_only(stimuli, folder, tmp_path):
    paths = list(stimuli.paths)
    assert StimulusSet.from_paths(paths).digest == stimuli.digest
    assert StimulusSet.from_paths(paths[::-1]).digest != stimuli.digest
    assert StimulusSet.from_paths(paths, ["a", "b", "c"]).digest != stimuli.digest
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in paths:
        (copy / path.name).write_bytes(path.read_bytes())
    moved = StimulusSet.from_folder(copy)
    assert moved.digest == stimuli.digest
    assert moved == stimuli
    (copy / "cup.png").write_bytes(b"another cup")
    assert StimulusSet.from_folder(copy).digest != stimuli.digest


def test_a_set_can_be_pickled(stimuli):
    assert pickle.loads(pickle.dumps(stimuli)) == stimuli


def test_missing_files_are_named(folder):
    with pytest.raises(ValueError, match=r"2 of 3 are missing: owl \(.*owl.png\), b "):
        StimulusSet.from_paths(
            [folder / "cup.png", folder / "owl.png", folder / "bat.png"],
            ["cup", "owl", "b"],
        )


def test_equal_stems_ask_for_names(folder):
    paths = [folder / "cup.png", folder / "more.png" / "cup.png"]
    with pytest.raises(ValueError, match=r"unique; repeated: 'cup'. Pass names="):
        StimulusSet.from_paths(paths)


def test_bad_folders_are_refused(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"folder of images must exist; got '.*nowhere'"
    ):
        StimulusSet.from_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"'.*' has none that match '\*.txt'"):
        StimulusSet.from_folder(folder, "*.txt")


@pytest.mark.parametrize(
    ("names", "paths", "hashes", "text"),
    [
        ("ab", ["a", "b"], ["0" * 64] * 2, "names must hold one entry per image"),
        (["a"], ["a", "b"], ["0" * 64] * 2, "one length; got 1, 2 and 2"),
        ([], [], [], "one or more non-empty texts; got none"),
        (["a\tb"], ["a"], ["0" * 64], r"without tabs or line breaks; got 'a\\tb'"),
        ([3], ["a"], ["0" * 64], "must be one or more non-empty texts; got 3"),
        (["a", "a"], ["a", "b"], ["0" * 64] * 2, "unique; repeated: 'a'"),
        (["a", "b"], ["a", "b"], ["0" * 64, "F" * 64], "those of b are not"),
    ],
)
def test_bad_sets_are_refused(names, paths, hashes, text):
    with pytest.raises(ValueError, match=text):
        StimulusSet(names, paths, hashes)


def test_names_and_paths_must_pair_up(folder):
    with pytest.raises(ValueError, match="got 2 names for 1 paths"):
        StimulusSet.from_paths([folder / "cup.png"], ["a", "b"])


def test_the_same_images_pass(stimuli):
    stimuli.check_same(["ant", "cup", "dog"])
    stimuli.check_same(stimuli.names, stimuli.hashes, "betas")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            ["ant", "cup", "owl"],
            "betas: .* missing 'dog' and unknown 'owl' .3 given, 3",
        ),
        (["ant", "cup"], r"missing 'dog' \(2 given, 3 expected\)"),
        (["ant", "cup", "dog", "owl"], "unknown 'owl'"),
        (["ant", "cup", "dog", "cup"], "betas: names of images must be unique"),
        (["ant", "dog", "cup"], "image 2 must be 'cup', got 'dog' .2 of 3 differ"),
        (["cup", "dog", "ant"], "Nothing is re-sorted"),
    ],
)
def test_other_images_are_named(stimuli, names, text):
    with pytest.raises(ValueError, match=text):
        stimuli.check_same(names, what="betas")


def test_other_content_is_named(stimuli):
    hashes = [stimuli.hashes[0], "0" * 64, "1" * 64]
    with pytest.raises(ValueError, match=r"Grams: .* SHA-256 of 'cup', 'dog' differs"):
        stimuli.check_same(stimuli.names, hashes, "Grams")
    with pytest.raises(ValueError, match="hashes must be one per image; got 2 for 3"):
        stimuli.check_same(stimuli.names, hashes[:2])


def photographs(folder, orientation=6):
    """An upright one, one turned by EXIF, and an animation of two frames."""
    folder.mkdir()
    plain = Image.new("RGB", (8, 4), (9, 90, 200))
    plain.save(folder / "a_upright.jpg", exif=exif_of(1))
    plain.save(folder / "b_turned.jpg", exif=exif_of(orientation))
    frames = [plain, Image.new("RGB", (8, 4))]
    frames[0].save(folder / "c_moving.gif", save_all=True, append_images=frames[1:])
    return folder


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_images_that_viewers_show_otherwise(tmp_path, caplog, orientation):
    StimulusSet.from_folder(photographs(tmp_path / "images", orientation))
    turned, moving = [record.getMessage() for record in caplog.records]
    assert turned.startswith("images b_turned.jpg have an EXIF orientation")
    assert moving.startswith("images c_moving.gif are animated or have several pages")


def test_numbers_in_names(tmp_path, caplog):
    for name in ("img1.png", "img2.png", "img10.png"):
        (tmp_path / name).write_bytes(name.encode())
    assert StimulusSet.from_folder(tmp_path).names == ("img1", "img10", "img2")
    assert "order of their names as texts, img1, img10, img2, and not" in caplog.text
    caplog.clear()
    (tmp_path / "img10.png").rename(tmp_path / "img3.png")
    StimulusSet.from_folder(tmp_path)
    assert not caplog.records
