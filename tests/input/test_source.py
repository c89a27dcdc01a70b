import concurrent.futures
import resource

import numpy as np
import pytest
import toy
from array_record.python.array_record_data_source import ArrayRecordDataSource

from rsjax.errors import ShardError
from rsjax.input import fitting, manifest, source
from rsjax.input.source import ShardSource


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return toy.write(tmp_path_factory.mktemp("data"), "index")


def test_many_threads_read_what_the_format_s_own_reader_reads(root):
    records = ShardSource(root, "train+test")
    paths = [str(root / shard["file"]) for shard in records.shards]
    plain = ArrayRecordDataSource(paths)
    features = toy.records.features(toy.info("index"), toy.CLASSES.names)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, len(records), 24) for _ in range(16)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(records.read, batches))
    for index, batch in zip(batches, found, strict=True):
        for row, record in enumerate(index):
            expected = features.deserialize_example_np(plain[int(record)])
            for name in ("s2", "s1", "label"):
                np.testing.assert_array_equal(batch[name][row], expected[name])
        assert batch["label"].dtype == np.int32
    assert records.being_read() == "nothing"


def test_a_class_index_that_no_class_has_is_refused_when_it_is_read(tmp_path):
    root = toy.write(tmp_path, "index")
    names = manifest.load(root).nomenclature
    toy.rewrite(root, nomenclature=names.__class__.from_json(
        {k: v[:2] if isinstance(v, tuple) else v for k, v in names.to_json().items()}
    ))  # fmt: skip
    with pytest.raises(ShardError, match=r"record \d+ is damaged \(label 2, expected 0 to 1\)"):
        ShardSource(root, "train").read(np.arange(96))


def test_a_shard_with_another_number_of_records_is_named_when_it_is_opened(tmp_path):
    root = toy.write(tmp_path)
    splits = manifest.load(root).splits
    splits["train"]["shards"][1]["records"] += 1
    toy.rewrite(root, splits=splits)
    with pytest.raises(ShardError, match="00001-of-00002: 48 records, expected 49"):
        ShardSource(root, "train").read(np.array([60]))


def test_more_shards_than_files_may_be_open_raise_the_limit_or_say_so(monkeypatch):
    limits = [(600, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    source._allow_open_files(50)
    assert limits == [(600, 4096)]
    source._allow_open_files(1000)
    assert limits[-1] == (1512, 4096)
    with pytest.raises(
        ShardError, match="5000 shards need 5512 open files, the system allows 4096"
    ):
        source._allow_open_files(5000)


@pytest.mark.parametrize(
    ("have", "shape"), [((5, 9, 4, 1), (2, 6, 6, 1)), ((1, 6, 6, 2), (3, 6, 6, 2))]
)
def test_series_and_sizes_that_vary_are_brought_to_one(have, shape):
    image = np.random.default_rng(0).normal(size=have)
    found = fitting.fit(image, shape)
    assert found.shape == shape
    first, last = image[0], image[-1]
    top, left = (have[1] - shape[1]) // 2, (shape[2] - have[2]) // 2
    for got, whole in ((found[0], first), (found[-1], last)):
        inner = got[:, left : left + have[2]] if left > 0 else got
        np.testing.assert_array_equal(inner, whole[top : top + shape[1]])
