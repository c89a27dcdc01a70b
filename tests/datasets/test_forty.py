import json
import re
import shutil
import struct

import fsspec
import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from rsjax import datasets, landcover
from rsjax.datasets import forty_checks, forty_features, tf_example, tfrecord
from rsjax.datasets.simulate import tfds_files
from rsjax.errors import ConfigError, DatasetError, NomenclatureError

pytestmark = pytest.mark.once

COUNT = 8
FIRST = "forty_v1-train.tfrecord-00000-of-00001"
PARTS = {
    "s2": ("s2", "s2_mask", (4, 128, 128, 10)),
    "s1_ascending": ("s1_asc", "s1_asc_mask", (4, 128, 128, 3)),
    "s1_descending": ("s1_desc", "s1_desc_mask", (4, 128, 128, 3)),
    "elevation": ("elevation", None, (128, 128, 3)),
    "climate": ("climate", None, (4, 1, 1, 14)),
}
# The colour bar of the dataset's own picture, and the list of its README.
COLOUR_BAR = ("Natural forest", "Planted forest", "Tree crops", "Other vegetation", "Built areas",
              "Water", "Ice", "Bare ground")  # fmt: skip
README = ("Natural forest", "Planted forest", "Tree crops", "Other vegetation", "Water", "Ice",
          "Bare ground", "Built areas")  # fmt: skip


@pytest.fixture
def source(downloads):
    return downloads("forty", COUNT)


@pytest.fixture
def copy(copied):
    return copied("forty", COUNT) / "forty_v1" / "1.0.0"


def raw_records(path):
    """struct for the frame, protobuf for the content."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield tf_example_pb2.Example.FromString(data[at + 12 : at + 12 + length])
        at += length + 16


def change(path, **features):
    """Rewrites the first record of a shard with other features; None leaves one out."""
    records = list(tfrecord.TFRecordFile(path))
    values = tf_example.parse(records[0])
    for name, edit in features.items():
        values[name] = edit(values[name]) if edit else None
    records[0] = tfds_files.example({k: v for k, v in values.items() if v is not None})
    path.write_bytes(b"".join(map(tfrecord.frame, records)))


def at(index, value):
    def edit(values):
        values = values.copy()
        values[index] = value
        return values

    return edit


def test_card():
    info = datasets.get("forty")("x").info
    assert info.splits == {"train": 160_191, "validation": 19_661, "test": 20_148}
    assert sum(info.splits.values()) == 200_000
    assert (info.version, info.licence, info.mask) == ("1.0.0", "CC-BY-SA-4.0", (128, 128))
    assert landcover.load("forty").names == COLOUR_BAR
    assert {name: spec.shape for name, spec in info.images.items()} == {
        name: shape for name, (_, _, shape) in PARTS.items()
    }
    assert info.images["s2"].bands == (
        *("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    )
    for name in ("s1_ascending", "s1_descending"):
        assert info.images[name].bands == ("VV", "VH", "angle")
    assert {name for name, s in info.images.items() if s.missing_is_nan} == {
        *("s2", "s1_ascending", "s1_descending"),
    }


def test_values_masks_and_labels_are_those_of_protobuf(source):
    dataset = datasets.get("forty")(source)
    folder = source / "forty_v1" / "1.0.0"
    for split in ("train", "validation"):
        file = folder / f"forty_v1-{split}.tfrecord-00000-of-00001"
        keys = dataset.keys(split)
        assert keys == [f"{file.name}#{i}" for i in range(len(keys))]
        for key, message in list(zip(keys, raw_records(file), strict=True))[:2]:
            example = dataset.read(key)
            feature = message.features.feature
            for name, (values, mask, shape) in PARTS.items():
                expected = np.array(feature[values].float_list.value, np.float32)
                if mask:
                    expected[np.array(feature[mask].int64_list.value) == 0] = np.nan
                np.testing.assert_array_equal(example[name], expected.reshape(shape))
                assert example[name].dtype == np.float32
            codes = np.array(feature["segmentation_labels"].int64_list.value).reshape(128, 128)
            names = np.array(["", *COLOUR_BAR])[codes]
            ours = np.array([*COLOUR_BAR, *[""] * 248])[example["mask"]]
            np.testing.assert_array_equal(ours, names)
            assert (example["mask"] == 255).sum() == (codes == 0).sum() > 0
            assert example["official_id"] == str(feature["id"].int64_list.value[0])
            assert float(example["lat"]) == pytest.approx(feature["lat"].float_list.value[0])
            assert float(example["lon"]) == pytest.approx(feature["lon"].float_list.value[0])
            assert example["s2_dates"] == "winter;spring;summer;autumn"
            assert set(example) == {"id", "mask", *PARTS, *dataset.info.metadata}


def test_readme_order_reads_the_codes_of_the_readme(source):
    stored = datasets.get("forty")(source)
    other = datasets.get("forty")(source, label_order="readme")
    key = stored.keys("train")[0]
    codes = landcover.load("forty").decode(stored.read(key)["mask"])
    names = np.array([*landcover.load("forty").names, *["unknown"] * 248])[other.read(key)["mask"]]
    np.testing.assert_array_equal(names, np.array(["unknown", *README, "unknown"])[codes])
    assert stored.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("order", ["colour_bar", "readme"])
@pytest.mark.parametrize("code", [-1, 10, 2**40])
def test_unknown_codes_are_named_as_stored(copy, order, code):
    change(copy / FIRST, segmentation_labels=lambda v: at(3, code)(v.astype(np.int64)))
    dataset = datasets.get("forty")(copy, label_order=order, sensors="climate")
    with pytest.raises((DatasetError, NomenclatureError), match=f"labels': .* {code}, expected"):
        dataset.read(f"{FIRST}#0")


def test_only_some_sensors_and_another_order_of_bands(source):
    bands = forty_features.S2_BANDS[::-1]
    dataset = datasets.get("forty")(source, sensors="climate,s2", s2_bands=bands, s2_level="l1c")
    example = dataset.read(dataset.keys("test")[0])
    assert [name for name in PARTS if name in example] == ["s2", "climate"]
    assert dataset.info.images["s2"].bands == bands
    assert dataset.info.images["s2"].sensor == "sentinel2_l1c"
    assert dataset.info.metadata == ("official_id", "lat", "lon", "s2_dates", "climate_dates")
    radar = datasets.get("forty")(source, sensors="s1_descending").info
    assert radar.rgb == ("s1_descending", ("VV", "VV", "VV"))


@pytest.mark.parametrize(
    "options",
    [
        {"shards": -1}, {"shards": "a"}, {"shards": (1, 2)}, {"shards": (0, 0, 0)},
        {"s2_bands": "B02,B03"}, {"seasons": "winter,spring,summer,fall"},
        {"label_order": "alphabetical"}, {"climate_bands": ("aet",)}, {"sensors": "s3"},
        {"s2_level": "l3"},
    ],
)  # fmt: skip
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
        datasets.get("forty")("x", **options)


def official(copy, shards):
    """Pretends that the copy is the first shards of a download of four."""
    info = json.loads((copy / "dataset_info.json").read_text())
    for split in info["splits"]:
        name, count = split["name"], split["shardLengths"][0]
        split["shardLengths"] = [count] * 4
        file = copy / f"forty_v1-{name}.tfrecord-00000-of-00001"
        for index in range(shards):
            shutil.copy(file, copy / f"forty_v1-{name}.tfrecord-{index:05d}-of-00004")
        file.unlink()
    (copy / "dataset_info.json").write_text(json.dumps(info))


def test_a_part_of_the_shards_is_used_only_if_asked_for(copy):
    official(copy, 2)
    with pytest.raises(
        DatasetError, match="tfrecord-00002-of-00004: not there, as 2 of the 4"
    ) as e:
        datasets.get("forty")(copy).keys("train")
    assert "shards=2" in str(e.value)
    dataset = datasets.get("forty")(copy, shards=2)
    assert len(dataset.keys("train")) == 2 * (COUNT - 2)
    assert dataset.read(dataset.keys("train")[-1])["official_id"]
    some = datasets.get("forty")(copy, shards="2,1,0")
    assert [len(some.keys(s)) for s in ("train", "validation", "test")] == [2 * (COUNT - 2), 1, 0]
    with pytest.raises(DatasetError, match="1 of the 3 shards"):
        datasets.get("forty")(copy, shards=3).keys("train")
    with pytest.raises(ConfigError, match=r"shards=5, split 'train' of .* has 4"):
        datasets.get("forty")(copy, shards=5).keys("train")


def test_bucket_layout_and_an_object_store(source):
    inner = source / "forty_v1" / "1.0.0"
    key = f"{FIRST}#1"
    expected = datasets.get("forty")(inner).read(key)
    fsspec.filesystem("memory").put(str(inner), "/forest/forty_v1/1.0.0", recursive=True)
    for place in (source, source / "forty_v1", "memory://forest/forty_v1/1.0.0"):
        dataset = datasets.get("forty")(place)
        assert dataset.simulated == (place != "memory://forest/forty_v1/1.0.0")
        assert len(dataset.keys("train")) == COUNT - 2
        np.testing.assert_array_equal(dataset.read(key)["s2"], expected["s2"])


def test_damage_names_file_record_and_remedy(copy):
    file = copy / FIRST
    intact = file.read_bytes()
    dataset = datasets.get("forty")(copy)

    def refused(match, key=f"{FIRST}#0", error=DatasetError):
        with pytest.raises(error, match=match) as caught:
            dataset.read(key)
        assert str(file) in str(caught.value)
        return str(caught.value)

    data = bytearray(intact)
    data[1000] ^= 1
    file.write_bytes(data)
    assert "download the file again" in refused("record 0: the checksum of its content is wrong")
    file.write_bytes(intact[:-100])
    refused("record 5: the file ends at byte")
    file.write_bytes(intact[: len(intact) // 7])
    refused("record 0: the file ends at byte")
    file.write_bytes(tfrecord.frame(b"") * 5)
    refused("5 records, dataset_info.json says 6")
    file.write_bytes(intact)
    for match, features in (
        ("feature 's2': not there", {"s2": None}),
        ("feature 's1_asc': 196607 values, expected float32", {"s1_asc": lambda v: v[1:]}),
        ("feature 'elevation': 49152 integers", {"elevation": lambda v: v.astype(int)}),
        ("feature 's2_mask': values up to 2, expected 0 and 1", {"s2_mask": at(5, 2)}),
        ("feature 'elevation': NaN or infinity", {"elevation": at(5, np.nan)}),
        ("feature 's2': NaN or infinity", {"s2": at(5, np.inf), "s2_mask": at(5, 1)}),
        ("feature 's2_mask': NaN in valid", {"s2": at(5, np.nan), "s2_mask": at(5, 1)}),
    ):
        change(file, **features)
        refused(match)
        file.write_bytes(intact)
    change(file, segmentation_labels=at(77, 9))
    message = refused("codes 9, expected 0, 1, 2.* of label_order=", error=NomenclatureError)
    assert "record 0, feature 'segmentation_labels'" in message
    records = [b"no example", *list(tfrecord.TFRecordFile(file))[1:]]
    file.write_bytes(b"".join(map(tfrecord.frame, records)))
    refused("expected a tf.train.Example")
    file.unlink()
    refused("no such file; download it")
    for key in (f"{FIRST}#6", f"{FIRST}#x", "other#1", f"{FIRST[:-1]}2#0"):
        with pytest.raises(DatasetError, match="no sample"):
            dataset.read(key)


def test_wrong_folder_and_damaged_metadata(copy, tmp_path, downloads):
    with pytest.raises(DatasetError, match=r"none of 'dataset_info.json'.*gs://forest_typology"):
        datasets.get("forty")(downloads("ucmerced", 21)).keys("train")
    name = copy / "dataset_info.json"
    intact = name.read_text()
    for content, match in (
        (intact.replace('"forty_v1"', '"mnist"'), "dataset 'mnist', expected 'forty_v1'"),
        (intact.replace('"test"', '"tests"'), r"no \['test'\]"),
        (intact.replace("shardLengths", "shards"), "no splits with shardLengths"),
        (intact[:-9], "not JSON"),
        ("[]", "not an object"),
    ):
        name.write_text(content)
        with pytest.raises(DatasetError, match=re.escape(str(name)) + f".*{match}"):
            datasets.get("forty")(copy).keys("train")
    name.write_text(intact)
    name = copy / "features.json"
    intact = name.read_text()
    for content, match in (
        (intact.replace('"s2_mask"', '"mask"'), "feature 's2_mask' is None"),
        (intact.replace('"10"', '"12"'), r"feature 's2' is .*expected \(4, 128, 128, 10\)"),
        (intact.replace('"none"', '"zlib"'), "not encoded"),
        ("{}", "no features"),
    ):
        name.write_text(content)
        with pytest.raises(DatasetError, match=re.escape(str(name)) + f".*{match}"):
            datasets.get("forty")(copy).keys("train")
    name.unlink()
    with pytest.raises(DatasetError, match=r"features.json: no such file, expected it beside"):
        datasets.get("forty")(copy).keys("train")


def test_the_guesses_hold_on_the_simulation_and_wrong_ones_are_refused(source):
    datasets.get("forty")(source).check()
    bands, climate = forty_features.S2_BANDS, forty_features.CLIMATE_BANDS
    for options, match in (
        ({"label_order": "readme"}, r"mean VV .*: set label_order='colour_bar', which the data"),
        ({"s2_bands": bands[2::-1] + bands[3:]}, "over bare soil, expected B03 to be brighter"),
        ({"s2_bands": bands[::-1]}, "over green forests|of the natural forest is green"),
        ({"s2_bands": (*bands[:-2], "B12", "B11")}, "B12 is .* expected B11 to be brighter"),
        ({"s2_level": "l1c"}, "as of 'l2a': set s2_level='l2a'"),
        ({"climate_bands": climate[::-1]}, "climate_bands: .* in record 0"),
        ({"seasons": "summer,autumn,winter,spring"}, "north of 30 degrees: .*set seasons"),
    ):
        with pytest.raises(DatasetError, match=match) as caught:
            datasets.get("forty")(source, **options).check()
        assert str(source) in str(caught.value)
        assert "checks=False" in str(caught.value)
        datasets.get("forty")(source, checks=False, **options).check()


def measured(pixels, vv):
    vv = np.array([vv, np.ones(10)]) * pixels
    return forty_checks.Measured(records=1, pixels=np.array(pixels), vv=vv)


def test_label_order_by_shares_and_backscatter():
    # Pixels and mean VV of codes 0 to 9, in the order of the colour bar and in that of the README.
    bar = ([10, 20, 5, 5, 40, 4, 8, 1, 7, 0], [-11.0, -9, -9, -10, -11, -4, -20, -12, -14, 0])
    readme = ([0, 20, 5, 5, 40, 8, 1, 7, 4, 10], [0.0, -9, -9, -10, -11, -20, -12, -14, -4, -11])
    for found, order, other in ((bar, "colour_bar", "readme"), (readme, "readme", "colour_bar")):
        forty_checks.compare(measured(*found), order, "l2a", "here")
        with pytest.raises(DatasetError, match=f"set label_order='{order}'"):
            forty_checks.compare(measured(*found), other, "l2a", "here")
    pixels, vv = bar
    for index, value, match in (
        (0, 0, "0.0% unknown, expected 3% to 35%"),
        (0, 200, r"69.0% unknown"),
        (1, 90, "other vegetation .*, expected it to be the largest"),
        (7, 5, "4.8% ice, expected less than 2%"),
    ):
        with pytest.raises(DatasetError, match=f"here.*1 records(.|\n)*{match}"):
            forty_checks.compare(measured(at(index, value)(np.array(pixels)), vv), *OPTIONS)
    for index, value in ((6, -11.5), (5, -12.0)):
        with pytest.raises(DatasetError, match="by at least 3 dB"):
            forty_checks.compare(measured(pixels, at(index, value)(np.array(vv))), *OPTIONS)


OPTIONS = ("colour_bar", "l2a", "here")


def test_totals():
    counts = np.zeros(256, int)
    counts[:8], counts[255] = [20, 5, 5, 40, 4, 8, 1, 7], 10
    dataset = datasets.get("forty")("here")
    dataset.check_totals({"train": counts.tolist(), "test": counts.tolist()})
    counts[6] = 9
    with pytest.raises(DatasetError, match=r"all records contradict it(.|\n)*ice"):
        dataset.check_totals({"train": counts.tolist()})
    datasets.get("forty")("here", checks=False).check_totals({"train": counts.tolist()})
