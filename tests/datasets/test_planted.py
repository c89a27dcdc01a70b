import concurrent.futures
import datetime
import itertools
import json
import multiprocessing
import re
import struct
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from rsjax import datasets, landcover
from rsjax.datasets import planted, planted_classes, planted_names, tfds_folder, tfrecord
from rsjax.datasets.simulate import tfds_files
from rsjax.errors import ConfigError, DatasetError
from rsjax.input import build, shards

pytestmark = pytest.mark.once

COUNT = 12
FIRST = "planted-train.tfrecord-00000-of-00002"
SHAPES = {"s1": (8, 12, 12, 2), "s2": (8, 12, 12, 10), "l7": (20, 4, 4, 6), "alos": (4, 4, 4, 2),
          "modis": (60, 1, 1, 7)}  # fmt: skip


@pytest.fixture
def source(downloads):
    return downloads("planted", COUNT)


@pytest.fixture
def copy(copied):
    return copied("planted", COUNT) / "planted-public" / "species" / "1.2.0"


def messages(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield tf_example_pb2.Example.FromString(data[at + 12 : at + 12 + length])
        at += length + 16


def plain(message):
    found = {}
    for name, feature in message.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = getattr(feature, kind).value
        types = {"int64_list": np.int64, "float_list": np.float32}
        found[name] = np.array(values, types[kind]) if kind in types else list(values)
    return found


def rewrite(copy, change):
    """Changes every record of a copy: `change` takes and gives values by name."""
    for path in copy.glob("*.tfrecord-*"):
        records = [tfds_files.example(change(plain(message))) for message in messages(path)]
        path.write_bytes(b"".join(map(tfrecord.frame, records)))


def described(copy, **features):
    """Replaces features in features.json, as TFDS writes it."""
    builder = tfds.features.FeaturesDict.from_config(copy)
    merged = {name: feature for name, feature in builder.items() if name not in features}
    merged |= {name: feature for name, feature in features.items() if feature is not None}
    for file in (*copy.glob("*.labels.txt"), copy / "features.json"):
        file.unlink()
    tfds.features.FeaturesDict(merged).save_config(copy)


def test_card_and_official_numbers():
    info = datasets.get("planted")("x").info
    assert (info.version, info.licence, info.label) == ("1.2.0", "CC-BY-4.0", "index")
    assert {k: v[0] for k, v in planted.SUBSETS.items()} == {
        **{"all": 2_264_747, "species": 1_348_219, "fmeval": 77_570},
    }
    assert planted_names.LEVELS == {"common_name": 64, "genus": 46, "species": 40}
    names = landcover.load("planted_species").names
    assert (len(names), names[0], names[25], names[39]) == (
        *(40, "Elaeis guineensis", "Prunus serrulata", "Theobroma cacao"),
    )
    assert list(info.images) == list(SHAPES)
    for spec in info.images.values():  # nothing is known before features.json is seen
        assert spec.shape[:3] == (0, 0, 0)
        assert spec.missing_is_nan


def test_series_masks_dates_and_labels_are_those_of_protobuf(source):
    dataset = datasets.get("planted")(source)
    folder = source / "planted-public" / "species" / "1.2.0"
    species = (folder / "species.labels.txt").read_text().split("\n")
    assert {k: s.shape for k, s in dataset.info.images.items()} == SHAPES
    assert dataset.info.nomenclature == "planted_species"
    assert list(dataset.info.splits) == ["train", "validation", "test"]
    seen = set()
    for split in dataset.info.splits:
        files = sorted(folder.glob(f"planted-{split}.tfrecord-*"))
        keys = [f"{f.name}#{i}" for f in files for i, _ in enumerate(messages(f))]
        assert dataset.keys(split) == keys
        for key, message in zip(keys, (m for f in files for m in messages(f)), strict=True):
            example, raw = dataset.read(key), plain(message)
            for name, shape in SHAPES.items():
                expected = np.where(raw[f"{name}_mask"] == 1, raw[name], np.nan).reshape(shape)
                np.testing.assert_array_equal(example[name], expected)
                assert example[name].dtype == np.float32
                days = [
                    datetime.datetime.fromtimestamp(t / 1000, datetime.UTC)
                    for t in raw[f"{name}_timestamp"].tolist()
                ]
                assert example[f"{name}_dates"] == ";".join(d.strftime("%Y-%m-%d") for d in days)
            name = species[raw["species"][0]]
            assert landcover.load("planted_species").names[example["label"]] == name
            assert example["country"] == raw["country"][0].decode()
            assert float(example["lat"]) == pytest.approx(raw["lat"][0], abs=1e-5)
            assert set(example) == {"id", "label", *SHAPES, *dataset.info.metadata}
            seen.add(example["label"])
    assert len(seen) > 5


def test_levels_take_their_classes_from_the_download(source):
    dataset = datasets.get("planted")(source, label_level="genus")
    folder = source / "planted-public" / "species" / "1.2.0"
    genera = (folder / "genus.labels.txt").read_text().split()
    nomenclature = landcover.load(dataset.info.nomenclature)
    assert (nomenclature.name, nomenclature.names) == ("planted_genus", tuple(genera))
    by_species = datasets.get("planted")(source)
    for key in dataset.keys("train"):
        species = landcover.load("planted_species").names[by_species.read(key)["label"]]
        assert nomenclature.names[dataset.read(key)["label"]] == species.split()[0]
    with pytest.raises(DatasetError, match=r"no common_name.labels.txt.*label_level='species'"):
        _ = datasets.get("planted")(source, label_level="common_name").info
    assert by_species.fingerprint() == datasets.get("planted")(source).fingerprint()
    assert by_species.fingerprint() != dataset.fingerprint()


def test_the_classes_of_the_download_are_part_of_the_fingerprint(copy):
    before = datasets.get("planted")(copy).fingerprint()
    names = (copy / "species.labels.txt").read_text().splitlines()
    (copy / "species.labels.txt").write_text("\n".join(names[::-1]))
    assert datasets.get("planted")(copy).fingerprint() != before


def test_numbers_without_a_list_of_classes_are_refused(copy):
    named = datasets.get("planted")(copy)
    codes = [plain(message)["species"][0] for message in messages(copy / FIRST)]
    labels = [named.read(f"{FIRST}#{i}")["label"] for i in range(len(codes))]
    with pytest.raises(DatasetError, match=r"species.labels.txt: gives the order .*leave that"):
        _ = datasets.get("planted")(copy, class_order="anysat").info
    (copy / "species.labels.txt").unlink()
    for use in (lambda d: d.info, lambda d: d.check(), lambda d: d.keys("train")):
        with pytest.raises(
            DatasetError, match=r"no species.labels.txt, expected .*class_order='anysat'"
        ):
            use(datasets.get("planted")(copy))
    dataset = datasets.get("planted")(copy, class_order="anysat")
    read = [dataset.read(f"{FIRST}#{i}")["label"] for i in range(len(codes))]
    assert read == codes  # of the packaged table, which is AnySat's order
    assert read != labels
    assert dataset.fingerprint() != named.fingerprint()


def test_any_names_make_a_sound_table():
    names = [f'pine, no. "{i}"' for i in range(64)]
    name = planted_classes.nomenclature("common_name", names)
    loaded = landcover.load(name)
    assert loaded.names == tuple(names)
    assert len(set(loaded.colours)) == 64
    assert planted_classes.nomenclature("common_name", names) == name
    assert planted_classes.nomenclature("common_name", names[::-1]) != name
    assert landcover.load(name).names == tuple(names)
    assert planted_classes.nomenclature("species", ["A a", "B b"]) != "planted_species"
    shuffled = sorted(landcover.load("planted_species").names)
    assert planted_classes.nomenclature("species", shuffled) == "planted_species"


def test_own_classes_need_no_file_and_reach_worker_processes(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))  # spawned workers see it
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    dataset = datasets.get("planted")(source, label_level="genus")
    genus = landcover.load(dataset.info.nomenclature)
    assert "/" not in dataset.info.nomenclature
    todo = shards.jobs("planted", str(source), {"label_level": "genus"}, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        note = pool.submit(shards.write_shard, todo[0]).result()
    labels = [dataset.read(key)["label"] for key in dataset.keys(todo[0].split)]
    assert note["class_counts"] == np.bincount(labels, minlength=len(genus)).tolist()


def test_a_list_of_classes_with_a_name_twice_is_refused(copy):
    names = (copy / "species.labels.txt").read_text().splitlines()
    (copy / "species.labels.txt").write_text("\n".join([*names, names[0]]))
    with pytest.raises(DatasetError, match=r"species.labels.txt: .*more than once: .*; download"):
        _ = datasets.get("planted")(copy).info


def test_other_names_text_labels_and_dates_as_text(copy):
    def change(values):
        values["sentinel2"] = values.pop("s2")
        times = values.pop("s2_timestamp").tolist()
        values["when"] = [np.datetime64(t, "ms").astype(str)[:10].encode() for t in times]
        values["s1_mask"] = values["s1_mask"].reshape(8, 12, 12, 2)[..., 0].ravel()
        values["species"] = [SPECIES[values["species"][0]].encode()]
        return values

    before = datasets.get("planted")(copy)
    keys = before.keys("train")
    expected = [before.read(key) for key in keys]
    rewrite(copy, change)
    described(
        copy,
        **{"s2": None, "s2_timestamp": None},
        sentinel2=tfds.features.Tensor(shape=(None, 12, 12, 10), dtype=np.float32),
        when=tfds.features.Sequence(tfds.features.Text()),
        s1_mask=tfds.features.Tensor(shape=(8, 12, 12), dtype=np.uint8),
        species=tfds.features.Text(),
    )
    with pytest.raises(DatasetError, match=r"no feature for s2 \(as 's2'\), s2_dates \(as") as e:
        datasets.get("planted")(copy).keys("train")
    for part in ("sentinel2 float32 (0, 12, 12, 10)", "when string (0,)", "features='s2=...,...'"):
        assert part in str(e.value)
    names = "s2=sentinel2,s2_dates=when,country="
    dataset = datasets.get("planted")(copy, features=names)
    assert "country" not in dataset.info.metadata
    assert dataset.info.images["s2"].shape == (0, 12, 12, 10)
    for key, old in zip(keys, expected, strict=True):
        example = dataset.read(key)
        for name in ("s1", "s2", "l7"):
            np.testing.assert_array_equal(example[name], old[name])
        assert (example["s2_dates"], example["label"]) == (old["s2_dates"], old["label"])


def test_texts_that_are_codes(copy):
    described(copy, country=tfds.features.ClassLabel(names=["Chad", "Peru"]),
              species=tfds.features.ClassLabel(names=SPECIES))  # fmt: skip
    for code, name in ((0, "Chad"), (1, "Peru"), (-1, "")):
        rewrite(copy, lambda values: values | {"country": np.array([code])})  # noqa: B023
        assert datasets.get("planted")(copy).read(f"{FIRST}#0")["country"] == name
    rewrite(copy, lambda values: values | {"country": np.array([2])})
    with pytest.raises(DatasetError, match=r"record 0, feature 'country': code 2, expected -1 to"):
        datasets.get("planted")(copy).read(f"{FIRST}#0")


SPECIES = sorted(landcover.load("planted_species").names)


@pytest.mark.parametrize("encoding", ["bytes", "zlib"])
def test_encoded_tensors(copy, encoding):
    before = datasets.get("planted")(copy)
    key = before.keys("train")[0]
    expected = before.read(key)["s2"]
    feature = tfds.features.Tensor(shape=(8, 12, 12, 10), dtype=np.float32, encoding=encoding)

    def change(values):
        message = tf_example_pb2.Example.FromString(
            tfds.features.FeaturesDict({"s2": feature}).serialize_example(
                {"s2": values["s2"].reshape(8, 12, 12, 10)}
            )
        )
        return values | plain(message)

    rewrite(copy, change)
    described(copy, s2=feature)
    np.testing.assert_array_equal(datasets.get("planted")(copy).read(key)["s2"], expected)
    rewrite(copy, lambda values: values | {"s2": [b"abc"]})
    with pytest.raises(DatasetError, match=r"'s2': 3 (bytes|values).*expected"):
        datasets.get("planted")(copy).read(key)


def test_numbers_have_the_dtype_that_the_features_say(copy):
    def read(dtype, values, shape=(None,)):
        rewrite(copy, lambda old: old | {"more": np.array(values)})
        described(copy, more=tfds.features.Tensor(shape=shape, dtype=dtype))
        folder = tfds_folder.TfdsFolder(str(copy), "page")
        return folder.tensor(folder.read(f"{FIRST}#0"), "more", f"{FIRST}#0")

    fitting = {"uint8": [1, 255], "int64": [1, 5], "int16": [-7, 300], "bool": [0, 1],
               "float64": [0.5], "float16": [0.5]}  # fmt: skip
    for dtype, values in fitting.items():
        found = read(np.dtype(dtype).type, values)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.array(values, dtype))
    for dtype, values, bad in ((np.uint8, [1, 256], 256), (np.uint8, [-1], -1), (np.bool_, [2], 2),
                               (np.float16, [1e6], 1e6)):  # fmt: skip
        with pytest.raises(DatasetError, match=f"record 0, feature 'more': value {bad}, expected"):
            read(dtype, values)
    assert read(np.uint8, range(6), (None, 3)).shape == (2, 3)
    with pytest.raises(DatasetError, match=r"features.json: feature 'more' is uint8 \(0, 0, 3\)"):
        read(np.uint8, range(6), (None, None, 3))


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("s2_mask", lambda v: v + 1, "'s2_mask': value 2, expected 0 and 1"),
        ("s2", lambda v: v[1:], r"'s2': 11519 values, expected float32 \(8, 12, 12, 10\)"),
        ("s2", lambda v: v.astype(int), "'s2': 11520 integers, expected float32"),
        ("l7", lambda v: v + np.inf, "'l7': infinity, expected finite"),
        ("s1_timestamp", lambda v: v + 2**62, "'s1_timestamp': .*expected milliseconds"),
        ("country", lambda v: [], "'country': no text"),
        ("country", lambda v: None, "'country': no text"),
        ("alos", lambda v: None, "'alos': not there"),
        ("species", lambda v: v * 0 - 1, r"'species': 'code -1', expected one of the 40 classes"),
    ],
)
def test_damage_names_file_record_feature_and_remedy(copy, name, change, match):
    def edit(values):
        values = values | {name: change(values[name])}
        return {k: v for k, v in values.items() if v is not None}

    rewrite(copy, edit)
    with pytest.raises(DatasetError, match=re.escape(str(copy / FIRST)) + ", record 1.*" + match):
        datasets.get("planted")(copy).read(f"{FIRST}#1")


def test_a_record_without_a_label_names_a_way_out_that_works(copy, tmp_path):
    odd = itertools.cycle([0, 1])
    rewrite(copy, lambda v: v | {"species": v["species"] if next(odd) else v["species"] * 0 - 1})
    with pytest.raises(DatasetError, match=r"label_level.*subset.*--on_error=skip and a --max_sk"):
        datasets.get("planted")(copy).read(f"{FIRST}#0")
    made = build.build("planted", copy, tmp_path / "data", None, 1, "skip", max_skipped=1.0)
    assert sum(split["records"] for split in made.splits.values()) == COUNT // 2


def test_checksum_shards_and_keys(copy):
    dataset = datasets.get("planted")(copy)
    path = copy / FIRST
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="record 0: the checksum of its content is wrong"):
        dataset.read(f"{FIRST}#0")
    for key in ("x", f"{FIRST}#99", "planted-train.tfrecord-00002-of-00002#0"):
        with pytest.raises(DatasetError, match="has no sample"):
            dataset.read(key)
    (copy / FIRST.replace("00000-of", "00001-of")).unlink()
    with pytest.raises(DatasetError, match=r"00001-of-00002: not there.*shards=1"):
        dataset.keys("train")
    assert len(datasets.get("planted")(copy, shards=1).keys("train")) == 4


def test_wrong_subset_and_wrong_folder(copy, downloads):
    with pytest.raises(DatasetError, match=r"of subset 'species', expected 'all'; set subset="):
        datasets.get("planted")(copy, subset="all").keys("train")
    (copy.parents[2] / "SIMULATED.json").unlink()
    with pytest.raises(DatasetError, match=r"12 records, expected 1,348,219 of subset 'species'"):
        datasets.get("planted")(copy).keys("train")
    with pytest.raises(DatasetError, match=r"none of .*but SIMULATED.json, forty_v1; expected"):
        datasets.get("planted")(downloads("forty", 8)).keys("train")
    with pytest.raises(DatasetError, match="no feature for species"):
        datasets.get("planted")(downloads("forty", 8) / "forty_v1" / "1.0.0").keys("train")
    info = json.loads((copy / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["x"]
    (copy / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="no splits with shardLengths"):
        datasets.get("planted")(copy).keys("train")


@pytest.mark.parametrize(
    "options",
    [
        {"subset": "genus"}, {"label_level": "family"}, {"sensors": "s3"}, {"shards": -1},
        {"shards": "2"}, {"features": "x=y"}, {"features": "s2="}, {"bands": "s2"},
        {"units": ("s9=db",)}, {"class_order": "google"},
        {"class_order": "anysat", "label_level": "genus"},
    ],
)  # fmt: skip
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
        datasets.get("planted")("x", **options)


def test_the_guesses_hold_on_the_simulation_and_wrong_ones_are_refused(source):
    datasets.get("planted")(source).check()
    for options, match in (
        ({"bands": "s1=VH VV"}, r"s1: median VH is .* and VV .*, expected VV to be higher"),
        ({"bands": "s2=B02 B03 B04 B05 B06 B07 B08 B8A B12 B11"}, "expected B11 to be higher"),
        ({"bands": "modis=B2 B1 B3 B4 B5 B6 B7"}, "expected B2 to be higher"),
        ({"units": "l7=reflectance_1e4"}, "l7: median B4 is .* of unit 'reflectance_1e4'"),
        ({"units": "s2=reflectance"}, "s2: median B08"),
        ({"units": "alos=db"}, "alos: median HH is .* dB: set units='alos=...'"),
    ):
        with pytest.raises(DatasetError, match=match) as caught:
            datasets.get("planted")(source, **options).check()
        assert "checks=False" in str(caught.value)
        datasets.get("planted")(source, checks=False, **options).check()
    with pytest.raises(DatasetError, match=r"feature 'l7' is .*expected .*, 3\) for the bands B1"):
        _ = datasets.get("planted")(source, bands="l7=B1 B2 B3").info


def test_some_sensors(source):
    dataset = datasets.get("planted")(source, sensors="modis,l7")
    example = dataset.read(dataset.keys("test")[0])
    assert [name for name in SHAPES if name in example] == ["l7", "modis"]
    assert dataset.info.rgb == ("l7", ("B3", "B2", "B1"))
