import dataclasses

import numpy as np
import pytest

from rsjax import sensors
from rsjax.errors import SensorError

FIRST_EIGHT = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"]
L1C = [*FIRST_EIGHT, "B8A", "B09", "B10", "B11", "B12"]
EUROSAT_FILE = [*FIRST_EIGHT, "B09", "B10", "B11", "B12", "B8A"]


def names(sensor):
    return [band.name for band in sensors.get(sensor).bands]


def test_band_order_is_the_official_one():
    assert names("sentinel2_l1c") == L1C
    assert names("sentinel2_l2a") == [band for band in L1C if band != "B10"]
    assert names("sentinel1") == ["VV", "VH"]
    for sensor in ("landsat5", "landsat7"):
        assert names(sensor) == ["B1", "B2", "B3", "B4", "B5", "B7"]
    for sensor in ("landsat8", "landsat9", "modis"):
        assert names(sensor) == [f"B{i}" for i in range(1, 8)]
    assert names("rgb") == ["red", "green", "blue"]


def test_sentinel2_resolutions():
    groups = {
        gsd: [b.name for b in sensors.get("sentinel2_l1c").bands if b.gsd_m == gsd]
        for gsd in (10, 20, 60)
    }
    assert groups == {
        10: ["B02", "B03", "B04", "B08"],
        20: ["B05", "B06", "B07", "B8A", "B11", "B12"],
        60: ["B01", "B09", "B10"],
    }


def test_wavelengths_lie_in_the_ranges_of_the_band_tables():
    ranges = {  # nm, from the agencies' tables of band limits
        ("landsat5", "B4"): (760, 900),
        ("landsat7", "B4"): (770, 900),
        ("landsat7", "B7"): (2090, 2350),
        ("landsat8", "B1"): (430, 450),
        ("landsat9", "B5"): (850, 880),
        ("modis", "B1"): (620, 670),
        ("modis", "B3"): (459, 479),
        ("modis", "B7"): (2105, 2155),
    }
    for (sensor, band), (low, high) in ranges.items():
        assert sensors.get(sensor).band(band).wavelength_nm == (low + high) / 2
    design = [443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190]
    measured = [band.wavelength_nm for band in sensors.get("sentinel2_l1c").bands]
    np.testing.assert_allclose(measured, design, atol=13)
    assert sorted(measured) == measured


def test_every_sensor_has_known_units_and_a_source():
    for name, sensor in sensors.SENSORS.items():
        assert sensor.name == name
        assert sensor.title
        assert sensor.source
        assert len(set(names(name))) == len(sensor.bands)
        assert set(sensor.units) <= sensors.UNITS.keys()


def test_unknown_names_list_the_known_ones():
    with pytest.raises(SensorError, match=r"'sentinel2_l2'; did you mean .*known: sentinel2_l1c, "):
        sensors.get("sentinel2_l2")
    with pytest.raises(SensorError, match=r"'sentinel2_l2a' has no band 'B10'; known: B01, B02, "):
        sensors.get("sentinel2_l2a").band("B10")
    with pytest.raises(SensorError, match="no unit 'dB'; known: reflectance, "):
        sensors.convert(np.ones(3), "dB", "linear_power")
    with pytest.raises(SensorError, match="no unit 'power'"):
        sensors.convert(np.ones(3), "db", "power")


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "expected"),
    [
        (1452, "reflectance_1e4_offset1000", "reflectance", 0.0452),
        (1000, "reflectance_1e4_offset1000", "reflectance", 0.0),
        (500, "reflectance_1e4_offset1000", "reflectance", -0.05),
        (1452, "reflectance_1e4", "reflectance", 0.1452),
        (452, "reflectance_1e4", "reflectance_1e4_offset1000", 1452),
        (18639, "landsat_c2_l2", "reflectance", 0.3125725),  # example of the USGS page
        (7273, "landsat_c2_l2", "reflectance", 0.0),
        (0.3125725, "reflectance", "landsat_c2_l2", 18639),
        (16000, "modis_sr", "reflectance", 1.6),
        (16000, "modis_sr", "reflectance_1e4", 16000),
        (-10, "db", "linear_power", 0.1),
        (0.001, "linear_power", "db", -30),
        (2.0, "linear_power", "db", 3.0103),
    ],
)
def test_conversions(value, from_unit, to_unit, expected):
    out = sensors.convert(np.array([[value]]), from_unit, to_unit)
    assert (out.dtype, out.shape) == (np.float32, (1, 1))
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-5)


def test_conversions_come_back():
    rng = np.random.default_rng(0)
    reflectance = rng.uniform(0.01, 1.5, (50, 3)).astype(np.float32)
    for unit, (_, _, quantity) in sensors.UNITS.items():
        if quantity == "reflectance":
            there = sensors.convert(reflectance, "reflectance", unit)
            back = sensors.convert(there, unit, "reflectance")
            np.testing.assert_allclose(back, reflectance, atol=1e-6)
    power = 10 ** rng.uniform(-4, 1, 100)
    back = sensors.convert(sensors.convert(power, "linear_power", "db"), "db", "linear_power")
    np.testing.assert_allclose(back, power, rtol=1e-5)


def test_the_same_unit_leaves_values_untouched():
    values = np.array([1, 2], np.uint16)
    assert sensors.convert(values, "reflectance_1e4", "reflectance_1e4") is values


def test_nan_stays_nan_and_what_has_no_decibels_is_refused():
    out = sensors.convert(np.array([np.nan, 1.0]), "linear_power", "db")
    np.testing.assert_array_equal(out, np.array([np.nan, 0], np.float32))
    with pytest.raises(SensorError, match="2 of 3 values of 'linear_power' are zero or less"):
        sensors.convert(np.array([0.0, -1e-3, 0.5]), "linear_power", "db")


@pytest.mark.parametrize(
    ("from_unit", "to_unit"),
    [("dn8", "reflectance"), ("db", "reflectance"), ("reflectance_1e4", "linear_power")],
)
def test_different_quantities_are_not_converted(from_unit, to_unit):
    with pytest.raises(SensorError, match=f"cannot convert '{from_unit}' .* to '{to_unit}'"):
        sensors.convert(np.ones(2), from_unit, to_unit)


def test_bands_are_selected_by_name_in_the_order_wanted():
    assert sensors.select(EUROSAT_FILE, L1C) == (0, 1, 2, 3, 4, 5, 6, 7, 12, 8, 9, 10, 11)
    assert sensors.select(("VH", "VV"), ["VV", "VH"]) == (1, 0)
    assert sensors.select(L1C, ("B04", "B03", "B02")) == (3, 2, 1)
    assert sensors.select(L1C, ()) == ()


def test_missing_and_repeated_bands_are_errors():
    with pytest.raises(SensorError) as caught:
        sensors.select(["B02", "B03"], ["B02", "B8A", "B11"], "scene.tif")
    assert str(caught.value).startswith("scene.tif: band B8A, B11 is missing; there are B02, B03.")
    with pytest.raises(SensorError, match="band B02 is there more than once"):
        sensors.select(["B02", "B02", "B03"], ["B03"])


def test_valid_ranges():
    assert sensors.valid_range("rgb", "dn8") == (0, 255)
    assert sensors.valid_range("sentinel1", "db") == (-50, 30)
    for sensor in sensors.SENSORS.values():
        first = sensor.units[0]
        for unit in sensor.units:
            low, high = sensors.valid_range(sensor, unit)
            assert low < high
            if sensors.UNITS[unit][2] == sensors.UNITS[first][2]:
                limits = sensors.convert(
                    np.array(sensors.valid_range(sensor.name, first)), first, unit
                )
                np.testing.assert_allclose(limits, [low, high], rtol=1e-5, atol=1e-4)
    low, high = sensors.valid_range("landsat8", "landsat_c2_l2")
    assert low <= 7273 < 43636 <= high  # the range that USGS states
    with pytest.raises(SensorError, match="do not come in 'dn8'; known: db, linear_power"):
        sensors.valid_range("sentinel1", "dn8")


def test_sensors_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        sensors.get("rgb").bands[0].name = "green"


def test_real_sentinel1_patch_is_in_decibels(samples):
    rasterio = pytest.importorskip("rasterio")
    low, high = sensors.valid_range("sentinel1", "db")
    paths = sorted((samples / "bigearthnet_v2" / "BigEarthNet-S1").glob("**/*_V[VH].tif"))
    assert paths
    for path in paths:
        with rasterio.open(path) as file:
            values = file.read(1)
        assert low < values.min() < 0
        assert values.max() < high
