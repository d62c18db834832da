"""Training images: trees of them, and several sources as one."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from versa.models.ipcl.decoding import ImageProblem
from versa.models.ipcl.sources import ImageTree, JoinedImages, open_images


def picture(seed=0, height=60, width=80):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_tree(root, n=12, n_classes=3):
    for k in range(n):
        file = root / f"class{k % n_classes}" / f"{k:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(picture(k, 40 + k % 20, 60 - k % 20)))
    return ImageTree(root)


# Trees


def test_a_tree_has_sorted_files_and_classes(tmp_path):
    for name in ("b/2.JPG", "b/deep/1.png", "a/x.jpeg", "a/.hidden.jpg", "a/t.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "empty").mkdir()
    tree = ImageTree(tmp_path)
    assert tree.files == ("a/x.jpeg", "b/2.JPG", "b/deep/1.png")
    assert tree.classes == ("a", "b")
    assert tree.labels.tolist() == [0, 1, 1]
    assert tree.counts == (3,)
    assert tree.read(2) == b"b/deep/1.png"
    assert tree.name(0) == str(tmp_path / "a" / "x.jpeg")


def test_images_without_folders_are_one_class(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    tree = ImageTree(tmp_path)
    assert tree.classes == (tmp_path.name,)


def test_a_digest_notices_changes_but_not_places(tmp_path):
    tree = write_tree(tmp_path / "here")
    assert write_tree(tmp_path / "there").digest == tree.digest
    (tmp_path / "there" / "class0" / "00.jpg").write_bytes(b"other")
    assert ImageTree(tmp_path / "there").digest != tree.digest
    (tmp_path / "here" / "class0" / "00.jpg").rename(tmp_path / "here/class0/z.jpg")
    assert ImageTree(tmp_path / "here").digest != tree.digest


def test_trees_refuse_what_is_none(tmp_path):
    with pytest.raises(ValueError, match="must be in a folder"):
        ImageTree(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"must hold images \(.jpg, .*it holds none"):
        ImageTree(tmp_path)
    write_tree(tmp_path)
    (tmp_path / "stray.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"stray.jpg beside 3 folders.* Move them"):
        ImageTree(tmp_path)


def test_an_image_that_disappeared_is_a_problem(tmp_path):
    tree = write_tree(tmp_path)
    (tmp_path / tree.files[0]).unlink()
    with pytest.raises(ImageProblem, match=r"cannot be read \(No such file"):
        tree.read(0)


def test_joined_images_follow_each_other(tmp_path):
    faces = write_tree(tmp_path / "faces" / "train", 5, 2)
    places = write_tree(tmp_path / "places" / "train", 7, 3)
    joined = open_images([faces.root, places.root])
    assert isinstance(joined, JoinedImages)
    assert len(joined) == 12
    assert joined.counts == (5, 7)
    assert joined.classes[:3] == ("faces/train/class0", "faces/train/class1",
                                  "places/train/class0")  # fmt: skip
    assert joined.labels.tolist() == [*faces.labels, *(places.labels + 2)]
    assert joined.name(4) == faces.name(4)
    assert joined.read(5) == places.read(0)
    assert joined.digest != open_images([places.root, faces.root]).digest
    assert isinstance(open_images([faces.root]), ImageTree)


def test_paths_of_images_are_checked(tmp_path):
    with pytest.raises(ValueError, match="must be a list; got 'here'"):
        open_images("here")
    with pytest.raises(ValueError, match=r"paths of images must be one .*; got none"):
        open_images([])
    with pytest.raises(ValueError, match="paths of images must be unique; repeated"):
        open_images([tmp_path, tmp_path])
    with pytest.raises(ValueError, match="title of its own"):
        JoinedImages([], [])
