"""Two maps against a loop over pixels: matrix, components, map of changes, and what is refused."""

import csv
import json
import os
import pathlib
import shlex
import subprocess
import sys

import area_maps as maps
import matplotlib.image
import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.warp
import shapely
from rasterio import Affine

from rsjax.errors import ConfigError, NomenclatureError, RsjaxError, SceneError
from rsjax.landcover import nomenclature
from rsjax.mapping import (
    area_table,
    change,
    change_map,
    change_pair,
    change_table,
    hectares,
    landmap,
    pixel_area,
    regions,
    sampling,
    writer,
)

pytestmark = pytest.mark.once

PNG = change.change_chart.png
ROOT = pathlib.Path(__file__).parents[2]
CLASSES = nomenclature.load("worldcover")
GRIDS = {"degrees": {"crs": "EPSG:4326", "transform": maps.DEGREES}, "UTM": {}}
TREES, SHRUBS = 0, 1  # positions in WorldCover


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing is most of the time; the test of the door, another process, draws."""
    monkeypatch.setattr(change.change_chart, "png", lambda *_: b"")
    monkeypatch.setattr(writer.preview, "draw", lambda *given: given[-1].touch())


def two_maps(folder, shape=(61, 43), change_share=0.3, **where):
    """Codes of two maps of which some pixels differ, each with pixels of no class, and their files.

    Returns:
        (codes before, codes after, file before, file after).
    """
    before = maps.random_codes(shape, 1)
    random = np.random.default_rng(2)
    after = np.where(random.random(shape) < change_share, maps.random_codes(shape, 3), before)
    before[3:6, 4:20] = 0
    after[5:9, 10:30] = 0
    return (before, after, maps.write(folder / "before.tif", before, **where),
            maps.write(folder / "after.tif", after, **where))  # fmt: skip


def moved_by(col, row):
    return Affine(30, 0, 440_000 + 30 * col, 0, -30, 5_300_000 - 30 * row)


def turned_by(degrees):
    x, y = 30 * np.cos(np.radians(degrees)), 30 * np.sin(np.radians(degrees))
    return Affine(x, y, 440_000, y, -x, 5_300_000)


def areas_of(land_map):
    return pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)


def by_loop(before, after, each):
    """(pixels, hectares) of each pair of classes, one pixel after another."""
    count = len(CLASSES)
    pixels, size = np.zeros((count, count)), np.zeros((count, count))
    for row, col in np.ndindex(before.shape):
        if before[row, col] and after[row, col]:
            i, j = (CLASSES.codes.index(codes[row, col]) for codes in (before, after))
            pixels[i, j] += 1
            size[i, j] += each[row, col]
    return pixels, size


def small_blocks(monkeypatch):
    monkeypatch.setattr(landmap, "BLOCK_PIXELS", 200)
    monkeypatch.setattr(change_pair, "_STRIP_PIXELS", 300)


@pytest.mark.parametrize("grid", list(GRIDS))
def test_the_matrix_is_that_of_a_loop_over_pixels(tmp_path, grid, monkeypatch, capsys):
    before, after, *files = two_maps(tmp_path, **GRIDS[grid])
    land_map = landmap.read_map(files[0])
    row, col = (index.ravel() for index in np.indices(before.shape))
    each = areas_of(land_map).at(row, col).reshape(before.shape)
    small_blocks(monkeypatch)
    found = change.compare(*files, output=tmp_path / "made")
    pixels, size = by_loop(before, after, each)
    assert np.array_equal(found["pixels"], pixels)
    np.testing.assert_allclose(found["hectares"], size, rtol=1e-12)
    valid = (before > 0) & (after > 0)
    assert found["pixels_without_class"] == {
        "before": int(((before == 0) & (after > 0)).sum()),
        "after": int(((after == 0) & (before > 0)).sum()),
        "both": int(((after == 0) & (before == 0)).sum()),
    }
    # The map of changes: each pixel, its nomenclature, and its hectares as rsjax.area counts them.
    with rasterio.open(tmp_path / "made.tif") as made:
        codes = made.read(1)
        assert made.nodata == 0
        assert made.colormap(1)[1][:3] == (0xEE, 0xEE, 0xEE)
        assert json.loads(made.tags()["RSJAX_PROVENANCE"])["kind"] == "change"
    for place in np.ndindex(before.shape):
        i, j = (CLASSES.codes.index(c[place]) + 1 if c[place] else 0 for c in (before, after))
        expected = 0 if not valid[place] else 1 if i == j else 100 * i + j
        assert codes[place] == expected
    counted = area_table.tally(landmap.read_map(tmp_path / "made.tif"), areas_of(land_map))
    assert counted.hectares.sum() == pytest.approx(np.sum(found["hectares"]), rel=1e-13)
    assert counted.hectares.sum() == pytest.approx(each[valid].sum(), rel=1e-13)
    assert counted.nodata_pixels == (~valid).sum()
    capsys.readouterr()


@pytest.mark.parametrize("corner", [(-5, 7), (4, 3), (-2, -2)])
def test_of_maps_that_overlap_the_common_pixels_are_compared(tmp_path, corner, monkeypatch, capsys):
    before, after = maps.random_codes((40, 30), 1), maps.random_codes((25, 50), 2)
    row, col = corner
    files = (maps.write(tmp_path / "a.tif", before),
             maps.write(tmp_path / "b.tif", after, transform=moved_by(col, row)))  # fmt: skip
    small_blocks(monkeypatch)
    found = change.compare(*files, output=tmp_path)
    wide = np.zeros((120, 120), np.uint8), np.zeros((120, 120), np.uint8)
    wide[0][20:60, 20:50] = before
    wide[1][20 + row : 45 + row, 20 + col : 70 + col] = after
    pixels, _ = by_loop(*wide, np.ones((120, 120)))
    assert np.array_equal(found["pixels"], pixels)
    assert found["grid"]["shape"] == [min(40, row + 25) - max(0, row), min(30, col + 50)
                                      - max(0, col)]  # fmt: skip
    said = capsys.readouterr().out
    assert "note: " in said
    assert f"{1200 - pixels.sum():,.0f} of its 1,200 pixels lie beyond the other map" in said
    with rasterio.open(tmp_path / "change.tif") as made:
        top, left = made.transform.f, made.transform.c
    assert (top, left) == (5_300_000 - 30 * max(0, row), 440_000 + 30 * max(0, col))


def test_regions_have_the_shares_of_pixels_inside(tmp_path, monkeypatch, capsys):
    """Against each pixel's intersection with the polygon, by shapely."""
    before, after, *files = two_maps(tmp_path, (24, 30))
    x, y = 440_000.0, 5_300_000.0
    shapes = [shapely.Polygon([(x + 40, y - 10), (x + 855, y - 300), (x + 100, y - 700)]),
              shapely.box(x - 300, y - 100, x + 300, y + 200)]  # fmt: skip
    pyogrio.raw.write(tmp_path / "r.gpkg", geometry=shapely.to_wkb(np.array(shapes)),
                      field_data=[np.array(["a", "b"], object)], fields=["name"],
                      crs="EPSG:32632", geometry_type="Polygon")  # fmt: skip
    small_blocks(monkeypatch)
    found = change.compare(*files, region_file=str(tmp_path / "r.gpkg"), output=tmp_path)
    areas = areas_of(landmap.read_map(files[0]))
    for name, shape in zip("ab", shapes, strict=True):
        each = np.zeros(before.shape)
        for row, col in np.ndindex(before.shape):
            box = shapely.box(x + 30 * col, y - 30 * row - 30, x + 30 * col + 30, y - 30 * row)
            each[row, col] = (
                box.intersection(shape).area
                / 900
                * areas.at(np.array([row]), np.array([col])).item()
            )
        _, size = by_loop(before, after, each)
        rows = [r for r in found["pairs"] if r["region"] == name and r["from"] != "(no class)"]
        got = np.zeros_like(size)
        for one in rows:
            place = (CLASSES.codes.index(one["from_code"]), CLASSES.codes.index(one["to_code"]))
            got[place] = one["hectares"]
        np.testing.assert_allclose(got, size, atol=1e-4)
        parts = change_table.components(size)
        for one in found["by_class"]:
            if one["region"] == name:
                c = CLASSES.codes.index(one["code"])
                assert one["gain_hectares"] == pytest.approx(parts["gain"][c], abs=1e-3)
                assert one["after_hectares"] == pytest.approx(parts["after"][c], abs=1e-3)
    assert found["beyond_map"]["b"] == pytest.approx(1 - 300 * 100 / (600 * 300), abs=1e-5)
    assert "b (83.3% of it is beyond the map)" in capsys.readouterr().out


def test_quantity_exchange_and_shift_of_changes_that_are_only_one_of_them():
    stay = np.diag([50.0, 60, 70])
    pure = {
        "quantity": [[0, 5, 0], [0, 0, 0], [0, 0, 0]],
        "exchange": [[0, 5, 0], [5, 0, 0], [0, 0, 0]],
        "shift": [[0, 5, 0], [0, 0, 5], [5, 0, 0]],  # a ring: no two classes swap
    }
    for name, moved in pure.items():
        found = change_table.overall(stay + np.array(moved))
        assert found["change"] == np.sum(moved)
        assert found["total"] == 180 + np.sum(moved)
        for part in pure:
            assert found[part] == (np.sum(moved) if part == name else 0)
    one = change_table.components(stay + np.array(pure["quantity"]))
    assert one["net"].tolist() == [-5, 5, 0]
    assert (one["gain"].tolist(), one["loss"].tolist()) == ([0, 5, 0], [5, 0, 0])


def test_components_of_random_matrices_by_matching_changes_one_by_one():
    """Each change is paired with an opposite one while there is one: that is exchange."""
    random = np.random.default_rng(0)
    for _ in range(20):
        matrix = random.integers(0, 9, (5, 5))
        left, exchange = matrix.copy(), np.zeros(5)
        for i in range(5):
            for j in range(5):
                while i != j and left[i, j] and left[j, i]:
                    left[i, j] -= 1
                    left[j, i] -= 1
                    exchange[[i, j]] += 2
        found = change_table.components(matrix.astype(float))
        assert np.array_equal(found["exchange"], exchange)
        # What is left has no opposite; of it each class's smaller side is shift, twice.
        gain = [sum(left[i, j] for i in range(5) if i != j) for j in range(5)]
        loss = [sum(left[j, i] for i in range(5) if i != j) for j in range(5)]
        assert found["shift"].tolist() == [2 * min(g, n) for g, n in zip(gain, loss, strict=True)]
        assert found["quantity"].tolist() == [abs(g - n) for g, n in zip(gain, loss, strict=True)]
        whole = change_table.overall(matrix.astype(float))
        assert whole["quantity"] + whole["exchange"] + whole["shift"] == whole["change"]
        assert whole["change"] == matrix.sum() - np.trace(matrix)


def test_the_door_and_its_files(tmp_path):
    *_, before, after = two_maps(tmp_path)
    found = subprocess.run(
        [sys.executable, "-m", "rsjax.change", f"--before={before}", f"--after={after}",
         f"--output={tmp_path / 'out' / 'x.tif'}"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    for part in (
        "hectares: rows before, columns after",
        "changed (",
        "exchange",
        "no class in one",
    ):
        assert part in found.stdout
    names = {"x.tif", "x.tif.aux.xml", "x.qml", "x.png", "x.csv", "x_classes.csv", "x.json",
             "x_chart.png"}  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    with open(tmp_path / "out" / "x.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["from"] != "(no class)"]
    data = json.loads((tmp_path / "out" / "x.json").read_text())
    assert sum(float(row["hectares"]) for row in rows) == pytest.approx(np.sum(data["hectares"]))
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1)
    assert '<paletteEntry value="102"' in (tmp_path / "out" / "x.qml").read_text()
    assert matplotlib.image.imread(tmp_path / "out" / "x_chart.png").shape[2] == 4


def test_a_chart_without_changes(tmp_path):
    same = np.diag([5.0, 0, 0, 0, 7])
    (tmp_path / "a.png").write_bytes(PNG(same, nomenclature.load("corine_l1")))
    picture = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    gain = np.array([int(change.change_chart.GAIN[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    # Nothing is gained: that colour is only in the legend.
    assert 0 < (np.abs(picture - gain).max(axis=2) < 0.01).sum() < 1000


def corine(folder, name, level, codes):
    return maps.write(folder / name, np.array(codes, np.uint16), tag=f"corine_l{level}")


def test_other_nomenclatures_are_translated_when_asked_and_refused_else(tmp_path, capsys):
    fine = corine(tmp_path, "fine.tif", 3, [[111, 211, 311], [523, 112, 999]])
    middle = corine(tmp_path, "middle.tif", 2, [[11, 31, 31], [51, 21, 11]])
    with pytest.raises(NomenclatureError, match=r"need one nomenclature.*from both to: corine_l1,"):
        change.compare(fine, middle, output=tmp_path)
    with pytest.raises(NomenclatureError, match="no crosswalk from 'corine_l3' to 'eurosat'"):
        change.compare(fine, middle, to="eurosat", output=tmp_path)
    assert not list(tmp_path.glob("change*"))
    found = change.compare(fine, middle, to="corine_l1", output=tmp_path)
    expected = np.zeros((5, 5))
    for i, j in ((0, 0), (1, 2), (2, 2), (4, 4), (0, 1)):
        expected[i, j] = 1
    assert np.array_equal(found["pixels"], expected)
    assert found["pixels_without_class"] == {"before": 1, "after": 0, "both": 0}
    capsys.readouterr()


def test_a_table_of_codes_translates_one_map_into_the_classes_of_the_other(tmp_path, capsys):
    world = maps.write(tmp_path / "world.tif", np.array([[10, 20, 80]], np.uint8))
    other = maps.write(tmp_path / "other.tif", np.array([[1, 1, 2]], np.uint8), tag="corine_l1")
    table = tmp_path / "table.csv"
    table.write_text("# source: ours\nfrom_code,to_code\n1,10\n2,80\n3,10\n4,90\n5,\n")
    found = change.compare(world, other, crosswalk_after=str(table), output=tmp_path)
    assert found["nomenclature"] == "worldcover"
    water = CLASSES.codes.index(80)
    cells = {(i, j): 1 for i, j in ((TREES, TREES), (SHRUBS, TREES), (water, water))}
    assert {k: 1 for k in zip(*map(tuple, np.nonzero(found["pixels"])), strict=True)} == cells
    assert "no place for count as no class: Water bodies" in capsys.readouterr().out
    with pytest.raises(NomenclatureError, match="both maps have a crosswalk; name with --to"):
        change.compare(world, other, crosswalk_after="a.csv", crosswalk_before="b.csv")
    with pytest.raises(NomenclatureError, match="expected one name, or BEFORE,AFTER"):
        change.compare(world, other, nomenclature="a,b,c")


def warped(command):
    """Does what a gdalwarp command says, by rasterio."""
    words = shlex.split(command)
    assert words[0] == "gdalwarp"
    at = {word: i for i, word in enumerate(words)}
    west, south, east, north = map(float, words[at["-te"] + 1 : at["-te"] + 5])
    width, height = map(int, words[at["-ts"] + 1 : at["-ts"] + 3])
    source, target = words[-2:]
    with rasterio.open(source) as opened:
        fill = float(words[at["-dstnodata"] + 1]) if "-dstnodata" in at else opened.nodata
        made = np.full((height, width), fill, opened.dtypes[0])
        transform = Affine((east - west) / width, 0, west, 0, (south - north) / height, north)
        rasterio.warp.reproject(rasterio.band(opened, 1), made, dst_transform=transform,
                                dst_crs=words[at["-t_srs"] + 1], dst_nodata=fill)  # fmt: skip
        maps.write(target, made, crs=words[at["-t_srs"] + 1], transform=transform, nodata=fill)


@pytest.mark.parametrize(
    "where",
    [{"transform": moved_by(0.5, 0)},
     {"transform": Affine(30.03, 0, 440_000, 0, -30.03, 5_300_000)},
     {"crs": "EPSG:32633", "transform": Affine(30, 0, -9e3, 0, -30, 5_322_300)}],
)  # fmt: skip
def test_grids_that_do_not_lie_on_each_other_are_refused_with_a_command_that_mends_it(
    tmp_path, where, capsys
):
    before = maps.write(tmp_path / "a.tif", maps.random_codes((40, 30), 1))
    after = maps.write(tmp_path / "my map.tif", maps.random_codes((90, 90)), **where)
    with pytest.raises(SceneError, match="do not lie on those of") as refused:
        change.compare(before, after, output=tmp_path)
    assert not list(tmp_path.glob("change*"))
    command = next(line for line in str(refused.value).splitlines() if line.startswith("gdalwarp"))
    warped(command)
    found = change.compare(before, tmp_path / "my map_warped.tif", output=tmp_path)
    assert np.sum(found["pixels"]) > 600
    capsys.readouterr()


def test_grids_without_remedy_by_warping_one(tmp_path):
    codes = maps.random_codes((9, 9))
    one = maps.write(tmp_path / "a.tif", codes)
    far = maps.write(tmp_path / "b.tif", codes, transform=moved_by(0, 9))
    with pytest.raises(SceneError, match="no pixel in common"):
        change.compare(one, far, output=tmp_path)
    renamed = maps.write(tmp_path / "c.tif", codes, crs="EPSG:25832")
    with pytest.raises(SceneError, match=r"not their numbers.*gdal_edit.py -a_srs EPSG:32632"):
        change.compare(one, renamed, output=tmp_path)
    turned = [maps.write(tmp_path / f"{i}.tif", codes, transform=turned_by(i))
              for i in (10, 20)]  # fmt: skip
    with pytest.raises(SceneError, match="Both are rotated or upside down"):
        change.compare(*turned, output=tmp_path)
    with pytest.raises(SceneError, match=r"my_warped.tif"):  # the one that is north up stays
        change.compare(
            maps.write(tmp_path / "my.tif", codes, transform=turned_by(5)), one, output=tmp_path
        )


def test_nothing_is_written_where_a_map_is_bad_or_would_be_overwritten(tmp_path):
    before, _, *files = two_maps(tmp_path)
    before[60, 42] = 77
    bad = maps.write(tmp_path / "bad.tif", before)
    with pytest.raises(NomenclatureError, match=r"code 77 at \(row, col\) \(60, 42\)"):
        change.compare(files[0], bad, output=tmp_path / "x")
    with pytest.raises(RsjaxError, match="is a file of the scene; choose another name"):
        change.compare(*files, output=tmp_path / "after.tif")
    with pytest.raises(ConfigError, match="expected a folder or the beginning of names"):
        change.compare(*files, output=".tif")
    none = maps.write(tmp_path / "none.tif", np.zeros_like(before))
    with pytest.raises(SceneError, match="no pixel has a class"):
        change.compare(files[0], none, output=tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"before.tif", "after.tif", "bad.tif",
                                                          "none.tif"}  # fmt: skip


def test_codes_of_many_classes_and_pairs_that_are_too_many_for_a_map():
    many = nomenclature.Nomenclature(
        "many", "", "", tuple(range(1, 121)), tuple(f"c{i}" for i in range(1, 121)),
        ("#000000",) * 120, (None,) * 120,
    )  # fmt: skip
    pixels = np.zeros((120, 120))
    pixels[:3] = np.arange(360).reshape(3, 120)
    made, index = change_map.nomenclature(pixels, many)
    assert len(made) == 255
    assert made.names[:2] == ("unchanged", "other change")
    assert made.codes[index[2, 119]] == 256 * 3 + 120
    assert made.names[index[2, 119]] == "c3 to c120"
    assert (np.diag(index) == 0).all()
    assert index[0, 5] == 1  # among the rarest
    own = pixels[(index > 1)]
    assert own.min() > pixels[(index == 1)].max()


def test_a_change_has_the_colour_of_the_new_class_with_a_quarter_of_the_old():
    pixels = np.zeros((5, 5))
    pixels[0, 1] = 1
    classes = nomenclature.load("corine_l1")
    made, _ = change_map.nomenclature(pixels, classes)
    old, new = ([int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in classes.colours[:2])
    got = [int(made.colours[2][i : i + 2], 16) for i in (1, 3, 5)]
    np.testing.assert_allclose(got, 0.25 * np.array(old) + 0.75 * np.array(new), atol=0.5)


def test_areas_of_change_adjusted_by_a_reference_sample(tmp_path, capsys):
    """The map of changes is a map like any other: sample, label, rsjax.area."""
    shape = (120, 150)
    before, after, *files = two_maps(tmp_path, shape, 0.2)
    truth = np.where(np.random.default_rng(7).random(shape) < 0.1, before, after)
    change.compare(*files, to="", output=tmp_path / "made")
    sampling.sample(tmp_path / "made.tif", units=1500, min_units=30,
                    output=str(tmp_path / "sample"))  # fmt: skip
    with rasterio.open(tmp_path / "made.tif") as made:
        known = set(np.unique(made.read(1)).tolist())
    with open(tmp_path / "sample.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        place = int(row["row"]), int(row["col"])
        i, j = (CLASSES.codes.index(codes[place]) + 1 for codes in (before, truth))
        code = 1 if i == j else 100 * i + j
        row["reference"] = str(code if code in known else "other change")
    with open(tmp_path / "sample.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = hectares.measure(tmp_path / "made.tif", sample=str(tmp_path / "sample.csv"),
                             output=str(tmp_path / "areas"))  # fmt: skip
    land_map = landmap.read_map(files[0])
    row, col = (index.ravel() for index in np.indices(shape))
    each = areas_of(land_map).at(row, col).reshape(shape)
    valid = (before > 0) & (after > 0)
    same = next(r for r in found["areas"] if r["class"] == "unchanged")
    size = each[valid & (before == truth)].sum()
    assert abs(same["adjusted_hectares"] - size) < 3 * same["adjusted_hectares_se"]
    assert same["hectares"] < same["adjusted_hectares"]  # a tenth of the changes are none
    capsys.readouterr()


def test_regions_take_the_common_grid(tmp_path):
    *_, before, after = two_maps(tmp_path, (24, 30))
    pair = change_pair.read(before, after)
    with pytest.raises(SceneError, match="no such file"):
        regions.read(tmp_path / "none.gpkg", pair)


def own_classes(folder, name, rows):
    (folder / name).parent.mkdir(exist_ok=True)
    lines = [f"{code},{called},#0000{code:02x}" for code, called in rows]
    (folder / name).write_text("\n".join(["# source: ours", "code,name,colour", *lines]) + "\n")
    return str(folder / name)


def test_nomenclatures_of_one_name_are_not_taken_for_one(tmp_path):
    old = own_classes(tmp_path, "a/classes.csv", [(1, "forest"), (2, "water")])
    new = own_classes(tmp_path, "b/classes.csv", [(1, "water"), (2, "forest")])
    path = maps.write(tmp_path / "map.tif", np.array([[1, 2]], np.uint8), tag="")
    both = {"nomenclature": f"{old},{new}", "output": tmp_path / "x"}
    with pytest.raises(NomenclatureError, match="of 'classes' with other codes or names, and chan"):
        change.compare(path, path, **both)
    with pytest.raises(
        NomenclatureError, match=r"of one name.*or translate it with --crosswalk_after"
    ):
        change.compare(path, path, to=old, **both)
    table = tmp_path / "table.csv"
    table.write_text("# source: ours\nfrom_code,to_code\n1,2\n")
    with pytest.raises(NomenclatureError, match=r"without an entry: 2\. Mend the file .*table.csv"):
        change.compare(path, path, crosswalk_after=str(table), **both)
    table.write_text("# source: ours\nfrom_code,to_code\n1,2\n2,1\n")
    found = change.compare(path, path, crosswalk_after=str(table), **both)
    assert found["pixels"] == [[0, 1], [1, 0]]


def test_where_one_map_says_its_classes_the_message_says_how_to_name_the_others(tmp_path):
    tagged = maps.write(tmp_path / "a.tif", np.array([[1, 2]], np.uint8), tag="corine_l1")
    bare = maps.write(tmp_path / "b.tif", np.array([[10, 80]], np.uint8), tag="")
    for named, message in (
        ("worldcover", r"leave that out; NAME, \(with the comma\) is for the earlier map alone"),
        ("", r"or a \.csv file; NAME, \(with the comma\) is for the earlier map alone, ,NAME for"),
    ):
        with pytest.raises(SceneError, match=message):
            change.compare(tagged, bare, nomenclature=named, output=tmp_path / "x")


def test_what_is_read_is_not_written_over_and_a_target_that_is_a_folder_leaves_nothing(tmp_path):
    classes = own_classes(tmp_path, "own.csv", [(10, "a"), (80, "b")])
    path = maps.write(tmp_path / "map.tif", np.array([[10, 80]], np.uint8), tag="")
    table = tmp_path / "t_classes.csv"
    table.write_text("# source: ours\nfrom_code,to_code\n10,10\n80,80\n")
    (tmp_path / "z.csv").mkdir()
    before = {file.name for file in tmp_path.iterdir()}
    for name, options in (
        ("own", {}),
        ("t", {"crosswalk_after": str(table)}),
        ("r", {"region_file": str(tmp_path / "r.json")}),
        ("z", {}),
    ):
        (tmp_path / "r.json").write_text("{}")
        with pytest.raises(ConfigError, match=r"over .*, which is read|is a folder"):
            change.compare(path, path, nomenclature=classes, output=tmp_path / name, **options)
    assert {file.name for file in tmp_path.iterdir()} == before | {"r.json"}


def test_where_a_table_cannot_be_written_there_is_no_map_either(tmp_path, monkeypatch):
    *_, before, after = two_maps(tmp_path)
    monkeypatch.setattr(change.outputs, "as_json", lambda _: "no bytes")
    with pytest.raises(TypeError):
        change.compare(before, after, output=tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"before.tif", "after.tif"}


def test_tables_have_the_pairs_of_each_region_and_the_terminal_some_of_the_regions():
    moved = np.zeros((5, 5))
    moved[0, 1] = 3
    both = moved + np.diag([1.0, 0, 0, 0, 0])
    classes = nomenclature.load("corine_l1")
    every = [
        change_table.Transitions(name, m, m, area_table.Tally(name, m.ravel(), m.ravel(), 0, 0))
        for name, m in [("whole map", both), ("a", moved), ("b", 0 * moved)]
    ]
    rows = change_table.pair_rows(every, classes)
    assert [(row["region"], row["pixels"]) for row in rows if row["from"] != "(no class)"] == [
        ("whole map", 1), ("whole map", 3), ("a", 3)
    ]  # fmt: skip
    assert [row["region"] for row in rows if row["from"] == "(no class)"] == ["whole map", "a", "b"]
    said = change_table.terminal([every[0]] + [every[1]] * 50, classes)
    assert said[-1] == "30 more regions of 50 are in the files"
    assert len(said) == 1 + 2 * 21 + 1


def test_names_of_changes_that_could_mean_two_pairs_have_their_codes():
    names = ("a", "a to b", "c", "b to c")
    classes = nomenclature.Nomenclature("n", "", "", (1, 2, 3, 4), names, ("#000000",) * 4,
                                        (None,) * 4)  # fmt: skip
    pixels = np.zeros((4, 4))
    pixels[0, 3] = pixels[1, 2] = pixels[0, 2] = 1
    made, _ = change_map.nomenclature(pixels, classes)
    assert made.names[2:] == ("a to c", "a to b to c (1 to 4)", "a to b to c (2 to 3)")


def test_a_chart_of_many_classes_joins_those_that_changed_least():
    random = np.random.default_rng(0)
    sizes = random.random((60, 60))
    sizes[40:] *= 1e-3
    sizes[:, 40:] *= 1e-3
    shown, matrix, rest = change.change_chart._joined(sizes)
    assert (len(shown), matrix.shape, rest) == (23, (24, 24), 37)
    assert matrix.sum() == pytest.approx(sizes.sum())
    np.testing.assert_array_equal(matrix[:23, :23], sizes[np.ix_(shown, shown)])
    left = [c for c in range(60) if c not in shown]
    np.testing.assert_allclose(matrix[:23, 23], sizes[np.ix_(shown, left)].sum(axis=1))
    np.testing.assert_allclose(matrix[23, :23], sizes[np.ix_(left, shown)].sum(axis=0))
    found = change_table.components(sizes)
    moved = found["gain"] + found["loss"]
    assert moved[shown].min() > moved[left].max()
