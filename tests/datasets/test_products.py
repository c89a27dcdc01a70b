import shutil

import numpy as np
import pytest
import rasterio

from rsjax.datasets import files, products, scene_list
from rsjax.datasets.own_scenes import OwnScenes
from rsjax.datasets.scene_list import Grid, Labels, Scene, SceneList, Split
from rsjax.errors import DatasetError

L2A = "S2B_MSIL2A_20220807T105629_N0400_R094_T31UGS_20220807T134521.SAFE"
L1C = "S2A_MSIL1C_20170613T101031_N0205_R022_T33UUP_20170613T101608.SAFE"
OLI = "LC08_L2SP_198024_20200601_20200825_02_T1"
# The bands of the sensors in the order of `rsjax.sensors`, with their distances.
S2 = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10,
      "B8A": 20, "B09": 60, "B10": 60, "B11": 20, "B12": 20}  # fmt: skip
MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
    REFLECTANCE_MULT_BAND_1 = 2.75e-05
    REFLECTANCE_ADD_BAND_1 = -0.2
  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_1 = 2.0000E-05
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
"""


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def metadata(level, offset):
    """The lines of a product's metadata that tell the unit."""
    kind, scale = ("BOA", "BOA_QUANTIFICATION_VALUE") if level == "L2A" else (
        "RADIO", "QUANTIFICATION_VALUE")  # fmt: skip
    lines = [f'<{scale} unit="none">10000</{scale}>', '<AOT_QUANTIFICATION_VALUE unit="none">'
             "1000.0</AOT_QUANTIFICATION_VALUE>"]  # fmt: skip
    if offset is not None:
        lines += [f'<{kind}_ADD_OFFSET band_id="{i}">{offset}</{kind}_ADD_OFFSET>'
                  for i in range(13)]  # fmt: skip
    return "<x>\n" + "\n".join(lines) + "\n</x>"


@pytest.fixture
def l2a(tmp_path):
    """A level 2A product of empty files: bands at their own and at coarser distances."""
    data = f"{L2A}/GRANULE/L2A_T31UGS_A028305_20220807T105628/IMG_DATA"
    stem = "T31UGS_20220807T105629"
    for band, gsd in S2.items():
        for coarser in (10, 20, 60):
            if band != "B10" and gsd <= coarser:
                touch(tmp_path, f"{data}/R{coarser}m/{stem}_{band}_{coarser}m.jp2")
    touch(tmp_path, f"{data}/R10m/{stem}_TCI_10m.jp2", f"{data}/R20m/{stem}_SCL_20m.jp2")
    touch(tmp_path, f"{L2A}/GRANULE/L2A_T31UGS_A028305_20220807T105628/QI_DATA/MSK_B02_10m.jp2")
    (tmp_path / L2A / "MTD_MSIL2A.xml").write_text(metadata("L2A", -1000))
    return tmp_path


def test_level_2a_has_each_band_at_its_own_distance(l2a):
    found = products.find(files.folder(l2a), L2A)
    assert found.sensor == "sentinel2_l2a"
    assert found.unit == "reflectance_1e4_offset1000"
    assert found.date == "2022-08-07"
    assert [f.bands for f in found.files] == [(b,) for b in S2 if b != "B10"]
    for file in found.files:
        assert file.path.endswith(f"_{file.bands[0]}_{S2[file.bands[0]]}m.jp2")


@pytest.mark.parametrize(
    ("baseline", "offset", "unit"),
    [
        ("N0400", -1000, "reflectance_1e4_offset1000"),
        ("N0510", -1000, "reflectance_1e4_offset1000"),
        ("N0300", None, "reflectance_1e4"),
        ("N9999", None, "reflectance_1e4"),
        ("N9999", -1000, "reflectance_1e4_offset1000"),
        ("N0400", "none", "reflectance_1e4_offset1000"),
        ("N0214", "none", "reflectance_1e4"),
    ],
)
def test_unit_is_that_of_the_metadata_or_else_of_the_baseline(l2a, baseline, offset, unit):
    name = L2A.replace("N0400", baseline)
    if name != L2A:
        (l2a / L2A).rename(l2a / name)
    path = l2a / name / "MTD_MSIL2A.xml"
    path.unlink()
    if offset != "none":
        path.write_text(metadata("L2A", offset))
    assert products.find(files.folder(l2a), name).unit == unit


def test_level_1c(tmp_path):
    data = f"{L1C}/GRANULE/L1C_T33UUP_A010329_20170613T101608/IMG_DATA"
    touch(tmp_path, *(f"{data}/T33UUP_20170613T101031_{band}.jp2" for band in [*S2, "TCI"]))
    (tmp_path / L1C / "MTD_MSIL1C.xml").write_text(metadata("L1C", None))
    found = products.find(files.folder(tmp_path), L1C)
    assert (found.sensor, found.unit) == ("sentinel2_l1c", "reflectance_1e4")
    assert [f.bands[0] for f in found.files] == list(S2)
    some = products.find(files.folder(tmp_path), L1C, ("B02", "B10")).files
    assert [f.bands[0] for f in some] == ["B02", "B10"]


@pytest.mark.parametrize(
    ("name", "sensor", "bands", "unit"),
    [
        (OLI, "landsat8", "1234567", "landsat_c2_l2"),
        (OLI.replace("LC08", "LC09"), "landsat9", "1234567", "landsat_c2_l2"),
        (OLI.replace("LC08", "LE07"), "landsat7", "123457", "landsat_c2_l2"),
        ("LT05_L1TP_198024_20100601_20200825_02_T1", "landsat5", "123457", "dn8"),
    ],
)
def test_landsat(tmp_path, name, sensor, bands, unit):
    prefix = "SR_" if "_L2" in name else ""
    touch(tmp_path, *(f"{name}/{name}_{prefix}B{b}.TIF" for b in bands))
    touch(tmp_path, f"{name}/{name}_ST_B6.TIF", f"{name}/{name}_QA_PIXEL.TIF")
    (tmp_path / name / f"{name}_MTL.txt").write_text(MTL)
    found = products.find(files.folder(tmp_path), name)
    assert (found.sensor, found.unit) == (sensor, unit)
    assert found.date == f"{name[17:21]}-06-01"
    assert [(f.path, f.bands) for f in found.files] == [
        (f"{name}/{name}_{prefix}B{b}.TIF", (f"B{b}",)) for b in bands
    ]


def test_what_is_wrong_with_a_product_is_named(l2a):
    source = files.folder(l2a)
    path = l2a / L2A / "MTD_MSIL2A.xml"

    def refused(message, name=L2A):
        with pytest.raises(DatasetError, match=message):
            products.find(source, name)

    path.write_text(metadata("L2A", None))
    refused("offset 0 with processing baseline N0400")
    path.write_text(metadata("L2A", -500))
    refused(r"offsets \[-500\], expected 10000")
    path.write_text(metadata("L2A", -1000).replace(">10000<", ">1000<"))
    refused(r"quantification \[1000.0\]")
    path.write_text(metadata("L2A", -1000))
    next(l2a.rglob("*_B05_20m.jp2")).unlink()
    refused("0 files of band B05")
    touch(l2a, f"{L2A}/GRANULE/a/IMG_DATA/R20m/x_B05_20m.jp2")
    touch(l2a, f"{L2A}/GRANULE/b/IMG_DATA/R20m/x_B05_20m.jp2")
    refused("2 files of band B05 .*expected one")
    shutil.rmtree(l2a / L2A / "GRANULE/b")
    shutil.copytree(l2a / L2A, l2a / "renamed")
    refused("renamed: not the name of a product", "renamed")
    name = L2A.replace("N0400", "N9999")
    (l2a / L2A).rename(l2a / name)
    (l2a / name / "MTD_MSIL2A.xml").unlink()
    refused("MTD_MSIL2A.xml: no such file, and baseline N9999", name)


def test_what_is_wrong_with_landsat_is_named(tmp_path):
    source = files.folder(tmp_path)
    for name, message in (
        (OLI.replace("LC08", "LT04"), "satellite LT04, expected one of LT05"),
        (OLI.replace("L2SP", "L1TP"), "level 1 of landsat8, expected level 2"),
        (OLI, "0 files of band B1, expected one"),
    ):
        touch(tmp_path, f"{name}/x")
        with pytest.raises(DatasetError, match=message):
            products.find(source, name)
    touch(tmp_path, *(f"{OLI}/{OLI}_SR_B{b}.TIF" for b in range(1, 8)))
    (tmp_path / OLI / f"{OLI}_MTL.txt").write_text(MTL.replace("2.75e-05", "2.00e-05"))
    with pytest.raises(DatasetError, match=r"REFLECTANCE_MULT 2\.00e-05, expected 2\.75e-05"):
        products.find(source, OLI)


def test_a_product_of_jpeg_2000_is_read_as_it_is(tmp_path):
    """Bands of 10, 20 and 60 m, lossless, in three entries; two baselines in one unit."""
    rng, truth = np.random.default_rng(1), {}
    scenes, left = [], 300_000.0
    for name, offset in ((L2A, -1000), (L2A.replace("N0400", "N0300").replace("2022", "2021"), 0)):
        stored = {}
        for band, gsd in (("B02", 10), ("B05", 20), ("B09", 60)):
            side = 240 * 10 // gsd
            stored[band] = rng.integers(1100, 9000, (side, side)).astype(np.uint16)
            path = tmp_path / name / "GRANULE/x/IMG_DATA" / f"R{gsd}m" / f"T_{band}_{gsd}m.jp2"
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(
                path, "w", driver="JP2OpenJPEG", width=side, height=side, count=1, dtype="uint16",
                crs="EPSG:32631", transform=rasterio.Affine(gsd, 0, left, 0, -gsd, 5_700_000),
                QUALITY=100, REVERSIBLE="YES", BLOCKXSIZE=64, BLOCKYSIZE=64,
            ) as raster:  # fmt: skip
                raster.write(stored[band], 1)
        (tmp_path / name / "MTD_MSIL2A.xml").write_text(metadata("L2A", offset or None))
        scenes.append(Scene(f"s{len(scenes)}", product=name))
        truth[scenes[-1].id] = {b: p.astype(int) + offset for b, p in stored.items()}
        left += 240 * 10
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", width=480, height=240, count=1, dtype="uint8",
        crs="EPSG:32631", transform=rasterio.Affine(10, 0, 300_000, 0, -10, 5_700_000),
    ) as raster:  # fmt: skip
        raster.write(np.full((240, 480), 10, np.uint8), 1)
    scene_list.write(
        SceneList(
            sensor="sentinel2_l2a", unit="reflectance_1e4", scenes=tuple(scenes),
            bands=("B02", "B05", "B09"), grid=Grid(patch_px=120), split=Split(block_patches=1),
            labels=Labels("worldcover", raster=("map.tif",)),
        ),
        tmp_path / "scenes.json",
    )  # fmt: skip
    dataset = OwnScenes(tmp_path)
    assert {n: s.gsd_m for n, s in dataset.info.images.items()} == {
        "image_10m": 10.0, "image_20m": 20.0, "image_60m": 60.0,
    }  # fmt: skip
    keys = [key for split in dataset.info.splits for key in dataset.keys(split)]
    assert len(keys) == 8
    for key in keys:
        example = dataset.read(key)
        row, col = map(int, key.rpartition("@")[2].split("_"))
        for entry, band, step in (
            ("image_10m", "B02", 1), ("image_20m", "B05", 2), ("image_60m", "B09", 6),
        ):  # fmt: skip
            r, c, px = row // step, col // step, 120 // step
            np.testing.assert_array_equal(
                example[entry][..., 0], truth[example["scene"]][band][r : r + px, c : c + px]
            )
        assert example["date"] == ("2022-08-07" if example["scene"] == "s0" else "2021-08-07")
    scene_list.write(
        SceneList(
            sensor="sentinel2_l2a", scenes=tuple(scenes), bands=("B02",),
            labels=Labels("worldcover", raster=("map.tif",)),
        ),
        tmp_path / "scenes.json",
    )  # fmt: skip
    with pytest.raises(DatasetError, match=r"units reflectance_1e4, reflectance_1e4_offset1000"):
        OwnScenes(tmp_path).keys("train")
