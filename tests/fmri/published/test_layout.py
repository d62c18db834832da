"""Layouts: what one may say, and how contradictions are refused."""

from dataclasses import replace

import pytest

from tests.fmri.published.test_converting import ARRAYS, MATLAB, TABLES, VOLUMES


def test_names_of_sectors_are_always_lists():
    assert ARRAYS.sectors["EarlyV"] == ("EarlyV",)
    assert replace(ARRAYS, axes="conditions,voxels").axes == "conditions, voxels"
    assert VOLUMES.has_volumes
    assert not ARRAYS.has_volumes
    with pytest.raises(TypeError):
        ARRAYS.sectors["EarlyV"] = ("other",)


@pytest.mark.parametrize(
    ("layout", "change", "text"),
    [
        (ARRAYS, {"name": ""}, "dataset.name must not be empty"),
        (ARRAYS, {"name": 3}, "dataset.name must be a text; got 3"),
        (ARRAYS, {"n_conditions": True}, "conditions.number must be a whole number"),
        (ARRAYS, {"n_conditions": 1}, "conditions.number must be at least 2; got 1"),
        (ARRAYS, {"confirmed": "yes"}, "confirmed must be true or false; got 'yes'"),
        (ARRAYS, {"subjects": "S1"}, "subjects.labels must be a list of names"),
        (ARRAYS, {"subjects": []}, "subjects.labels must not be empty"),
        (ARRAYS, {"subjects": ["1", "1"]}, "labels must be unique; repeated: '1'"),
        (
            ARRAYS,
            {"subjects": [1, 2]},
            "subjects.labels must be one or more .* texts; got 1, 2",
        ),
        (ARRAYS, {"sectors": ["V1"]}, r"sectors must map names; got \['V1'\]"),
        (
            ARRAYS,
            {"sectors": {"EarlyV": "V1", "pOTC": ["IT", "V1"]}},
            "different names in the archive; EarlyV and pOTC are both 'V1'",
        ),
        (ARRAYS, {"space": "Talairach"}, "space must be TAL"),
        (ARRAYS, {"voxels": {"V4": {}}}, r"sector of \[voxels\] must be among EarlyV"),
        (
            ARRAYS,
            {"voxels": {"EarlyV": {"S9": 3}}},
            r"subject of \[voxels.EarlyV\] must be among S1, S2, S3; got 'S9'",
        ),
        (
            ARRAYS,
            {"voxels": {"EarlyV": {"S1": "3"}}},
            "voxels.EarlyV of subject S1 must be a number of voxels; got '3'",
        ),
        (ARRAYS, {"responses_file": "../{subject}.npy"}, "a path inside the archive"),
        (ARRAYS, {"responses_file": "/{subject}.npy"}, "a path inside the archive"),
        (ARRAYS, {"responses_file": "C:/{subject}.npy"}, "a path inside the archive"),
        (ARRAYS, {"images_file": "a\\{condition}.png"}, "with / between folders"),
        (
            ARRAYS,
            {"responses_file": "{subject}_{sector}.xls"},
            "suffix of responses.file must be among .* got '.xls'",
        ),
        (
            ARRAYS,
            {"responses_file": "{subjects}_{sector}.npy"},
            "placeholder of responses.file must be .* got 'subjects'. Did you mean sub",
        ),
        (
            ARRAYS,
            {"responses_file": "{subject}.npy"},
            r"must hold \{sector\}, as there are 3 of them; else all would",
        ),
        (
            ARRAYS,
            {"responses_file": "{sector}.npy"},
            r"must hold \{subject\}, \{index\} or \{number\}, as there are 3 subjects",
        ),
        (
            ARRAYS,
            {"axes": "voxels"},
            "must be \"conditions, voxels\" or .* got 'voxels'",
        ),
        (ARRAYS, {"axes": "maps"}, 'responses.axes must be "maps" for volumes'),
        (
            ARRAYS,
            {"axes": "voxels, conditions, subjects"},
            "must be without subjects if file or key hold a placeholder",
        ),
        (ARRAYS, {"responses_key": "x"}, "key must name a part of a .mat, .npz or .h5"),
        (ARRAYS, {"header": True}, "header must say true or false for a table"),
        (ARRAYS, {"masks_file": "m.voi"}, "masks.file must come with volumes"),
        (ARRAYS, {"convention": "left"}, "responses.convention must be among radiol"),
        (TABLES, {"header": None}, "header must say true or false for a table"),
        (TABLES, {"header": False}, "label_column must come with a table that has a h"),
        (
            TABLES,
            {"header": False, "label_column": "column"},
            "or be a place such as 'column 1' in one without; got 'column'",
        ),
        (
            ARRAYS,
            {"counting_allowed": True},
            "responses.counting_allowed must come with a table",
        ),
        (MATLAB, {"responses_key": ""}, "responses.key must name a part of a .mat"),
        (
            MATLAB,
            {"responses_key": "B.{sector}[{number}]"},
            r"must count from 0 in brackets; .* Write \[\{index\}\]",
        ),
        (
            VOLUMES,
            {"masks_file": ""},
            "masks.file must give the sectors of the volumes",
        ),
        (VOLUMES, {"masks_file": "a.msk"}, r"masks.file must hold \{sector\}"),
        (VOLUMES, {"space": "none"}, "dataset.space must be stated for volumes"),
        (
            VOLUMES,
            {"responses_file": "{subject}_{sector}.vmp"},
            r"must hold no \{sector\}, as masks.file gives",
        ),
        (
            VOLUMES,
            {"responses_file": "{subject}.nii"},
            r"from_maps must come with .vmp files",
        ),
        (ARRAYS, {"conditions_file": ""}, "exactly one of names, file and .* got none"),
        (
            ARRAYS,
            {"condition_names": ["a", "b"]},
            "exactly one of names, file and from_maps; got names, file",
        ),
        (
            ARRAYS,
            {"condition_names": ["a", "b"], "conditions_file": ""},
            "as many names as conditions.number says, 6; got 2",
        ),
        (ARRAYS, {"conditions_file": "a.doc"}, "conditions.file must be .txt, .csv"),
        (ARRAYS, {"conditions_file": "a.csv"}, "column must name a column of a table"),
        (ARRAYS, {"subjects_key": "x"}, "subjects.file must come with subjects.key"),
        (
            ARRAYS,
            {"subjects_file": "{subject}.txt"},
            "subjects.file and subjects.key must hold no placeholder",
        ),
        (ARRAYS, {"images_file": ""}, "exactly one of file and table; got neither"),
        (ARRAYS, {"images_table": "a.csv"}, "exactly one of file and table; got both"),
        (
            ARRAYS,
            {"images_file": "a.png"},
            r"images.file must hold \{condition\} and no",
        ),
        (
            ARRAYS,
            {"images_file": "", "images_table": "a.csv"},
            "must be .csv or .tsv and come with condition_column and file_column",
        ),
        (ARRAYS, {"images_folder": "x"}, "must come with images.table"),
    ],
)
def test_contradictions_are_refused(layout, change, text):
    with pytest.raises(ValueError, match=text):
        replace(layout, **change)
