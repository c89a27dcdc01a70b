import hashlib

import pytest

from rsjax.datasets import splits
from rsjax.errors import DatasetError


def test_stratified_is_the_stated_rule():
    by_class = {c: [f"{c}/{c}_{i}" for i in range(1, n + 1)] for c, n in (("A", 50), ("B", 7))}
    found = splits.stratified(by_class)
    for name, keys in by_class.items():
        order = sorted(keys, key=lambda k: hashlib.sha256(k.split("/")[1].encode()).hexdigest())
        test, validation = {50: (10, 4), 7: (1, 1)}[len(keys)]
        mine = {split: [k for k in part if k.startswith(name)] for split, part in found.items()}
        assert set(mine["test"]) == set(order[:test])
        assert set(mine["validation"]) == set(order[test : test + validation])
        assert set(mine["train"]) == set(order[test + validation :])
        for part in mine.values():
            assert part == [k for k in keys if k in part]  # the order given


def test_stratified_sizes_of_the_real_datasets():
    sizes = (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)  # EuroSAT
    found = splits.stratified({str(i): [f"{i}/{k}" for k in range(n)] for i, n in enumerate(sizes)})
    assert {k: len(v) for k, v in found.items()} == {
        "train": 19_440,
        "validation": 2_160,
        "test": 5_400,
    }
    found = splits.stratified({str(i): [f"{i}_{k}" for k in range(100)] for i in range(21)})
    assert [len(v) for v in found.values()] == [1_512, 168, 420]


def test_split_of_an_image_does_not_depend_on_folder_or_extension():
    plain = splits.stratified({"A": [f"A/A_{i}" for i in range(40)]})
    other = splits.stratified({"A": [f"x/y/A_{i}.tif" for i in range(40)]})
    assert {k: [splits.stem(n) for n in v] for k, v in plain.items()} == {
        k: [splits.stem(n) for n in v] for k, v in other.items()
    }


def lists(train, test):
    return {"train": ("t.txt", train), "test": ("e.txt", test)}


def test_listed():
    keys = ["A/A_1", "A/A_2", "B/B_1", "B/B_2"]
    found = splits.listed(lists(b"B_1.jpg\r\nA_1.jpg\r\n\r\n", b"A_2.tif\n"), keys)
    assert found == {"train": ["B/B_1", "A/A_1"], "test": ["A/A_2"]}


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (b"A_1.jpg\nA_9.jpg", b"", r"t\.txt:2: 'A_9' is not among the 2"),
        (b"A_1.jpg\nA_1.jpg", b"", r"t\.txt:2: 'A_1' is also in t\.txt"),
        (b"A_1.jpg", b"A_2.jpg\nA_1.jpg", r"e\.txt:2: 'A_1' is also in t\.txt"),
        (b"\xff\xfe\x00", b"", r"t\.txt: not a text file"),
    ],
)
def test_listed_refuses(train, test, message):
    with pytest.raises(DatasetError, match=message):
        splits.listed(lists(train, test), ["A/A_1", "A/A_2"])
