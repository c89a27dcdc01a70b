import csv
import json

import area_maps as maps
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from rsjax import sealed
from rsjax.errors import ConfigError, NomenclatureError, SampleError
from rsjax.mapping import area_table, landmap, pixel_area, sample_design, sample_files, sampling
from rsjax.mapping.area_estimate import estimate

# Olofsson et al. 2014, section 5: mapped shares and conjectured users' accuracies.
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
USERS = np.array([0.7, 0.6, 0.9, 0.95])


def test_sample_size_of_olofsson_2014():
    assert sample_design.size_for(PIXELS / 1e7, USERS, 0.01, 1e7) == 641
    # Of a small population fewer suffice: Cochran's last term.
    small = sample_design.size_for(PIXELS / 1e7, USERS, 0.01, 2000)
    spread = (PIXELS / 1e7) @ np.sqrt(USERS * (1 - USERS))
    last = (PIXELS / 1e7) @ (USERS * (1 - USERS)) / 2000
    assert small == np.ceil(spread**2 / (0.01**2 + last))
    assert small < 641


def test_allocations_of_olofsson_2014():
    assert sample_design.allocate(641, PIXELS, "proportional").tolist() == [13, 10, 205, 413]
    assert sorted(sample_design.allocate(641, PIXELS, "equal")) == [160, 160, 160, 161]
    found = sample_design.allocate(641, PIXELS, "compromise", 75)
    assert found[:2].tolist() == [75, 75]
    assert found.sum() == 641
    assert found[2] / found[3] == pytest.approx(3.2 / 6.45, abs=0.005)


def test_no_stratum_gets_more_units_than_pixels_or_fewer_than_two():
    random = np.random.default_rng(0)
    for _ in range(200):
        pixels = np.ceil(10 ** random.uniform(0.4, 6, random.integers(1, 9))).astype(np.int64)
        for method in sample_design.ALLOCATIONS:
            found = sample_design.allocate(1000, pixels, method, 50)
            assert (found <= pixels).all()
            assert (found >= np.minimum(pixels, 2 if method != "compromise" else 50)).all()
            if (found < pixels).all():
                assert found.sum() == 1000


def test_the_target_is_reached_with_as_few_units_as_the_allocation_needs():
    weights = PIXELS / PIXELS.sum()
    for method in sample_design.ALLOCATIONS:
        units = sample_design.size_and_allocate(weights, USERS, 0.01, PIXELS, method)
        assert sample_design.expected_se(weights, USERS, units, PIXELS) <= 0.01
        fewer = sample_design.allocate(int(units.sum()) - 5, PIXELS, method)
        assert sample_design.expected_se(weights, USERS, fewer, PIXELS) > 0.01
        assert units.sum() >= 641


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_design.size_for(np.ones(1), np.ones(1) / 2, 0.0, 9), "target standard"),
        (lambda: sample_design.size_for(np.ones(1), np.ones(1) * 2, 0.1, 9), "0 to 1"),
        (lambda: sample_design.size_for(np.ones(1), np.ones(1), 0.1, 9), "nothing to estimate"),
        (lambda: sample_design.allocate(100, PIXELS, "optimal"), "expected one of compromise"),
        (lambda: sample_design.allocate(100, PIXELS), "too few for 4 strata with at least 75"),
        (lambda: sample_design.allocate(9, np.array([1, 9]), "equal"), "a stratum of 1 pixel"),
    ],
)
def test_impossible_designs_are_refused(call, message):
    with pytest.raises(SampleError, match=message):
        call()


def counted(path):
    land_map = landmap.read_map(path)
    areas = pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)
    return land_map, area_table.tally(land_map, areas)


def test_pixels_are_drawn_once_each_in_their_stratum_and_again_with_the_seed(tmp_path, monkeypatch):
    codes = maps.random_codes((40, 50))
    codes[:, 7] = 0
    land_map, tally = counted(maps.write(tmp_path / "map.tif", codes))
    units = np.zeros(11, np.int64)
    units[[0, 1, 2, 3, 7]] = (30, 20, 5, 2, 40)
    monkeypatch.setattr(landmap.windows, "__defaults__", (150,))  # many blocks
    drawn = sample_design.draw(land_map, tally.pixels, units, 5)
    assert np.array_equal(np.bincount(drawn.stratum, minlength=11), units)
    assert len(set(zip(drawn.row.tolist(), drawn.col.tolist(), strict=True))) == units.sum()
    truth = land_map.nomenclature.encode(codes)[drawn.row, drawn.col]
    assert np.array_equal(truth, drawn.stratum)
    again = sample_design.draw(land_map, tally.pixels, units, 5)
    assert np.array_equal(again.row, drawn.row)
    other = sample_design.draw(land_map, tally.pixels, units, 6)
    assert not np.array_equal(other.row, drawn.row)
    every = sample_design.draw(land_map, tally.pixels, tally.pixels.astype(int), 0)
    assert len(set(zip(every.row.tolist(), every.col.tolist(), strict=True))) == (codes > 0).sum()
    with pytest.raises(SampleError, match="other pixels than were counted"):
        sample_design.draw(land_map, tally.pixels + (tally.pixels > 0), units, 0)


def test_every_pixel_of_a_stratum_is_as_likely_and_estimates_are_unbiased(tmp_path):
    codes = maps.random_codes((20, 30), share=(0.6, 0.4, 0, 0, 0))
    land_map, tally = counted(maps.write(tmp_path / "map.tif", codes))
    truth = np.where(np.random.default_rng(1).random(codes.shape) < 0.8, codes == 20, codes == 10)
    units = np.zeros(11, np.int64)
    units[:2] = 30, 30
    often, areas, runs = np.zeros(codes.shape), [], 200
    for seed in range(runs):
        drawn = sample_design.draw(land_map, tally.pixels, units, seed)
        often[drawn.row, drawn.col] += 1
        found = estimate(drawn.stratum, drawn.stratum, truth[drawn.row, drawn.col].astype(int),
                         tally.pixels[:2], 2, population=tally.pixels[:2])  # fmt: skip
        areas.append([found.area.value[1], found.area.se[1]])
    for c, code in enumerate((10, 20)):
        expected = runs * 30 / tally.pixels[c]
        drawn_often = often[codes == code]
        chi2 = ((drawn_often - expected) ** 2 / expected).sum() / (1 - 30 / tally.pixels[c])
        freedom = tally.pixels[c] - 1
        assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom)
    values, errors = np.array(areas).T
    assert values.mean() == pytest.approx(truth.sum(), abs=4 * values.std() / np.sqrt(runs))
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)


def test_points_and_design_on_disk(tmp_path, capsys):
    codes = maps.random_codes((60, 80), share=(0.5, 0.45, 0.04, 0.01, 0))
    path = maps.write(tmp_path / "map.tif", codes)
    files = sampling.sample(path, target_se=0.03, min_units=20, users_accuracy=["Tree cover=0.9"])
    assert [file.name for file in files] == [
        "map_sample.gpkg", "map_sample.csv", "map_sample.design.json"]  # fmt: skip
    design = sample_files.read_design(files[2])
    assert design.codes == (10, 20, 30, 40)
    assert design.pixels.tolist() == [(codes == code).sum() for code in design.codes]
    assert design.about["assumed"]["conjectured_share"]["Tree cover"] == 0.9
    with open(files[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == design.units.sum()
    meta, _, geometry, values = pyogrio.raw.read(files[0])
    fields = dict(zip(meta["fields"], values, strict=True))
    assert "EPSG:32632" in meta["crs"]
    with rasterio.open(path) as raster:
        for i, (row, point) in enumerate(zip(rows, shapely.from_wkb(geometry), strict=True)):
            assert (float(row["x"]), float(row["y"])) == (point.x, point.y)
            assert raster.xy(int(row["row"]), int(row["col"])) == (point.x, point.y)
            assert int(row["stratum"]) == codes[int(row["row"]), int(row["col"])]
            assert fields["stratum"][i] == int(row["stratum"])
            assert row["reference"] == ""
            n = design.codes.index(int(row["stratum"]))
            assert float(row["weight"]) == design.pixels[n] / design.units[n]
    assert "expected standard error of overall accuracy" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"map_sample.gpkg exists; move it away"):
        sampling.sample(path, units=100, min_units=20)
    data = json.loads(files[2].read_text())
    data["strata"][0]["pixels"] += 1
    files[2].write_text(json.dumps(data))
    with pytest.raises(SampleError, match=r"edited by hand.*--design=stratified"):
        sample_files.read_design(files[2])
    sealed.write(files[2], {"kind": "by hand"})
    with pytest.raises(SampleError, match="kind 'by hand'"):
        sample_files.read_design(files[2])
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_area_of_one_class_can_be_the_target(tmp_path, capsys):
    path = maps.write(tmp_path / "map.tif", maps.random_codes((60, 80)))
    options = {"target_class": "Cropland", "min_units": 10}
    for se in (0.02, 0.01):
        files = sampling.sample(path, target_se=se, output=str(tmp_path / f"{se}"), **options)
        assumed = sample_files.read_design(files[2]).about["assumed"]
        assert assumed["target"] == "area of Cropland"
        assert assumed["conjectured_share"]["Cropland"] == 0.8
        assert assumed["conjectured_share"]["Grassland"] == 0.01
    sizes = [sample_files.read_design(tmp_path / f"{se}.design.json").units.sum()
             for se in (0.02, 0.01)]  # fmt: skip
    assert sizes[1] > sizes[0]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "either --units=N or --target_se"),
        ({"units": 9, "target_se": 0.1}, ConfigError, "either"),
        ({"units": 99, "users_accuracy": ["Tree cover"]}, ConfigError, "CLASS=ACCURACY"),
        ({"units": 99, "users_accuracy": ["Tree=0.9"]}, NomenclatureError, "Tree cover"),
        ({"units": 99, "omission": 2.0}, ConfigError, "--omission=2.0"),
        ({"target_se": 0.1, "target_class": "Wood"}, NomenclatureError, "--target_class"),
    ],
)
def test_wrong_options_write_nothing(tmp_path, options, error, message):
    path = maps.write(tmp_path / "map.tif", maps.random_codes((9, 9)))
    with pytest.raises(error, match=message):
        sampling.sample(path, **options)
    assert list(tmp_path.iterdir()) == [path]
