"""From a map on disk to tables, files and chart: regions, samples, and what is refused."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import area_maps as maps
import matplotlib.image
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from rasterio import Affine

from rsjax.errors import ConfigError, SampleError, SceneError
from rsjax.landcover import nomenclature
from rsjax.mapping import area_table, hectares, landmap, pixel_area, regions, sampling

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parents[2]
CLASSES = nomenclature.load("worldcover")
TREES, WATER = CLASSES.index("Tree cover"), CLASSES.index("Permanent water bodies")


def door(module, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", module, *arguments], text=True, env=environment,
                          capture_output=True, check=False)  # fmt: skip


def areas_of(land_map):
    return pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)


def polygons(path, shapes, names, crs="EPSG:32632", field="name"):
    pyogrio.raw.write(path, geometry=shapely.to_wkb(np.array(shapes)),
                      field_data=[np.array(names, object)], fields=[field], crs=crs,
                      geometry_type="Polygon")  # fmt: skip
    return str(path)


def label(path, truth, change=lambda rows: rows):
    """Fills the column `reference` of a drawn sample from the true codes of each pixel."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["reference"] = str(truth[int(row["row"]), int(row["col"])])
    rows = change(rows)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("grid", ["degrees", "UTM"])
def test_counts_and_hectares_of_a_map_are_those_of_its_pixels(tmp_path, grid, monkeypatch):
    codes = maps.random_codes((61, 43))
    codes[5:9, :] = 0
    where = {"degrees": {"crs": "EPSG:4326", "transform": maps.DEGREES}, "UTM": {}}[grid]
    land_map = landmap.read_map(maps.write(tmp_path / "map.tif", codes, **where))
    areas = areas_of(land_map)
    row, col = (index.ravel() for index in np.indices(codes.shape))
    each = areas.at(row, col).reshape(codes.shape)
    monkeypatch.setattr(landmap.windows, "__defaults__", (200,))
    found = area_table.tally(land_map, areas)
    for c, code in enumerate(CLASSES.codes):
        assert found.pixels[c] == (codes == code).sum()
        assert found.hectares[c] == pytest.approx(each[codes == code].sum(), rel=1e-12)
    assert found.nodata_pixels == 4 * 43
    assert found.nodata_hectares == pytest.approx(each[5:9].sum(), rel=1e-12)


def test_a_map_of_one_class_and_one_of_none(tmp_path):
    one = landmap.read_map(maps.write(tmp_path / "one.tif", np.full((9, 9), 80, np.uint8)))
    assert area_table.tally(one, areas_of(one)).pixels[WATER] == 81
    none = landmap.read_map(maps.write(tmp_path / "none.tif", np.zeros((9, 9), np.uint8)))
    with pytest.raises(SceneError, match="no pixel has a class"):
        area_table.tally(none, areas_of(none))


@pytest.mark.parametrize("flip", [1, -1])
def test_regions_count_pixels_at_their_edge_by_the_share_inside(tmp_path, flip, monkeypatch):
    """Against each pixel's intersection with the polygon, by shapely."""
    codes = maps.random_codes((24, 30))
    codes[2, 3:6] = 0
    transform = Affine(30, 0, 4e5, 0, -30 * flip, 5.3e6 + (0 if flip > 0 else -720))
    land_map = landmap.read_map(maps.write(tmp_path / "map.tif", codes, transform=transform))
    x, y = 4e5, 5.3e6
    triangle = shapely.Polygon([(x + 40, y - 10), (x + 855, y - 300), (x + 100, y - 700)])
    ring = shapely.box(x + 55, y - 500, x + 500, y - 95).difference(
        shapely.box(x + 200, y - 300, x + 333, y - 200)
    )
    beyond = shapely.box(x - 300, y - 100, x + 300, y + 200)
    file = polygons(tmp_path / "regions.gpkg", [triangle, ring, beyond], ["a", "b", "c"])
    monkeypatch.setattr(landmap.windows, "__defaults__", (100,))
    found = regions.tally(land_map, areas_of(land_map), regions.read(file, land_map))
    areas = areas_of(land_map)
    classes = CLASSES.encode(codes)
    for one, shape in zip(found, (triangle, ring, beyond), strict=True):
        pixels, size = np.zeros(12), np.zeros(12)
        for row, col in np.ndindex(codes.shape):
            west, ends = x + 30 * col, sorted(transform.f + transform.e * (row + i) for i in (0, 1))
            box = shapely.box(west, ends[0], west + 30, ends[1])
            share = box.intersection(shape).area / 900
            slot = min(classes[row, col], 11)
            pixels[slot] += share
            size[slot] += share * areas.at(np.array([row]), np.array([col]))[0]
        np.testing.assert_allclose(one.pixels, pixels[:11], atol=1e-3)
        np.testing.assert_allclose(one.hectares, size[:11], atol=1e-4)
        assert one.nodata_pixels == pytest.approx(pixels[11], abs=1e-3)
        assert one.nodata_hectares == pytest.approx(size[11], abs=1e-4)
    assert [one.name for one in found] == ["a", "b", "c"]
    assert found[0].outside == 0
    assert found[2].outside == pytest.approx(1 - 300 * 100 / (600 * 300), abs=1e-5)


def test_regions_of_another_coordinate_system_add_up_to_the_map(tmp_path):
    """Two halves of a box in degrees around a map in UTM, of few vertices and long edges."""
    codes = maps.random_codes((300, 400))
    transform = Affine(100, 0, 4.4e5, 0, -100, 5.3e6)
    land_map = landmap.read_map(maps.write(tmp_path / "map.tif", codes, transform=transform))
    halves = [shapely.box(7.9, 47.4, 8.47, 48.0), shapely.box(8.47, 47.4, 9.0, 48.0)]
    file = polygons(tmp_path / "halves.geojson", halves, ["west", "east"], "EPSG:4326")
    areas = areas_of(land_map)
    found = regions.tally(land_map, areas, regions.read(file, land_map))
    whole = area_table.tally(land_map, areas)
    np.testing.assert_allclose(sum(one.hectares for one in found), whole.hectares, rtol=1e-6)
    # The border is the meridian 8.47, in the middle of each row's crossing.
    to_utm = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True)
    lat = np.linspace(47.4, 48.0, 20001)
    x, y = to_utm.transform(np.full_like(lat, 8.47), lat)
    border = np.interp(5.3e6 - 100 * (np.arange(300) + 0.5), y, x)
    assert found[0].pixels.sum() == pytest.approx(((border - 4.4e5) / 100).sum(), abs=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "a"]}, "not unique: a; dissolve"),
        ({"names": ["a", ""]}, "feature 1 has no 'name'"),
        ({"names": ["a", "whole map"]}, "feature 1 is named 'whole map', as the tables call all"),
        ({"field": "id"}, "no field 'name' for the names.*of: id"),
        ({"shapes": [shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)]}, "no region meets the map"),
        ({"shapes": [shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), shapely.box(0, 0, 1, 1)]},
         "region 'a' is no valid polygon"),
    ],
)  # fmt: skip
def test_regions_that_cannot_be_measured_are_refused(tmp_path, change, message):
    land_map = landmap.read_map(maps.write(tmp_path / "map.tif", maps.random_codes((9, 9))))
    box = shapely.box(4.4e5, 5.29e6, 4.41e5, 5.3e6)
    given = {"shapes": [box, box], "names": ["a", "b"], **change}
    file = polygons(tmp_path / "regions.gpkg", **given)
    with pytest.raises(SceneError, match=message):
        regions.tally(land_map, areas_of(land_map), regions.read(file, land_map))


def test_files_that_are_no_regions_are_refused(tmp_path):
    land_map = landmap.read_map(maps.write(tmp_path / "map.tif", maps.random_codes((9, 9))))
    (tmp_path / "text.geojson").write_text("no regions")
    for name, message in (("text.geojson", "as vector data"), ("none.gpkg", "no such file")):
        with pytest.raises(SceneError, match=message):
            regions.read(tmp_path / name, land_map)
    points = tmp_path / "points.gpkg"
    pyogrio.raw.write(points, geometry=shapely.to_wkb(shapely.points([[4.4e5, 5.3e6]])),
                      field_data=[np.array(["a"], object)], fields=["name"], crs="EPSG:32632",
                      geometry_type="Point")  # fmt: skip
    with pytest.raises(SceneError, match="region 'a' is a Point, expected a polygon"):
        regions.read(points, land_map)


@pytest.fixture
def labelled(tmp_path):
    """A map, the truth behind it, and a sample drawn of it and labelled: (map, truth, sample)."""
    random = np.random.default_rng(2)
    codes = maps.random_codes((120, 150), share=(0.5, 0.2, 0.15, 0.1, 0.05))
    codes[0] = 0
    truth = np.where(random.random(codes.shape) < 0.8, codes, maps.random_codes(codes.shape, 9))
    path = maps.write(tmp_path / "map.tif", codes, transform=maps.DEGREES, crs="EPSG:4326")
    sampling.sample(path, units=600, output=str(tmp_path / "sample"), min_units=60)
    label(tmp_path / "sample.csv", truth)
    return path, truth, tmp_path / "sample.csv"


def test_the_doors_from_map_to_adjusted_areas(labelled, tmp_path):
    path, truth, sample = labelled
    drawn = door("rsjax.sample", f"--map={path}", "--units=300", "--min_units=30", "--seed=4",
                 f"--output={tmp_path / 'other'}")  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    assert "300 units; expected standard error of overall accuracy" in drawn.stdout
    box = polygons(tmp_path / "r.gpkg", [shapely.box(10.1, 59, 10.9, 59.7)], ["box"], "EPSG:4326")
    found = door("rsjax.area", f"--map={path}", f"--reference={sample}", f"--regions={box}",
                 "--level=0.9", f"--output={tmp_path / 'areas'}")  # fmt: skip
    assert found.returncode == 0, found.stderr
    for part in ("adjusted ha (90 % interval)", "overall accuracy 0.", "box", "600 units; strata "
                 "are the classes of this map", "sample units: rows map"):  # fmt: skip
        assert part in found.stdout
    data = json.loads((tmp_path / "areas.json").read_text())
    with open(tmp_path / "areas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(data["areas"]) == 2 * (len(CLASSES) + 1)
    row = next(r for r in rows if (r["region"], r["class"]) == ("whole map", "Tree cover"))
    assert float(row["adjusted_hectares"]) == data["areas"][TREES]["adjusted_hectares"]
    assert data["sample"]["units"] == 600
    assert data["pixel_area"] == {"method": "rows", "ellipsoid": "WGS 84"}
    assert row["adjusted_hectares"] != ""
    assert data["sample_by_region"]["box"]["units"] == int(rows[-2]["sample_units"]) > 100
    inside = np.s_[30:100, 10:90]  # of the box, whose edges are those of pixels
    total = sum(r["hectares"] for r in data["areas"][: len(CLASSES)])
    adjusted = sum(r["adjusted_hectares"] for r in data["areas"][: len(CLASSES)])
    assert adjusted == pytest.approx(total, rel=1e-9)
    # The truth is known here: the adjusted area is nearer to it than three standard errors.
    land_map = landmap.read_map(path)
    each = areas_of(land_map).rows[:, None] * np.ones(truth.shape)
    for c, code in enumerate(maps.CODES):
        cells = next(r for r in data["areas"] if r["code"] == code)
        error = each[1:][truth[1:] == code].sum() - cells["adjusted_hectares"]
        assert abs(error) < 3 * cells["adjusted_hectares_se"], (c, error)
        cells = next(r for r in data["areas"] if r["code"] == code and r["region"] == "box")
        error = each[inside][truth[inside] == code].sum() - cells["adjusted_hectares"]
        assert abs(error) < 3.5 * cells["adjusted_hectares_se"], (c, error)
    assert matplotlib.image.imread(tmp_path / "areas.png").shape[2] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "--map is missing, e.g. --map=map.tif"),
     (("--map=none.tif", "stray"), "unknown arguments ['stray']")],
)  # fmt: skip
def test_mistakes_on_the_command_line_are_one_message(arguments, message):
    found = door("rsjax.area", *arguments)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert message in found.stderr


def test_a_sample_as_points_gives_the_same_as_the_csv(labelled, tmp_path, capsys):
    path, truth, sample = labelled
    by_csv = hectares.measure(path, sample=str(sample), output=str(tmp_path / "a"))
    meta, _, geometry, values = pyogrio.raw.read(tmp_path / "sample.gpkg")
    fields = dict(zip(meta["fields"], values, strict=True))
    names = {code: name for code, name in zip(CLASSES.codes, CLASSES.names, strict=True)}
    fields["reference"] = np.array(
        [names[truth[r, c]] for r, c in zip(fields["row"], fields["col"], strict=True)], object
    )
    (tmp_path / "sample.design.json").rename(tmp_path / "moved.json")
    # In another coordinate system, and with names in place of codes.
    change = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)
    points = shapely.transform(
        shapely.from_wkb(geometry), lambda xy: np.column_stack(change.transform(*xy.T))
    )
    pyogrio.raw.write(tmp_path / "points.geojson", geometry=shapely.to_wkb(points),
                      field_data=list(fields.values()), fields=list(fields), crs="EPSG:3035",
                      geometry_type="Point", driver="GeoJSON", RFC7946="NO")  # fmt: skip
    by_points = hectares.measure(
        path, sample=str(tmp_path / "points.geojson"), design=str(tmp_path / "moved.json"),
        output=str(tmp_path / "b"),
    )  # fmt: skip
    assert by_points["areas"] == by_csv["areas"]

    def moved(rows):
        xy = shapely.get_coordinates(points)
        return [
            r | {"x": repr(x), "y": repr(y)} for r, (x, y) in zip(rows, xy.tolist(), strict=True)
        ]

    label(sample, truth, moved)
    by_csv_elsewhere = hectares.measure(
        path, sample=str(sample), sample_crs="EPSG:3035", design=str(tmp_path / "moved.json"),
        output=str(tmp_path / "c"),
    )  # fmt: skip
    assert by_csv_elsewhere["areas"] == by_csv["areas"]
    capsys.readouterr()


def test_designs_that_are_stated_in_words_or_weights_agree_with_the_file(
    labelled, tmp_path, capsys
):
    path, _, sample = labelled
    by_file = hectares.measure(path, sample=str(sample), output=str(tmp_path / "a"))
    (tmp_path / "sample.design.json").unlink()
    stated = hectares.measure(
        path, sample=str(sample), design="stratified", output=str(tmp_path / "b")
    )
    assert stated["areas"] == by_file["areas"]
    weighted = hectares.measure(path, sample=str(sample), output=str(tmp_path / "c"))
    assert weighted["sample"]["design"] == "as the weights of the units state it"
    for one, other in zip(weighted["areas"], by_file["areas"], strict=True):
        if one["adjusted_hectares"]:  # the sampled pixels' mean area in place of the stratum's
            assert one["adjusted_hectares"] == pytest.approx(other["adjusted_hectares"], rel=0.01)
    simple = hectares.measure(path, sample=str(sample), design="simple", output=str(tmp_path / "d"))
    assert "stratified afterwards" in simple["sample"]["design"]
    capsys.readouterr()


def test_a_sample_drawn_from_another_map_is_estimated_by_its_own_strata(labelled, tmp_path, capsys):
    """Stehman 2014: the new map is assessed by the old map's sample; here it is the better one."""
    path, truth, sample = labelled
    better = np.where(np.random.default_rng(5).random(truth.shape) < 0.95, truth, 80)
    better[0] = 0
    new = maps.write(
        tmp_path / "new.tif", better.astype(np.uint8), transform=maps.DEGREES, crs="EPSG:4326"
    )
    old = hectares.measure(path, sample=str(sample), output=str(tmp_path / "a"))
    found = hectares.measure(new, sample=str(sample), output=str(tmp_path / "b"))
    assert found["sample"]["design"] == "strata are those of another map, map.tif (Stehman 2014)"
    # Areas are those of the reference, whichever map is assessed; accuracies are the new map's.
    for one, other in zip(found["areas"], old["areas"], strict=True):
        for name in ("adjusted_hectares", "adjusted_hectares_se"):
            assert one[name] == pytest.approx(other[name])
    accuracy = found["sample"]["overall_accuracy"]
    exact = (better[1:] == truth[1:]).mean()
    assert abs(accuracy["value"] - exact) < 3 * accuracy["se"]
    assert accuracy["value"] > old["sample"]["overall_accuracy"]["value"] + 0.05
    capsys.readouterr()


def first(**values):
    return lambda rows: [{**rows[0], **values}, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (first(reference=""), {}, "line 2 has no reference class. Label it"),
        (first(reference="77"), {}, "line 2: reference '77' is no class of nomenclature"),
        (first(x="0"), {}, r"line 2 at \(0, .*\) is off the map"),
        (first(x="east"), {}, "line 2: x is 'east', expected a number"),
        (first(y="59.999"), {}, "line 2 lies where the map has no class"),
        (first(stratum="66"), {}, "line 2: stratum '66' is none of the design: 10, 20"),
        (first(weight="3"), {}, "line 2: weight 3, the design says"),
        (lambda rows: [rows[1], *rows[1:]], {}, "line 3 and line 2 lie in one pixel"),
        (lambda rows: rows[1:], {}, r"units of stratum '.*', the design drew \d+; label every"),
        (lambda rows: [{k: v for k, v in r.items() if k != "reference"} for r in rows], {},
         "no column 'reference'.*A confusion matrix is not enough: state the design"),
        (lambda rows: [{k: v for k, v in r.items() if k != "stratum"} for r in rows], {},
         "no column 'stratum', which its design needs"),
        (lambda rows: [{"": "Tree cover", "Tree cover": "5", "Cropland": "1"}], {},
         "no columns x and y.*If this is a confusion matrix, give it with --matrix"),
        (lambda rows: [{k: v for k, v in r.items() if k != "weight"} for r in rows],
         {"design": ""}, "no design is stated, so it says nothing of areas; state the design"),
        (first(weight="9"), {"design": ""}, r"weights of stratum '\d+' run from"),
        (lambda rows: [r for r in rows if r["stratum"] != "10"], {"design": ""},
         "its design covers .* ha, the map"),
        (lambda rows: rows[:1] + [r for r in rows[1:] if r["stratum"] != rows[0]["stratum"]],
         {"design": "stratified"}, r"fewer than 2 sample units: '.*' \(1\)"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit_are_refused_and_nothing_is_written(
    labelled, tmp_path, change, options, message
):
    path, truth, sample = labelled
    label(sample, truth, change)
    if options.get("design") == "":
        (tmp_path / "sample.design.json").unlink()
    with pytest.raises(SampleError, match=message):
        hectares.measure(path, sample=str(sample), output=str(tmp_path / "a"), **options)
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize("design", ["", "stratified"])
def test_a_unit_whose_stratum_is_not_its_map_class_is_named(labelled, tmp_path, design):
    path, truth, sample = labelled

    def swapped(rows):
        other = next(i for i, r in enumerate(rows) if r["stratum"] != rows[0]["stratum"])
        for key in ("stratum", "stratum_name", "weight"):
            rows[0][key], rows[other][key] = rows[other][key], rows[0][key]
        return rows

    label(sample, truth, swapped)
    with pytest.raises(SampleError, match=r"line 2 says stratum '.*', the map has '.*' at \(row"):
        hectares.measure(path, sample=str(sample), design=design, output=str(tmp_path / "a"))


def test_options_that_do_not_go_together_are_refused(labelled, tmp_path):
    path, _, sample = labelled
    with pytest.raises(ConfigError, match="give it with --reference"):
        hectares.measure(path, design="stratified")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hectares.measure(path, level=95)
    with pytest.raises(SceneError, match="unknown coordinate system 'EPSG:1'"):
        hectares.measure(path, sample=str(sample), sample_crs="EPSG:1")


def test_files_that_are_read_are_not_written_over(tmp_path):
    path = maps.write(tmp_path / "map.tif", maps.random_codes((9, 9)), tag="")
    classes = tmp_path / "own.csv"
    classes.write_bytes((ROOT / "rsjax" / "landcover" / "worldcover.csv").read_bytes())
    (tmp_path / "link.json").symlink_to(box := tmp_path / "box.geojson")
    box.write_text("{}")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for options, message in (
        ({"nomenclature": str(classes), "output": str(tmp_path / "own")}, "own.csv, which is read"),
        ({"region_file": str(box), "output": str(tmp_path / "link")}, "box.geojson, which is read"),
        ({"sample": f"{tmp_path}/own.csv", "output": f"{tmp_path}/../{tmp_path.name}/own"}, "over"),
    ):
        with pytest.raises(ConfigError, match=message):
            hectares.measure(path, **options)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    (tmp_path / "x.png").mkdir()
    with pytest.raises(ConfigError, match=r"x.png is a folder; move it away"):
        hectares.measure(path, nomenclature=str(classes), output=str(tmp_path / "x"))
    assert not (tmp_path / "x.csv").exists()
    with pytest.raises(ConfigError, match="expected the beginning of names"):
        hectares.measure(path, nomenclature=str(classes), output=f"{tmp_path}/")


def test_of_very_many_regions_the_first_are_printed():
    one = area_table.Tally("r", np.ones(11), np.ones(11), 0, 0)
    assert area_table.terminal([one] * 100, CLASSES)[-1] == "79 more regions of 99 are in the files"
    assert len(area_table.terminal([one] * 100, CLASSES)) == area_table.PRINTED + 2
    assert len(area_table.terminal([one] * 3, CLASSES)) == 3


def test_a_map_whose_pixels_have_no_size_is_refused(tmp_path):
    codes = maps.random_codes((9, 9))
    path = maps.write(tmp_path / "flat.tif", codes, transform=Affine(30, 0, 5, 0, 0, 5))
    with pytest.raises(SceneError, match="its pixels have no area, of a size of 30 x 0"):
        landmap.read_map(path)


def test_real_map_of_north_carolina(samples, tmp_path, capsys):
    """landclass96 in a conformal conic; the area of the whole by a geodesic polygon around it."""
    path = samples / "scenes" / "landsat7_north_carolina" / "strata.tif"
    classes = tmp_path / "landclass96.csv"
    names = ("developed", "agriculture", "herbaceous", "shrubland", "forest", "water", "sediment")
    lines = [f"{code},{name},#00000{code},," for code, name in enumerate(names, 1)]
    head = ["# source: GRASS GIS sample data", "code,name,colour,parent,ignore"]
    classes.write_text("\n".join(head + lines))
    found = hectares.measure(path, nomenclature=str(classes), output=str(tmp_path / "nc"))
    pixels = [row["pixels"] for row in found["areas"]]
    assert pixels == [65099, 1433, 23502, 14532, 107643, 4223, 194, 1]
    land_map = landmap.read_map(path, str(classes))
    rows, cols = land_map.shape
    side = np.arange(1000) / 1000
    t = land_map.transform
    x = t.c + t.a * cols * np.concatenate([side, side * 0 + 1, 1 - side, side * 0])
    y = t.f + t.e * rows * np.concatenate([side * 0, side, side * 0 + 1, 1 - side])
    system = pyproj.CRS("EPSG:3358")
    to_degrees = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    truth = abs(system.get_geod().polygon_area_perimeter(*to_degrees.transform(x, y))[0]) / 1e4
    assert sum(r["hectares"] for r in found["areas"]) == pytest.approx(truth, rel=1e-7)
    assert abs(truth / (rows * cols * 28.5**2 / 1e4) - 1) > 1e-4  # the plane's area is another
    capsys.readouterr()
