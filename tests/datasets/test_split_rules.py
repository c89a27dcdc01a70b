import hashlib
import math

import numpy as np
import pytest

from rsjax.datasets import split_rules
from rsjax.datasets.split_rules import SHARES, blocks
from rsjax.errors import ConfigError, DatasetError


def ground(seed, count):
    """Clusters of samples over 100 x 60 km, so that blocks hold very different numbers."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform((0, -30_000), (100_000, 30_000), (40, 2))
    points = centres[rng.integers(0, 40, count)] + rng.normal(0, 2_000, (count, 2))
    return [f"patch_{i}" for i in range(count)], points[:, 0], points[:, 1]


def block_of(x, y, side):
    return list(zip((x // side).astype(int), (y // side).astype(int), strict=True))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shares", [SHARES, {"a": 0.5, "b": 0.5}, {"train": 0.9, "test": 0.1}])
def test_whole_blocks_near_their_shares(seed, shares):
    ids, x, y = ground(seed, 800)
    found = blocks(ids, x, y, 5_000, shares, seed)
    assert list(found) == ids
    places = block_of(x, y, 5_000)
    by_block = {}
    for key, place in zip(ids, places, strict=True):
        by_block.setdefault(place, set()).add(found[key])
    assert all(len(some) == 1 for some in by_block.values())
    largest = max(places.count(place) for place in by_block)
    for split, share in shares.items():
        count = list(found.values()).count(split)
        assert 0 < count < share * 800 + largest
        assert count > share * 800 - largest * (len(shares) - 1)


def test_order_of_samples_does_not_matter_and_the_seed_does():
    ids, x, y = ground(1, 500)
    found = blocks(ids, x, y, 5_000)
    order = np.random.default_rng(0).permutation(500)
    again = blocks([ids[i] for i in order], x[order], y[order], 5_000)
    assert again == found
    assert list(again) == [ids[i] for i in order]
    assert blocks(ids, x, y, 5_000, seed=1) != found


def test_the_stated_rule_step_by_step():
    sizes = {(0, 0): 4, (-1, 0): 3, (2, 5): 2, (7, -3): 1, (1, 1): 5, (0, 3): 5}
    points = [(p, i) for p, n in sizes.items() for i in range(n)]
    ids = [f"{p}{i}" for p, i in points]
    found = blocks(ids, [p[0] * 10 + i for p, i in points], [p[1] * 10.0 for p, _ in points], 10,
                   {"train": 0.75, "test": 0.25}, seed=7)  # fmt: skip
    order = sorted(sizes, key=lambda p: hashlib.sha256(f"7  {p[0]} {p[1]}".encode()).hexdigest())
    lacks = {"train": 15.0, "test": 5.0}
    for place in order:
        split = "train" if lacks["train"] >= lacks["test"] else "test"
        lacks[split] -= sizes[place]
        assert {found[f"{place}{i}"] for i in range(sizes[place])} == {split}


def test_a_point_on_a_line_is_in_the_second_block_whatever_its_last_digits():
    x = [1 - 1e-9, 1, 1 + 1e-9, 1.5]
    found = blocks(list("abcde"), [*x, 0.5], [0] * 5, 1, {"train": 0.8, "test": 0.2})
    assert len({found[key] for key in "abcd"}) == 1 != len(set(found.values()))


def test_own_scenes_are_drawn_by_the_same_rule():
    from rsjax.datasets import blocks as scene_blocks

    ids, x, y = ground(3, 400)
    places = block_of(x, y, 5_000)
    shares = (0.7, 0.1, 0.2)
    names = dict(zip(("train", "validation", "test"), shares, strict=True))
    counts = {place: places.count(place) for place in set(places)}
    drawn = split_rules.draw(counts, names, 5)
    found = scene_blocks.draw(np.array(places), shares, 5)
    assert [list(names)[i] for i in found] == [drawn[place] for place in places]
    # By zone, too, each block has the split that its name gives it.
    zoned = split_rules.draw({("z", *place): n for place, n in counts.items()}, names, 5)
    again = blocks(ids, x, y, 5_000, names, 5, ["z"] * 400)
    assert list(again.values()) == [zoned["z", *place] for place in places]


def test_every_split_gets_a_block_where_there_are_just_enough():
    found = blocks(list("abc"), [0, 10, 20], [0, 0, 0], 10)
    assert sorted(found.values()) == sorted(SHARES)
    with pytest.raises(DatasetError, match=r"3 samples lie in 2 blocks of 15, .*smaller blocks"):
        blocks(list("abc"), [0, 10, 20], [0, 0, 0], 15)


def test_one_place_in_two_zones_is_two_blocks():
    zones = ["EPSG:32631", "EPSG:32632"] * 2
    found = blocks(list("abcd"), [1, 1, 2, 2], [0] * 4, 10, {"a": 0.5, "b": 0.5}, zones=zones)
    assert found["a"] == found["c"] != found["b"] == found["d"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((["a", "a"], [0, 1], [0, 1], 1), DatasetError, "'a' is there twice"),
        ((["a", "b"], [0, math.nan], [0, 1], 1), DatasetError, "'b' lies at nan, 1"),
        ((["a", "b"], [0, 1], [math.inf, 1], 1), DatasetError, "'a' lies at 0, inf"),
        ((["a", "b"], [0], [0, 1], 1), DatasetError, "1 x for 2 samples"),
        ((["a"], [0], [0], 0), ConfigError, "block=0"),
        ((["a"], [0], [0], math.nan), ConfigError, "block=nan"),
        ((["a"], [0], [0], 1, {"train": 0.5, "test": 0.4}), ConfigError, "sum to 1"),
        ((["a"], [0], [0], 1, {"train": 1.0, "test": 0.0}), ConfigError, "above 0"),
        (([], [], [], 1), DatasetError, "0 samples lie in 0 blocks"),
    ],
)  # fmt: skip
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        blocks(*arguments)


def test_shares_are_those_of_the_stratified_rule():
    assert split_rules.SHARES == {"train": 0.72, "validation": 0.08, "test": 0.2}
