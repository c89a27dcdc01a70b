import numpy as np
import pytest

from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.input import records


def card(**changes):
    fields = dict(
        name="toy", version="1.0.0", title="Toy", page="https://example.org", licence="CC0",
        citation="none", images={
            "s2_10m": ImageSpec("sentinel2_l2a", ("B02", "B03"), 6, 5, "uint16",
                                "reflectance_1e4", 10.0, 0),
            "rgb": ImageSpec("rgb", ("red", "green", "blue"), 0, 0, "uint8", "dn8", 0.3),
        },
        label="multihot", nomenclature="eurosat", mask=(6, 5), mask_nomenclature="corine_l3",
        metadata=("country",), splits={"train": 0}, rgb=("rgb", ("red", "green", "blue")),
        rgb_range=(0, 255), georeferenced=True,
    )  # fmt: skip
    return DatasetInfo(**{**fields, **changes})


def example(rng, label):
    return {
        "id": "patch-ß", "country": "Österreich", "crs": "EPSG:32633",
        "transform": rng.normal(size=6), "label": label,
        "s2_10m": rng.integers(0, 65535, (6, 5, 2), np.uint16),
        "rgb": rng.integers(0, 255, (7, 9, 3), np.uint8),
        "mask": rng.integers(0, 255, (6, 5), np.uint8),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["multihot", "index"])
def test_what_tfds_writes_is_parsed_without_loss(kind):
    rng = np.random.default_rng(0)
    names = tuple("abcd")
    info = card(label=kind)
    label = np.array([0, 1, 1, 0], np.uint8) if kind == "multihot" else 3
    want = example(rng, label)
    features = records.features(info, names)
    record = features.serialize_example(want)
    entries = records.parse(record)
    for name, shape in (("s2_10m", (6, 5, 2)), ("rgb", (0, 0, 3)), ("mask", (6, 5))):
        found = records.tensor(entries, name, want[name].dtype.name, shape)
        np.testing.assert_array_equal(found, want[name])
    np.testing.assert_array_equal(
        records.tensor(entries, "transform", "float64", (6,)), want["transform"]
    )
    assert records.text(entries, "country") == "Österreich"
    assert records.text(entries, "id") == "patch-ß"
    if kind == "index":
        assert entries["label"] == [3]
    else:
        np.testing.assert_array_equal(records.tensor(entries, "label", "uint8", (4,)), label)
    # The reference reader of the format agrees, also when the entries are sorted.
    ordered = records.canonical(record)
    assert len(ordered) == len(record)
    assert list(records.parse(ordered)) == sorted(entries)
    decoded = features.deserialize_example_np(ordered)
    np.testing.assert_array_equal(decoded["rgb"], want["rgb"])


@pytest.mark.parametrize("shape", [(3, 0, 5, 2), (0, 4, 5, 2), (0, 0, 5, 2)])
def test_sides_that_vary_are_found_again(shape):
    spec = ImageSpec("sentinel1", ("VV", "VH"), *shape[1:3], "float32", "db", 10.0, steps=shape[0])
    info = card(images={"s1": spec}, label=None, mask=None, metadata=(), georeferenced=False)
    image = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    record = records.features(info, ()).serialize_example({"id": "a", "s1": image})
    entries = records.parse(record)
    np.testing.assert_array_equal(records.tensor(entries, "s1", "float32", shape), image)
    with pytest.raises(ValueError, match="expected"):
        records.tensor(entries, "s1", "float32", (*shape[:2], 7, 2))


def test_damaged_records_are_refused():
    info = card()
    rng = np.random.default_rng(1)
    record = records.features(info, tuple("abcd")).serialize_example(
        example(rng, np.zeros(4, np.uint8))
    )
    for bad in (b"", record[:100], record[:-1], b"\xff" * 50):
        with pytest.raises(ValueError, match=r"record|Example"):
            records.parse(bad)
    entries = records.parse(record)
    with pytest.raises(ValueError, match="expected"):
        records.tensor(entries, "s2_10m", "uint16", (6, 6, 2))
    with pytest.raises(ValueError, match="no entry 's1'"):
        records.tensor(entries, "s1", "float32", (6, 6, 2))
    with pytest.raises(ValueError, match="shape"):
        records.tensor(entries, "rgb", "uint8", (0, 0, 4))


def test_known_layouts_parse_as_a_walk_does():
    info = card(label="index")
    features = records.features(info, tuple("abcd"))
    rng = np.random.default_rng(2)
    layouts = records.Layouts()
    for number in range(40):
        one = example(rng, number % 4)
        one["id"] = "x" * (number % 3)  # as long together as other texts are
        one["country"] = "y" * (2 - number % 3)
        record = records.canonical(features.serialize_example(one))
        found = records.parse(record, layouts.find(record))
        walked = records.parse(record)
        assert list(found) == list(walked)
        for name, value in walked.items():
            assert list(found[name]) == list(value), name
        assert found["label"] == [number % 4]


def test_a_record_that_only_looks_like_a_known_one_is_walked():
    info = card()
    features = records.features(info, tuple("abcd"))
    rng = np.random.default_rng(3)
    good = records.canonical(features.serialize_example(example(rng, np.zeros(4, np.uint8))))
    layouts = records.Layouts()
    frame = sorted((a, b) for _, a, b in layouts.find(good).values())
    places = {i for i in range(len(good)) if not any(a <= i < b for a, b in frame)}
    for place in sorted(places):  # every byte that is a tag, a name or a length
        bad = bytearray(good)
        bad[place] ^= 0x15
        try:
            expected = records.find_spans(bytes(bad))
        except (ValueError, IndexError):
            expected = None
        if expected is None:
            with pytest.raises((ValueError, IndexError)):
                layouts.find(bytes(bad))
        else:
            assert layouts.find(bytes(bad)) == expected


def test_card_survives_json():
    import json

    info = card()
    assert DatasetInfo.from_json(json.loads(json.dumps(info.to_json()))) == info


@pytest.mark.parametrize("steps", [1, 3])
def test_series_whose_length_alone_varies(steps):
    spec = ImageSpec("rgb", ("red", "green"), 6, 5, "uint16", "dn8", 0.3, steps=0)
    info = card(images={"series": spec}, label=None, mask=None, georeferenced=False, metadata=())
    values = np.arange(steps * 60, dtype=np.uint16).reshape(steps, 6, 5, 2)
    record = records.features(info, ()).serialize_example({"id": "a", "series": values})
    entries = records.parse(record)
    assert "series/shape" not in entries  # TFDS leaves it out where one size alone varies
    np.testing.assert_array_equal(records.tensor(entries, "series", "uint16", spec.shape), values)
    with pytest.raises(ValueError, match="expected"):
        records.tensor(entries, "series", "uint16", (0, 7, 5, 2))
