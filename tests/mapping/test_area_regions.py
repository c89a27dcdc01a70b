"""Estimates within regions: formulas unit by unit, repeated sampling, and too few units."""

import dataclasses
import types

import numpy as np
import pytest
import shapely
from rasterio import Affine

from rsjax.mapping import area_regions
from rsjax.mapping.area_table import Tally
from rsjax.mapping.assessment import Units

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def land():
    """A map of three classes that grow towards the east, and the truth: flat (mapped, truth)."""
    random = np.random.default_rng(0)
    col = np.arange(40_000) % 200
    draw = random.random(40_000)
    mapped = np.where(draw < 0.05, 2, np.where(draw < 0.1 + 0.3 * col / 200, 1, 0))
    chance = np.array([[0.88, 0.08, 0.04], [0.15, 0.82, 0.03], [0.2, 0.1, 0.7]])
    # The map is worse in the west, so a region's accuracies are not those of the map.
    chance = np.stack([chance, 0.5 * chance + 0.5 / 3])[(col < 60).astype(int), mapped]
    truth = (random.random((40_000, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    return mapped, np.minimum(truth, 2)


def draw(land, sizes, random):
    """A stratified sample: (units, the numbers of their pixels)."""
    mapped, truth = land
    at = np.concatenate([random.choice(np.flatnonzero(mapped == c), n, replace=False)
                         for c, n in enumerate(sizes)])  # fmt: skip
    pixels = np.bincount(mapped, minlength=3)
    units = Units(mapped[at], mapped[at], truth[at], np.ones(len(at)), at // 200, at % 200,
                  pixels.astype(float), pixels, NAMES, "")  # fmt: skip
    return units, at


def counted(land, share):
    return Tally("r", np.full(3, np.nan), np.bincount(land[0], share, 3), 0, 0)


def test_a_region_that_is_the_whole_map_has_its_estimates(land):
    units, at = draw(land, (200, 80, 50), np.random.default_rng(1))
    whole = units.accuracy(3, 0.9)
    found = area_regions.estimate(
        units, np.ones(len(at)), counted(land, np.ones(40_000)), NAMES, 0.9
    )
    assert (found.units, found.joined, found.why) == (330, (), "")
    for name in ("area", "overall", "users", "producers"):
        one, other = (dataclasses.astuple(getattr(a, name)) for a in (found.accuracy, whole))
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_the_formulas_written_out_unit_by_unit(land):
    random = np.random.default_rng(2)
    share = np.clip((150 - np.arange(40_000) % 200) / 60, 0, 1)
    units, at = draw(land, (200, 80, 50), random)
    sizes = counted(land, share).hectares
    found = area_regions.estimate(units, share[at], counted(land, share), NAMES)
    for c in range(3):
        area = variance = 0.0
        for h in range(3):
            own = [(share[u], float(land[1][u] == c)) for u in at if land[0][u] == h and share[u]]
            total = sum(f for f, _ in own)
            mean = sum(f * y for f, y in own) / total
            n = len(own)
            drawn = (200, 80, 50)[h] / units.pixels[h]
            squares = sum((f / (total / n) * (y - mean)) ** 2 for f, y in own)
            area += sizes[h] * mean
            variance += sizes[h] ** 2 * (1 - drawn) / n / (n - 1) * squares
        assert found.accuracy.area.value[c] == pytest.approx(area, rel=1e-12)
        assert found.accuracy.area.se[c] == pytest.approx(variance**0.5, rel=1e-12)
    assert found.accuracy.area.value.sum() == pytest.approx(share.sum(), rel=1e-12)


def test_intervals_of_a_region_cover_its_truth(land):
    """400 samples of 450 units, of which 160 lie in a region with soft edges, and 55 in another."""
    col, row = np.arange(40_000) % 200, np.arange(40_000) // 200
    soft = np.clip((90 - col - 0.3 * row) / 30, 0, 1)
    corner = ((col > 120) & (row < 65)).astype(float)
    random = np.random.default_rng(3)
    for share, least in ((soft, 0.91), (corner, 0.87)):
        truth = np.bincount(land[1], share, 3)
        tally, hits, values, errors = counted(land, share), [], [], []
        for _ in range(400):
            units, at = draw(land, (300, 100, 50), random)
            found = area_regions.estimate(units, share[at], tally, NAMES).accuracy
            if found is not None:
                hits.append((found.area.low <= truth) & (truth <= found.area.high))
                values.append(found.area.value)
                errors.append(found.area.se)
        assert len(hits) > 200
        spread = np.std(values, axis=0)
        bias = np.mean(values, axis=0) - truth
        assert (np.abs(bias) < 4 * spread / len(hits) ** 0.5).all(), bias / spread
        np.testing.assert_allclose(np.mean(errors, axis=0), spread, rtol=0.15)
        assert (np.mean(hits, axis=0)[:2] > least).all(), np.mean(hits, axis=0)
        assert (np.mean(hits, axis=0) < 0.98).all()


def test_units_of_another_maps_strata_weigh_what_they_stand_for(land):
    """The region's strata are this map's classes; the units were drawn from another map's."""
    random = np.random.default_rng(4)
    old = np.where(random.random(40_000) < 0.3, random.integers(0, 3, 40_000), land[1])
    units, at = draw((old, land[1]), (150, 100, 90), random)
    units = dataclasses.replace(units, mapped=land[0][at])
    share = (np.arange(40_000) % 200 < 110).astype(float)
    sizes = counted(land, share).hectares
    found = area_regions.estimate(units, share[at], counted(land, share), NAMES)
    each = (np.bincount(old) / np.array([150, 100, 90]))[old[at]]
    for c in range(3):
        area = variance = 0.0
        for g in range(3):
            own = (land[0][at] == g) & (share[at] > 0)
            mean = np.average(land[1][at][own] == c, weights=each[own])
            area += sizes[g] * mean
            residual = each[own] / each[own].mean() * ((land[1][at][own] == c) - mean)
            kept = 1 - 1 / each[own]  # of the finite population, each unit's own
            n = own.sum()
            variance += sizes[g] ** 2 / n / (n - 1) * (kept * residual**2).sum()
        assert found.accuracy.area.value[c] == pytest.approx(area, rel=1e-12)
        assert found.accuracy.area.se[c] == pytest.approx(variance**0.5, rel=1e-12)


@pytest.mark.parametrize(("others", "worth"), [(30, "32.0"), (47, "49.0"), (49, None)])
def test_units_are_worth_what_they_stand_for(others, worth):
    """All of 100 pixels were drawn, beside units that stand for 100 pixels each: Kish's number."""
    at = np.arange(100 + others)
    stratum, nothing, pixels = (at >= 100).astype(int), 0 * at, np.array([100, 100 * others])
    units = Units(stratum, nothing, at % 2, np.ones(len(at)), at, nothing, pixels * 1.0,
                  pixels, ("A", "B"), "")  # fmt: skip
    whole = Tally("r", *[np.array([pixels.sum(), 0.0])] * 2, 0, 0)
    found = area_regions.estimate(units, np.ones(len(at)), whole, ("a", "b"))
    assert (found.accuracy is None) == (worth is not None)
    if worth is not None:
        assert found.why == (f"{len(at)} sample units lie in it, which stand for so different "
                             f"areas that they are worth {worth}; 50 are needed")  # fmt: skip


def test_units_drawn_with_certainty_do_not_hide_the_spread_of_the_others():
    """Of another map's strata 100 pixels are all drawn, and 60 of 9,900; all are one map class."""
    random = np.random.default_rng(1)
    at = np.concatenate([np.arange(100), random.choice(np.arange(100, 10_000), 60, replace=False)])
    stratum, truth = (at >= 100).astype(int), (random.random(10_000) < 0.3).astype(int)[at]
    nothing = np.zeros(160, int)
    pixels = np.array([100, 9900])
    units = Units(stratum, nothing, truth, np.ones(160), at, nothing, pixels.astype(float), pixels,
                  ("A", "B"), "")  # fmt: skip
    whole = Tally("r", np.array([1e4, 0]), np.array([1e4, 0]), 0, 0)
    found = area_regions.estimate(units, np.ones(160), whole, ("a", "b")).accuracy.area
    own = truth[100:]
    expected = 9900 * ((1 - 60 / 9900) * own.var(ddof=1) / 60) ** 0.5
    assert found.value[1] == pytest.approx(truth[:100].sum() + 9900 * own.mean(), rel=1e-12)
    assert found.se[1] == pytest.approx(expected, rel=0.03)


def test_too_few_units_are_said_and_rare_classes_joined(land):
    units, at = draw(land, (200, 80, 50), np.random.default_rng(1))
    share = (at % 200 < 20).astype(float)
    whole = counted(land, (np.arange(40_000) % 200 < 20).astype(float))
    found = area_regions.estimate(units, share, whole, NAMES)
    assert found.accuracy is None
    assert found.why == f"{int(share.sum())} sample units lie in it, 50 are needed"
    halves = area_regions.estimate(units, share / 2, whole, NAMES).why
    n = int(share.sum())
    assert halves.startswith(f"{n} sample units lie in it ({n / 2} by the shares of their pixels")
    share = (units.mapped != 2).astype(float)
    share[-1] = 1  # a single unit of c
    some = Tally("r", np.full(3, np.nan), np.array([900.0, 100.0, 10.0]), 0, 0)
    joined = area_regions.estimate(units, share, some, NAMES)
    assert joined.joined == ("b", "c")
    assert joined.accuracy.area.value.sum() == pytest.approx(1010)
    # The joined stratum by hand: each of its units weighs what it stands for.
    pixels = units.pixels / np.array([200, 80, 50])
    inside = share > 0
    pair = inside & (units.mapped > 0)
    mean = np.average(units.reference[pair] == 1, weights=pixels[units.mapped[pair]])
    first = inside & (units.mapped == 0)
    expected = 900 * (units.reference[first] == 1).mean() + 110 * mean
    assert joined.accuracy.area.value[1] == pytest.approx(expected, rel=1e-12)
    much = Tally("r", np.full(3, np.nan), np.array([900.0, 100.0, 100.0]), 0, 0)
    refused = area_regions.estimate(units, share, much, NAMES)
    assert refused.accuracy is None
    assert refused.why == "too few sample units in 9% of its area, in map classes: c (1)"


@pytest.mark.parametrize("flip", [1, -1])
def test_shares_of_pixels_by_their_intersection(flip):
    t = Affine(30, 0, 1000, 0, -30 * flip, 5000)
    land_map = types.SimpleNamespace(transform=t)
    row, col = (index.ravel() for index in np.indices((12, 9)))
    units = types.SimpleNamespace(row=row, col=col)
    ring = shapely.Point(1130, 5000 - flip * 170).buffer(110)
    shapes = {"ring": ring.difference(ring.buffer(-60)), "far": shapely.box(0, 0, 9, 9)}
    found = area_regions.shares(land_map, shapes, units)
    for i, shape in enumerate(shapes.values()):
        for u, (r, c) in enumerate(zip(row, col, strict=True)):
            y = sorted(5000 - 30 * flip * (r + k) for k in (0, 1))
            box = shapely.box(1000 + 30 * c, y[0], 1030 + 30 * c, y[1])
            assert found[i, u] == pytest.approx(box.intersection(shape).area / 900, abs=1e-9)
    assert (found[0] == 1).any()
    assert not found[1].any()
