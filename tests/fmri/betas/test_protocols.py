"""Protocols and designs of BrainVoyager: real files, and hand-made ones."""

import gzip

import numpy as np
import pandas as pd
import pytest

from versa.fmri.betas.protocols import read_protocol, read_sdm

pytest.importorskip("bvbabel")

PRT = """
FileVersion:        3
ResolutionOfTime:   {unit}
Experiment:         test
ParametricWeights:  {weights}
NrOfConditions:     3

cup
2
  {cup}
Color: 1 2 3

never
0
Color: 1 2 3

dog
1
  {dog}
Color: 1 2 3
"""


def write_prt(folder, *, unit, cup, dog, weights=0, text=PRT):
    path = folder / "run.prt"
    path.write_text(text.format(unit=unit, cup=cup, dog=dog, weights=weights))
    return path


def test_volumes_count_from_one_and_milliseconds_from_zero(tmp_path):
    expected = pd.DataFrame(
        {
            "onset": [0.0, 8.0, 12.0],
            "duration": [8.0, 4.0, 2.0],
            "trial_type": ["cup", "dog", "cup"],
        }
    )
    path = write_prt(tmp_path, unit="Volumes", cup="1 4\n 7 7", dog="5 6")
    pd.testing.assert_frame_equal(read_protocol(path, t_r=2.0), expected)
    with pytest.raises(ValueError, match=r"counts volumes; pass the .* t_r=, got None"):
        read_protocol(path)
    path = write_prt(tmp_path, unit="msec", cup="0 8000\n12000 14000", dog="8000 12000")
    pd.testing.assert_frame_equal(read_protocol(path), expected)
    packed = tmp_path / "run.prt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pd.testing.assert_frame_equal(read_protocol(packed), expected)


def test_weights_are_those_that_nilearn_takes(tmp_path):
    from nilearn.glm.first_level import make_first_level_design_matrix

    path = write_prt(
        tmp_path, unit="msec", cup="0 1 0.5\n2 3 -1", dog="4 5 7", weights=1
    )
    assert read_protocol(path)["modulation"].tolist() == [0.5, -1, 7]
    path = write_prt(
        tmp_path,
        unit="msec",
        cup="0 1000 2\n5000 6000 0",
        dog="10000 11000 6",
        weights=1,
    )
    events = read_protocol(path)
    design, plain = (
        make_first_level_design_matrix(np.arange(20) * 1.0, table, drift_model=None)
        for table in (events, events.drop(columns="modulation"))
    )
    assert plain["dog"].abs().max() > 0
    np.testing.assert_allclose(design["dog"], 6 * plain["dog"])


def test_protocols_that_are_not_as_they_should_be(tmp_path):
    good = {"unit": "msec", "cup": "0 8\n12 14", "dog": "8 12"}
    with pytest.raises(ValueError, match="must count in Volumes or msec; got ticks"):
        read_protocol(write_prt(tmp_path, **good | {"unit": "ticks"}))
    with pytest.raises(ValueError, match=r"dog must begin at 0 or later .* end after"):
        read_protocol(write_prt(tmp_path, **good | {"dog": "9 8"}))
    path = write_prt(tmp_path, **good | {"unit": "Volumes"})
    with pytest.raises(ValueError, match="cup must begin at 1 or later"):
        read_protocol(path, t_r=2)
    path = write_prt(tmp_path, **good, text=PRT.replace("dog", "cup", 1))
    with pytest.raises(ValueError, match="conditions must be unique; repeated: 'cup"):
        read_protocol(path)
    path = write_prt(tmp_path, **good, text=PRT[: PRT.index("dog")])
    with pytest.raises(ValueError, match="announces 3 conditions and has 2"):
        read_protocol(path)
    none = PRT[: PRT.index("cup")].replace("Conditions:     3", "Conditions:     0")
    path = write_prt(tmp_path, **good, text=none)
    with pytest.raises(ValueError, match="one or more conditions; it has none"):
        read_protocol(path)
    path = write_prt(tmp_path, **good, text=PRT[: PRT.rindex("Color")])
    with pytest.raises(ValueError, match="must be a whole PRT file"):
        read_protocol(path)


SDM = """FileVersion:             1

NrOfPredictors:          2
NrOfDataPoints:          3
IncludesConstant:        0
FirstConfoundPredictor:  1

255 50 50   50 255 50
"faces" "houses"
 1.5 -2e-05
-1 2
 0 0.25
"""


def test_designs(tmp_path):
    path = tmp_path / "run.sdm"
    path.write_text(SDM)
    design = read_sdm(path)
    expected = pd.DataFrame({"faces": [1.5, -1, 0], "houses": [-2e-05, 2, 0.25]})
    pd.testing.assert_frame_equal(design, expected)
    path.write_text(SDM.replace(" 0 0.25\n", ""))
    with pytest.raises(ValueError, match="announces 3 data points and has 2"):
        read_sdm(path)
    path.write_text(SDM.replace("houses", "faces"))
    with pytest.raises(ValueError, match="predictors must be unique; repeated: 'faces"):
        read_sdm(path)


@pytest.mark.parametrize(
    "name", ["sub-test05.prt", "sub-test05_v3_vols.prt", "sub-test06.prt"]
)
def test_real_protocols(real, name):
    folder, expected = real
    facts = expected[name]
    t_r = 2.0 if facts["ResolutionOfTime"] == "Volumes" else None
    events = read_protocol(folder / name, t_r=t_r)
    counts = events["trial_type"].value_counts()
    assert {name: counts[name] for name in counts.index} == dict(facts["conditions"])
    assert (np.diff(events["onset"]) > 0).all()
    ends = events["onset"] + events["duration"]
    assert (ends[:-1].to_numpy() <= events["onset"][1:].to_numpy() + 1e-9).all()
    if name == "sub-test05.prt":  # its blocks follow each other without a gap
        np.testing.assert_allclose(ends[:-1], events["onset"][1:])
        assert events["onset"][0] == 0
        assert events["duration"].tolist()[:2] == [16, 48]
    if name == "sub-test06.prt":
        first = events.iloc[0]
        assert (first["onset"], first["trial_type"]) == (0.0, "Fixation")
        assert first["duration"] == pytest.approx(10.335)


def test_a_real_design(real):
    folder, expected = real
    facts = expected["sub-test04.sdm"]
    design = read_sdm(folder / "sub-test04.sdm")
    assert design.shape == (291, facts["n_predictors"])
    assert list(design.columns) == facts["names"]
    assert design.iloc[0].eq(0).all()
    assert design.iloc[1, 0] == pytest.approx(-0.00163367)
