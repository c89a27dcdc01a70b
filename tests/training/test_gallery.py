import base64
import dataclasses
import re

import imagecodecs
import numpy as np
import pytest
import rasterio.transform
import rasterio.warp
import toy
from array_record.python.array_record_module import ArrayRecordWriter
from html_page import Page

from rsjax import landcover
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import ConfigError, ShardError
from rsjax.input import manifest as manifests
from rsjax.input import records
from rsjax.landcover import IGNORE
from rsjax.training import gallery, gallery_figures, gallery_patches, gallery_scan

CORINE = landcover.load("corine_l2")
SIZES = {"train": 30, "test": 6}


def example(rng, number, label):
    """A scene of varying size without a value at its left edge, and its map, if it has one."""
    height = 24 + number % 3
    image = rng.integers(1, 255, (height, 20, 3)).astype(np.uint8)
    image[:, :5] = 0  # nodata: a quarter
    one = {"id": f"<b>{number}", "image": image, "crs": ("EPSG:32632", "EPSG:3035")[number % 2],
           "transform": np.array([10.0, 0, 500_000 + number, 0, -10.0, 5e6])}  # fmt: skip
    if one["crs"] == "EPSG:3035":
        one["transform"][[2, 5]] = 4_321_000, 3_210_000
    if label == "index":
        one["label"] = number % 3
    if label is None:
        one["mask"] = np.full((8, 8), 4, np.uint8)
        one["mask"][0] = IGNORE
        one["mask"][1:3, : number % 8] = 2
    return one


def write(root, label):
    info = DatasetInfo(
        name="toy", version="1.0.0", title="Toy <i>& title", page="https://example.org",
        licence="CC0 & more", citation="Nobody 2020", label=label, nomenclature="corine_l2",
        images={"image": ImageSpec("rgb", ("red", "green", "blue"), 0, 0, "uint8", "dn8", 10.0, 0)},
        mask=None if label else (8, 8), mask_nomenclature=None if label else "corine_l2",
        metadata=(), splits=dict.fromkeys(SIZES, 0), rgb=("image", ("red", "green", "blue")),
        rgb_range=(0, 255), georeferenced=True,
    )  # fmt: skip
    root.mkdir(parents=True)
    features = records.features(info, CORINE.names)
    rng, splits, every = np.random.default_rng(0), {}, {}
    for split, size in SIZES.items():
        path = root / f"toy-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        every[split] = [example(rng, number, label) for number in range(size)]
        for one in every[split]:
            writer.write(features.serialize_example(one))
        writer.close()
        counts = np.bincount([one.get("label", 0) for one in every[split]], minlength=len(CORINE))
        pixels = sum(
            np.bincount(one["mask"].ravel(), minlength=256) for one in every[split] if "mask" in one
        )
        splits[split] = {
            "records": size, "class_counts": counts.tolist(),
            "mask_counts": None if label else pixels.tolist(), "skipped": [],
            "shards": [{"file": path.name, "records": size, "bytes": path.stat().st_size,
                        "sha256": manifests.digest(path),
                        "ends_sha256": manifests.ends_digest(path)}],
        }  # fmt: skip
    made = manifests.Manifest(root, info, {}, "toy", False, CORINE, None if label else CORINE,
                              splits, {}, "none")  # fmt: skip
    manifests.save(made)
    return made, every


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    root = tmp_path_factory.mktemp("index") / "toy" / "1.0.0"
    made, every = write(root, "index")
    return made, every, gallery.write(root, root.parent / "page", "train", 7)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    root = tmp_path_factory.mktemp("maps") / "toy" / "1.0.0"
    made, every = write(root, None)
    return made, every, gallery.write(root, root.parent / "page", "train", 5)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    root = toy.write(tmp_path_factory.mktemp("toy"), maps=True)
    return manifests.load(root), gallery.write(root, root / "page", "test", 3)


def test_the_page_is_one_well_formed_file_with_what_the_card_says(labelled):
    _, _, path = labelled
    page = Page(path.read_text())
    assert all(link.startswith("data:image/") for link in page.links)
    for text in ("Toy <i>& title", "CC0 & more", "Nobody 2020", "of varying size",
                 "digital number, 8 bits", "7 drawn at random"):  # fmt: skip
        assert text in page.all
    assert "SIMULATED" not in path.read_text()
    names = {file.name for file in path.parent.glob("*.png")}
    assert names == {"balance_patches.png", "bands.png", "patches.png", "places.png"}
    for name in names - {"patches.png"}:
        data = (path.parent / name).read_bytes()
        assert f"data:image/png;base64,{base64.b64encode(data).decode()}" in page.links
        assert np.ptp(imagecodecs.png_decode(data)) == 255


def test_each_card_has_the_label_of_its_record_in_words(labelled):
    _, every, path = labelled
    text = path.read_text()
    cards = re.findall(r"<code>&lt;b&gt;(\d+)</code>(.*?)</figcaption>", text, re.S)
    drawn, of_classes = cards[:7], cards[7:]
    assert len({number for number, _ in drawn}) == 7
    assert len(of_classes) == 3
    for number, rest in cards:
        assert re.sub("<.*?>", "", rest) == CORINE.names[every["train"][int(number)]["label"]]
    headed = re.findall(r"<b>([^<]*)</b><br><code>&lt;b&gt;(\d+)", text)
    assert [name for name, _ in headed] == list(CORINE.names[:3])
    assert [int(number) % 3 for _, number in headed] == [0, 1, 2]
    absent = re.search(r"None of the 30 records of train that were read has: (.*)\.</p>", text)
    assert absent.group(1).split("; ") == list(CORINE.names[3:])
    counts = Page(text).rows
    assert [cell["value"] for cell in counts[CORINE.names[0]]] == [10, 2]


def test_without_labels_the_maps_are_described(mapped):
    made, every, path = mapped
    text = path.read_text()
    cards = re.findall(r"<code>&lt;b&gt;(\d+)</code>(.*?)</figcaption>", text, re.S)
    for number, rest in cards:
        mask = every["train"][int(number)]["mask"]
        counts = np.bincount(mask.ravel(), minlength=256)
        for name, index in ((CORINE.names[4], 4), (CORINE.names[2], 2), ("not labelled", IGNORE)):
            expected = f"</span>{name} {100 * counts[index] / 64:.0f} %</li>"
            assert (expected in rest) == (counts[index] > 0)
    # The example of a class is a record with most of it.
    best = re.search(rf"<b>{re.escape(CORINE.names[2])}</b><br><code>&lt;b&gt;(\d+)", text)
    assert int(best.group(1)) % 8 == 7
    rows = Page(text).rows
    expected = [made.splits[split]["mask_counts"][IGNORE] for split in SIZES]
    assert [cell["value"] for cell in rows["not labelled"]] == expected
    assert (path.parent / "balance_pixels.png").is_file()
    assert not (path.parent / "balance_patches.png").exists()


def test_maps_are_drawn_in_the_colours_of_their_classes(mapped):
    _, every, path = mapped
    found = re.findall(r'alt="map of &lt;b&gt;(\d+)"', path.read_text())
    assert found
    pictures = re.findall(
        r'src="data:image/png;base64,([^"]*)" alt="map of &lt;b&gt;(\d+)"', path.read_text()
    )
    for data, number in pictures:
        mask, drawn = every["train"][int(number)]["mask"], imagecodecs.png_decode(
            base64.b64decode(data))  # fmt: skip
        for index in (2, 4):
            colour = np.frombuffer(bytes.fromhex(CORINE.colours[index][1:]), np.uint8)
            assert (drawn[mask == index] == colour).all()
        ignored = drawn[mask == IGNORE]
        assert (ignored == ignored[:, :1]).all()  # greys, two of them
        assert len(np.unique(ignored)) == 2


def test_places_are_those_of_an_own_transformation(labelled):
    made, every, _ = labelled
    found = gallery_scan.scan(made, "test")
    assert found.read == SIZES
    for split, rows in every.items():
        expected = []
        for one in rows:
            height, width, _ = one["image"].shape
            x, y = rasterio.transform.xy(
                rasterio.Affine(*one["transform"]), height / 2, width / 2, offset="ul"
            )
            (lon,), (lat,) = rasterio.warp.transform(one["crs"], "EPSG:4326", [x], [y])
            expected.append((lon, lat))
        np.testing.assert_allclose(found.centres[split], expected, rtol=0, atol=1e-9)


def test_a_scan_of_a_part_is_said(labelled, monkeypatch):
    made, _, _ = labelled
    monkeypatch.setattr(gallery_scan, "RECORDS", 12)
    found = gallery_scan.scan(made, "train")
    assert found.read == {"train": 10, "test": 2}
    assert {name: len(rows) for name, rows in found.centres.items()} == found.read
    said = gallery._places(made, found, made.root / "part")
    assert "12 of 36 patches, drawn at random: their centres" in said


def test_histograms_leave_nodata_out(labelled):
    made, every, _ = labelled
    values, missing, read = gallery_scan.band_values(made, "train", 100)
    assert read == 30
    pixels = np.concatenate([one["image"].reshape(-1, 3) for one in every["train"]])
    assert missing == {"image": pytest.approx((pixels == 0).all(axis=1).mean())}
    expected = pixels[(pixels != 0).any(axis=1)]
    np.testing.assert_array_equal(values["image"], expected)
    figure = gallery_figures.histograms(values, made.info.images, made.statistics, missing)
    assert [axes.get_title() for axes in figure.axes] == [
        f"rgb {band}\n25 % nodata" for band in ("red", "green", "blue")
    ]
    assert {axes.get_xlabel() for axes in figure.axes} == {"digital number, 8 bits"}


def test_the_mean_of_the_manifest_is_marked(simulated):
    made, _ = simulated
    values, missing, _ = gallery_scan.band_values(made, "train", 4)
    figure = gallery_figures.histograms(values, made.info.images, made.statistics, missing)
    known = made.statistics["sentinel2_l2a"]["B03"]
    lines = sorted(line.get_xdata()[0] for line in figure.axes[1].lines)
    expected = known["mean"] + known["std"] * np.array([-1, 0, 1])
    np.testing.assert_allclose(lines, expected)


def test_simulated_imagery_is_said_and_no_coordinates_too(simulated):
    _, path = simulated
    text = path.read_text()
    assert 'class="banner">SIMULATED' in text
    assert "not georeferenced" in text
    assert not (path.parent / "places.png").exists()
    assert "country Austria" in text  # text entries of the shards
    assert "no label" not in text


@pytest.mark.parametrize(("largest", "log"), [(1000, False), (1001, True)])
def test_bars_are_logarithmic_beyond_a_spread_of_100(largest, log):
    counts = {"train": np.array([10, largest, 0])}
    figure = gallery_figures.balance(counts, ("a", "b", "c"), ("#ff0000",) * 3, "pixels",
                                     {"train": 10 + largest})  # fmt: skip
    axes = figure.axes[0]
    assert (axes.get_xscale() == "log") == log
    assert ("log scale" in axes.get_xlabel()) == log
    shares = [text.get_text() for text in axes.texts]
    assert shares == ["10 · 1.0 %", f"{largest:,} · 99.0 %", "none"]
    assert [patch.get_width() for patch in axes.patches] == [10, largest, 0]


def test_what_cannot_be_drawn_is_one_message(labelled, tmp_path):
    made, _, _ = labelled
    with pytest.raises(ConfigError, match="samples=0"):
        gallery.write(made.root, tmp_path, "train", 0)
    with pytest.raises(ShardError, match="no split 'trian'"):
        gallery.write(made.root, tmp_path, "trian")
    with pytest.raises(ShardError, match=r"no prepared shards in .*--data_dir"):
        gallery.find(tmp_path)
    data_dir = made.root.parent.parent
    assert gallery.find(data_dir) == made.root
    other = toy.write(data_dir)
    with pytest.raises(ConfigError, match="bigearthnet, toy: choose one, --dataset=bigearthnet"):
        gallery.find(data_dir)
    assert gallery.find(data_dir, "bigearthnet") == other


def test_a_damaged_coordinate_system_is_named(labelled):
    with pytest.raises(ShardError, match="EPSG:1"):
        gallery_scan._degrees([("EPSG:1", 0.0, 0.0)], "here")


def test_a_patch_without_any_label_says_so(simulated):
    made, _ = simulated
    entries = {"label": memoryview(bytes(len(made.nomenclature)))}
    assert gallery_patches._caption(made, entries, "x") == "no label"
    none = dataclasses.replace(made, info=dataclasses.replace(made.info, label=None))
    assert gallery_patches._caption(none, entries, "x") == "x"
