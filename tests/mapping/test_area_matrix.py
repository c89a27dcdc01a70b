"""Confusion matrices as files: the published example, with a map and without, and refusals."""

import area_maps as maps
import numpy as np
import pytest

from rsjax.errors import ConfigError, SampleError
from rsjax.mapping import area_matrix, hectares

OLOFSSON_2013 = """# source: Olofsson et al. 2013, the example of section 4
# design: stratified
map,deforestation,forest,other,hectares
deforestation,97,0,3,22353
forest,3,279,18,1122543
other,2,1,97,610228
"""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(hectares.area_chart, "png", lambda *_: b"")


def write(folder, text):
    path = folder / "matrix.csv"
    path.write_text(text)
    return str(path)


def test_the_example_of_olofsson_2013_from_its_file_alone(tmp_path, capsys):
    found = hectares.measure(matrix=write(tmp_path, OLOFSSON_2013))
    row = found["areas"][0]
    assert row["class"] == "deforestation"
    assert f"{row['adjusted_hectares']:.0f} {row['adjusted_hectares_se']:.0f}" == "45112 10751"
    assert (row["pixels"], row["hectares"]) == (None, 22353)
    assert f"{found['sample']['overall_accuracy']['value']:.3f}" == "0.944"
    assert found["sample"]["units"] == 500
    assert (tmp_path / "matrix_area.csv").is_file()
    assert "stated to be of random samples within each map class" in capsys.readouterr().out


def test_with_a_map_the_areas_are_the_maps(tmp_path, capsys):
    """Rows and columns in any order, by name or code; classes the map lacks need no row."""
    codes = maps.random_codes((90, 80))
    path = maps.write(tmp_path / "map.tif", codes)
    text = """# design: simple
map,10,Shrubland,Grassland,Cropland,Built-up,80
Shrubland,3,40,2,0,1,0
10,50,2,0,1,0,1
Grassland,1,1,30,2,0,0
Cropland,0,0,3,25,2,0
80,1,0,0,0,0,19
"""
    matrix = write(tmp_path, text)
    found = hectares.measure(path, matrix=matrix, output=str(tmp_path / "a"))
    rows = {row["code"]: row for row in found["areas"] if row["code"]}
    size = {code: rows[code]["hectares"] for code in (10, 20, 30, 40, 80)}
    built = size[20] / 46 * 1 + size[40] / 30 * 2
    assert rows[50]["hectares"] == 0
    assert rows[50]["adjusted_hectares"] == pytest.approx(built, rel=1e-12)
    n = {10: 54, 20: 46, 40: 30}
    variance = sum(
        size[c] ** 2 * k / n[c] * (1 - k / n[c]) / (n[c] - 1) * (1 - n[c] / (codes == c).sum())
        for c, k in ((20, 1), (40, 2))
    )
    assert rows[50]["adjusted_hectares_se"] == pytest.approx(variance**0.5, rel=1e-9)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# design: stratified\n", "", "states design ''; a confusion matrix says"),
        ("stratified", "training", "states design 'training'.*neither"),
        ("forest,3,279,18", "forest,3,279.5,18", "expected counts of units; shares"),
        ("other,2", "other,-2", "'-2' in row 'other', expected a number of 0 or more"),
        ("other,2,1,97,610228", "other,2,1,97", "equally many columns"),
        ("other,2", "forest,2", "two columns or two rows"),
        ("other,2", "water,2", "row 3: map 'water' is no class"),
        ("other,2,1,97,610228\n", "", "no row for map class 'other'"),
        ("forest,3,279,18", "forest,0,1,0", r"fewer than 2 sample units: 'forest' \(1\)"),
        (OLOFSSON_2013, "# design: simple\nmap,a,b,hectares\na,0,0,0\nb,0,0,0\n", "area 0"),
        (
            OLOFSSON_2013,
            """# design: stratified
map,a,b,total,hectares
a,5,4,9,10
b,3,3,6,10
total,8,7,15,20
""",
            "row and column 'total' are the sums of the others.*leave both out",
        ),
    ],
)
def test_matrices_from_which_nothing_follows_are_refused(tmp_path, old, new, message):
    path = write(tmp_path, OLOFSSON_2013.replace(old, new, 1))
    with pytest.raises(SampleError, match=message):
        hectares.measure(matrix=path)
    assert [file.name for file in tmp_path.iterdir()] == ["matrix.csv"]


def test_a_design_may_be_stated_beside_the_file_but_not_against_it(tmp_path):
    bare = write(tmp_path, OLOFSSON_2013.replace("# design: stratified\n", ""))
    found = area_matrix.read(bare, design="stratified")
    assert found.counts.tolist() == [[97, 0, 3], [3, 279, 18], [2, 1, 97]]
    stated = write(tmp_path, OLOFSSON_2013)
    with pytest.raises(SampleError, match="states design 'stratified', --design=simple"):
        area_matrix.read(stated, design="simple")
    with pytest.raises(ConfigError, match="--reference and --matrix are two samples"):
        hectares.measure("map.tif", sample="a.csv", matrix="b.csv")
    with pytest.raises(ConfigError, match="--regions are measured in a map"):
        hectares.measure(matrix=stated, region_file="r.gpkg")
    with pytest.raises(SampleError, match="cannot be read as a CSV"):
        area_matrix.read(tmp_path / "none.csv")


def test_without_a_map_the_file_must_have_areas(tmp_path):
    lines = [line if line[0] == "#" else line.rsplit(",", 1)[0] for line in
             OLOFSSON_2013.splitlines()]  # fmt: skip
    with pytest.raises(SampleError, match=r"without the mapped areas a matrix says.*--map=FILE"):
        hectares.measure(matrix=write(tmp_path, "\n".join(lines)))


def test_the_matrix_of_another_map_is_refused(tmp_path):
    path = maps.write(tmp_path / "map.tif", np.full((20, 20), 10, np.uint8))
    text = "# design: stratified\nmap,10,20,hectares\n10,9,1,500\n"
    with pytest.raises(SampleError, match=r"500.0 ha of 'Tree cover', the map has 3\d\.\d ha"):
        hectares.measure(path, matrix=write(tmp_path, text))


def test_the_area_of_a_rare_class_must_fit_too(tmp_path, capsys):
    """0.4 ha of 0.7 ha is another map's, however small a part of all that is; 0.72 is rounded."""
    codes = np.full((100, 50), 10, np.uint8)
    codes[:4, :2] = 80
    path = maps.write(tmp_path / "map.tif", codes)
    text = "# design: stratified\nmap,10,80,hectares\n10,90,2,{}\n80,1,6,{}\n"
    rows = hectares.measure(path, output=str(tmp_path / "a"))["areas"]
    own = [next(row["hectares"] for row in rows if row["code"] == code) for code in (10, 80)]
    for great, small in ((f"{own[0]:.0f}", f"{own[1]:.1f}"), (own[0] * 1.004, own[1] * 0.996)):
        matrix = write(tmp_path, text.format(great, small))
        assert hectares.measure(path, matrix=matrix)["sample"]["units"] == 99
    for great, small in ((f"{own[0]:.0f}", "0.4"), (own[0] * 1.006, own[1])):
        with pytest.raises(SampleError, match=r"they may differ by 0.5%, or by what the file"):
            hectares.measure(path, matrix=write(tmp_path, text.format(great, small)))
    capsys.readouterr()


def test_more_units_than_the_map_has_pixels_are_refused(tmp_path):
    path = maps.write(tmp_path / "map.tif", np.array([[10, 20]] * 4, np.uint8))
    text = "# design: stratified\nmap,10,20\n10,9,1\n20,0,4\n"
    with pytest.raises(SampleError, match="10 sample units of 'Tree cover', which has 4 pixels"):
        hectares.measure(path, matrix=write(tmp_path, text))
