"""Point files as other programs write them, and broken ones: right or refused in one line, never flipped or scaled."""

from __future__ import annotations

import json

import pytest
import torch

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.points import read_points, write_points

RAS = torch.tensor([[10.0, 20.0, 30.0], [-1.0, 2.0, -3.0]], dtype=torch.float64)
LPS = RAS * torch.tensor([-1.0, -1.0, 1.0])
ROWS = "F-1,10,20,30,0,0,0,1,1,1,0,F-1,,\nF-2,-1,2,-3,0,0,0,1,1,1,0,F-2,,\n"
VERSION = "# Markups fiducial file version = 4.11\n"


def markup(positions=((10, 20, 30), (-1, 2, -3)), **values) -> dict:
    return {"type": "Fiducial", "controlPoints": [{"position": position} for position in positions], **values}


def written(path, document) -> str:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "# Fiducial List file /a.fcsv\n# version = 2\n# name = L\n# columns = label,x,y,z,sel,vis\n",
        "# CoordinateSystem = 0\n",
        VERSION + "# CoordinateSystem = RAS\n",
        "\ufeff" + VERSION + "# CoordinateSystem = 0\n",
    ],
)
def test_an_fcsv_whose_header_names_nothing_else_is_ras(tmp_path, head):
    assert torch.equal(read_points(written(tmp_path / "p.fcsv", head + ROWS)), LPS)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (VERSION, "a version but no coordinate system"),
        ("# CoordinateSystem = LPS\n", "coordinate system LPS but no version, which Slicer reads as RAS"),
        ("# CoordinateSystem = 1\n", "coordinate system LPS but no version, which Slicer reads as RAS"),
        (VERSION + "# CoordinateSystem = 2\n", "coordinate system 2"),
        (VERSION + "# CoordinateSystem = LPS\n# columns = id,z,y,x\n", "columns id,z,y,x"),
    ],
)
def test_an_fcsv_that_could_be_read_flipped_is_refused(tmp_path, head, problem):
    with pytest.raises(InputError, match=problem):
        read_points(written(tmp_path / "p.fcsv", head + ROWS))


@pytest.mark.parametrize("units", ["um", ["um", "UCUM", "micrometer"]])
def test_markups_in_micrometres_become_millimetres(tmp_path, units):
    document = {"markups": [markup(coordinateSystem="RAS", coordinateUnits=units)]}
    assert torch.equal(read_points(written(tmp_path / "p.mrk.json", document)), LPS / 1000)
    document = {"markups": [markup(coordinateSystem="RAS", coordinateUnits="mm")]}
    assert torch.equal(read_points(written(tmp_path / "q.mrk.json", document)), LPS)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"markups": [markup([[1, 2]])]}, "point 1 has 2 coordinates"),
        ({"markups": [markup([[1, 2, 3, 4]] * 3)]}, "point 1 has 4 coordinates"),  # twelve numbers are four points, too
        ({"markups": [markup([[1, 2, 3], ["1", "2", "3"]])]}, "point 2 has the position"),
        ({"markups": [markup([[1, 2, None]])]}, "point 1 has the position"),
        ({"markups": [markup([None])]}, "point 1 is not placed"),
        ({"markups": [markup([7])]}, "cannot be read"),
        ({"markups": None}, "cannot be read"),
        ({"markups": [None]}, "0 lists of points"),
        ({"markups": [7]}, "cannot be read"),
        ({"markups": [markup(), markup()]}, "2 lists of points"),
        ({"markups": [markup(controlPoints=None)]}, "cannot be read"),
        ({"markups": [markup(controlPoints=[None])]}, "cannot be read"),
        ({"markups": [markup(coordinateUnits="m")]}, "coordinates in m"),
        ({"markups": [markup(coordinateUnits=None)]}, "coordinates in None"),
        ({"markups": [markup(coordinateSystem=["LPS"])]}, "coordinate system"),
        ({"markups": [markup([[1, 2, 10**400]])]}, "cannot be read"),
        ({"markups": [markup([[1, 2, 1e30]])]}, "coordinate in mm: must be between"),
        ('{"markups": [{"controlPoints": [{"position": [1, NaN, 2]}]}]}', "NaN is no number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[]", "cannot be read"),
        ("7", "cannot be read"),
    ],
)
def test_broken_markups_are_refused_in_one_line(tmp_path, document, problem):
    path = written(tmp_path / "p.mrk.json", document)
    with pytest.raises(InputError, match=problem) as caught:
        read_points(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.fcsv", "F-1,10,20\n"),
        ("b.fcsv", "F-1,10,20,x\n"),
        ("c.fcsv", "F-1,10,20,1e30\n"),
        ("d.csv", "1,2,3\n4,5\n"),
        ("e.csv", "1,2,-1e30\n"),
        ("f.csv", "1,2," + "3" * 200_000 + "\n"),
        ("g.csv", 'x,y,z\n1,2,"' + "3" * 200_000 + '"\n'),
    ],
)
def test_broken_rows_are_refused_in_one_line(tmp_path, name, text):
    path = written(tmp_path / name, text)
    with pytest.raises(InputError) as caught:
        read_points(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_written_markups_number_their_points_from_one_as_slicer_does(tmp_path):
    write_points(torch.tensor([[1.0, 2, 3], [4, 5, 6]]), tmp_path / "points.mrk.json")
    points = json.loads((tmp_path / "points.mrk.json").read_text())["markups"][0]["controlPoints"]
    assert [(point["id"], point["label"]) for point in points] == [("1", "F-1"), ("2", "F-2")]
