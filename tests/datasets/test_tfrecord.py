"""TFRecord files and tf.train.Example, against struct, a bitwise CRC, protobuf and TFDS."""

import concurrent.futures
import pathlib
import re
import struct

import fsspec
import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from rsjax import wire
from rsjax.datasets import tf_example, tfrecord
from rsjax.datasets.simulate import tfds_files
from rsjax.errors import DatasetError

RECORDS = [b"first", b"", bytes(range(256)) * 5, b"last"]


def slow_crc(content):
    """CRC32C bit by bit, reflected polynomial 0x82F63B78."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def slow_mask(content):
    crc = slow_crc(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def slow_read(path):
    data, found, at = pathlib.Path(path).read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        (crc,) = struct.unpack_from("<I", data, at + 8)
        assert crc == slow_mask(data[at : at + 8])
        found.append(data[at + 12 : at + 12 + length])
        (crc,) = struct.unpack_from("<I", data, at + 12 + length)
        assert crc == slow_mask(found[-1])
        at += length + 16
    return found


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "x.tfrecord-00000-of-00001"
    file.write_bytes(b"".join(map(tfrecord.frame, RECORDS)))
    return file


def test_checksum_is_the_published_one():
    assert slow_crc(b"123456789") == 0xE3069283  # RFC 3720's check value
    for content in (b"", b"123456789", bytes(1000)):
        assert wire.masked_crc(content) == slow_mask(content)


def test_records_are_those_of_an_independent_reader(path):
    file = tfrecord.TFRecordFile(path)
    assert list(file) == slow_read(path) == RECORDS
    assert [file.read(number) for number in (3, 0, 2, 1)] == [RECORDS[i] for i in (3, 0, 2, 1)]
    np.testing.assert_array_equal(file.spans, [[12, 5], [33, 0], [49, 1280], [1345, 4]])


def test_the_places_of_records_are_found_without_reading_them(path):
    file = tfrecord.TFRecordFile(path)
    asked = []
    pread = file._file.pread

    def counted(count, start):
        asked.append(count)
        return pread(count, start)

    file._file.pread = counted
    assert len(file) == 4
    assert asked == [12] * 4
    file.read(2)
    assert asked[4:] == [1284]


def test_an_object_store_is_read_alike_and_by_many_threads(path):
    store = fsspec.filesystem("memory")
    store.pipe("/tfrecord/x", path.read_bytes())
    file = tfrecord.TFRecordFile("memory://tfrecord/x")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(file.read, [0, 1, 2, 3] * 8)) == RECORDS * 8


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0, "record 0: the checksum of its length (byte 0) is wrong"),
        (10, "record 0: the checksum of its length (byte 0) is wrong"),
        (14, "record 0: the checksum of its content is wrong"),
        (60, "record 2: the checksum of its content is wrong"),
        (1330, "record 2: the checksum of its content is wrong"),
        (1333, "record 3: the checksum of its length (byte 1,333) is wrong"),
    ],
)
def test_a_flipped_bit_names_file_record_and_remedy(path, at, message):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=re.escape(f"{path}, {message}")) as caught:
        list(tfrecord.TFRecordFile(path, "the page"))
    assert "download the file again from the page" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (1340, "record 3: the file ends at byte 1,340 in its head"),
        (1352, "record 3: the file ends at byte 1,352, the record at byte 1,353"),
        (30, "record 1: the file ends at byte 30 in its head"),
    ],
)
def test_a_truncated_file_names_the_record_that_is_cut(path, size, message):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DatasetError, match=re.escape(f"{path}, {message}. The file is damaged")):
        len(tfrecord.TFRecordFile(path))


def test_a_missing_file_a_folder_and_an_absurd_length(path, tmp_path):
    with pytest.raises(DatasetError, match=r"y: no such file; download it from the page, or ask"):
        tfrecord.open_file(str(tmp_path / "y"), "the page")
    with pytest.raises(DatasetError, match="record 4: not there, the file has 4"):
        tfrecord.TFRecordFile(path).read(4)
    head = struct.pack("<Q", 2**40)
    path.write_bytes(head + struct.pack("<I", wire.masked_crc(head)))
    with pytest.raises(DatasetError, match="expected at most 268,435,456"):
        len(tfrecord.TFRecordFile(path))


def test_a_replaced_file_is_opened_again(path):
    assert len(tfrecord.open_file(str(path))) == 4
    path.unlink()
    path.write_bytes(tfrecord.frame(b"new"))
    assert tfrecord.open_file(str(path)).read(0) == b"new"


VALUES = {
    "floats": np.array([1.5, -2.0, np.inf, 0.0], np.float32),
    "one": np.array([7]),
    "zeros_and_ones": np.arange(300) % 2,
    "wide": np.array([0, 127, 128, 300, 2**40, 2**63 - 1, -1, -(2**63)]),
    "texts": [b"2020-01-01", b"", "fôret".encode()],
}


def protobuf(values):
    """The library's own message; it writes the map in an order of its own."""
    message = tf_example_pb2.Example()
    for name, value in values.items():
        feature = message.features.feature[name]
        if isinstance(value, list):
            feature.bytes_list.value.extend(value)
        elif value.dtype.kind == "f":
            feature.float_list.value.extend(value.tolist())
        else:
            feature.int64_list.value.extend(value.tolist())
    return message


@pytest.mark.parametrize("write", [tfds_files.example, lambda v: protobuf(v).SerializeToString()])
def test_an_example_is_what_protobuf_reads(write):
    record = write(VALUES)
    found = tf_example.parse(record)
    assert tf_example_pb2.Example.FromString(record) == protobuf(VALUES)
    assert found.keys() == VALUES.keys()
    assert found["texts"] == VALUES["texts"]
    for name in ("floats", "one", "zeros_and_ones", "wide"):
        np.testing.assert_array_equal(found[name], VALUES[name])
    kinds = {name: found[name].dtype for name in ("floats", "one", "zeros_and_ones", "wide")}
    assert kinds == {"floats": "float32", "one": "uint8", "zeros_and_ones": "uint8",
                     "wide": "int64"}  # fmt: skip


def test_empty_messages_and_empty_lists():
    message = tf_example_pb2.Example()
    assert tf_example.parse(message.SerializeToString()) == {}
    message.features.feature["nothing"].SetInParent()
    message.features.feature["floats"].float_list.SetInParent()
    message.features.feature["integers"].int64_list.SetInParent()
    message.features.feature["bytes"].bytes_list.SetInParent()
    found = tf_example.parse(message.SerializeToString())
    assert (found["nothing"], found["bytes"]) == ([], [])
    assert (found["floats"].dtype, found["floats"].size) == ("float32", 0)
    assert found["integers"].size == 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 9, 10])
def test_integers_of_every_length_side_by_side(size):
    rng = np.random.default_rng(size)
    high = 2 ** min(7 * size, 63)
    values = rng.integers(high // 128, high, 200, dtype=np.uint64).astype(np.int64)
    values[::3] = 1
    values[::7] = -5
    found = tf_example.parse(protobuf({"x": values}).SerializeToString())["x"]
    np.testing.assert_array_equal(found, values)


def test_every_prefix_of_an_example_is_refused_or_another_example():
    record = protobuf(VALUES).SerializeToString()
    for size in range(1, len(record)):
        with pytest.raises(ValueError, match=r"Example|field"):
            tf_example.parse(record[:size])


def test_what_is_no_example_is_refused():
    for record in (b"\xff\xff", b"\x0a\x05abc", b"hello world", b"\x08\x01"):
        with pytest.raises(ValueError, match=r"Example|field"):
            tf_example.parse(record)
    with pytest.raises(ValueError, match="cut off"):
        tf_example.varints(b"\x01\x80", 0, 2)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        tf_example.varints(b"\x80" * 10 + b"\x01", 0, 11)
