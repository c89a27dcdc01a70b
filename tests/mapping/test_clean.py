"""From a map on disk to a cleaned one: the field by tiles, the order of things, what is refused."""

import io
import json
import os
import pathlib
import subprocess
import sys

import area_maps as maps
import identity
import numpy as np
import pytest
import rasterio
from rich.console import Console
from rio_cogeo import cog_validate

from rsjax.datasets.scene_area import Area
from rsjax.errors import ConfigError, DiskError, NomenclatureError, SceneError, SensorError
from rsjax.landcover import nomenclature
from rsjax.mapping import (
    clean,
    clean_crf,
    clean_source,
    crf,
    landmap,
    majority,
    mapping_unit,
    pixel_area,
)
from rsjax.mapping.clean_options import Options, field
from rsjax.mapping.crf import Crf
from rsjax.mapping.writer import open_writer

ROOT = pathlib.Path(__file__).parents[2]
SHAPE = (20, 24)
CLASSES = identity.classes()
BANDS = tuple(f"sentinel2_l2a/{band}" for band in ("B02", "B03", "B11"))
SETTINGS = Crf(2.0, 1.0, 2.0, 1.5, 1.0, iterations=2, radius=2)
UNIT = ["reflectance"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map with probabilities, its scene at two pixel sizes, and what it was made from."""
    folder, rng = tmp_path_factory.mktemp("clean"), np.random.default_rng(0)
    shares = np.round(rng.dirichlet(np.ones(4), SHAPE) * 250).astype(np.uint8)
    missing = rng.random(SHAPE) < 0.1
    classes = shares.argmax(axis=-1).astype(np.uint8)
    fine = rng.uniform(0.05, 0.4, (2, *SHAPE)).astype(np.float32)
    coarse = rng.uniform(0.05, 0.4, (1, SHAPE[0] // 2, SHAPE[1] // 2)).astype(np.float32)
    fine[:, 3, 4:9] = np.nan  # the map may have classes there
    missing[3, 4:6] = False
    area = Area(rasterio.crs.CRS.from_epsg(32633), rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), *SHAPE)
    about = {"model": "m", "bands": list(BANDS)}
    with open_writer(folder / "map.tif", area, CLASSES, about, "probability", True) as out:
        answers = {"classes": classes, "confidence": shares.max(axis=-1), "probabilities": shares}
        out.write(answers, missing)
        out.finish()
    scene = [f"B02,B03={identity.write(folder / 'fine.tif', fine, None)}",
             f"B11={identity.write(folder / 'coarse.tif', coarse, None, side=20.0)}"]  # fmt: skip
    return folder, classes, missing, shares, fine, coarse, scene


def quiet(record=False):
    return Console(record=record, width=100, file=io.StringIO())


def expected_field(made):
    """The field by all pairs of the window, from the arrays that the files were written from."""
    _, classes, missing, shares, fine, coarse, _ = made
    valid = ~missing & np.isfinite(fine).all(axis=0)
    bands = np.concatenate([fine, coarse.repeat(2, axis=1).repeat(2, axis=2)]).astype(np.float64)
    mean, std = bands[:, valid].mean(axis=1), bands[:, valid].std(axis=1)
    bands = np.where(valid, (bands - mean[:, None, None]) / std[:, None, None], 0)
    unary = -np.log(np.maximum(shares * 0.004, 0.002)).transpose(2, 0, 1)
    unary = np.where(valid, unary, 0).astype(np.float32)
    q = np.asarray(crf.exact(unary, bands, valid, crf.potts(4), SETTINGS, window=True))
    return valid, np.where(valid, q.argmax(axis=0), np.where(missing, 255, classes))


def codes_of(path):
    with rasterio.open(path) as raster:
        return raster.read(1)


def test_the_field_by_tiles_is_that_of_the_whole(made):
    folder, classes, missing, *_, scene = made
    land_map = landmap.read_map(folder / "map.tif")
    before = np.where(missing, np.uint8(255), classes)
    found = before.copy()
    with (
        clean_source.open_probabilities(land_map) as (opened, _),
        clean_source.open_source(land_map, opened, scene, [], UNIT, before) as source,
    ):
        skipped = clean_crf.run(source, SETTINGS, crf.potts(4), before, found, 8)
    valid, expected = expected_field(made)
    assert skipped == (~missing & ~valid).sum() >= 2
    np.testing.assert_array_equal(found, expected)
    assert (found != before).mean() > 0.1


def test_all_three_in_their_order_with_provenance_and_what_lies_beside(made, tmp_path):
    folder, _, missing, shares, *_, scene = made
    options = Options(SETTINGS, "", 3, "0.05ha", 4, (CLASSES.names[3],))
    output, console = tmp_path / "clean.tif", quiet(record=True)
    done = clean.clean(
        folder / "map.tif", output, options, scene=scene, units=UNIT, console=console
    )
    expected = expected_field(made)[1]
    smooth = majority.majority(expected.astype(np.uint8), 3, keep=(3,))
    final = np.empty_like(smooth)
    given = landmap.read_map(folder / "map.tif")
    areas = pixel_area.of_grid(given.crs, given.transform, given.shape)
    assert mapping_unit.merge_small(smooth, final, 0.05, areas, keep=(3,)) > 0
    codes = np.where(missing, 0, np.array([*CLASSES.codes])[np.minimum(final, 3)])
    np.testing.assert_array_equal(codes_of(output), codes)
    assert {file.name for file in done.files} == {file.name for file in tmp_path.iterdir()}
    assert cog_validate(output, strict=True)[0]
    before = codes_of(folder / "map.tif")
    with rasterio.open(output) as new:
        tags = json.loads(new.tags()["RSJAX_PROVENANCE"])
        assert tags["model"] == "m"
        assert tags["clean"][0]["options"]["crf"]["theta_beta"] == 1.5
        assert len(tags["clean"][0]["map_sha256"]) == 64
    pixels = done.changes.pixels
    for c, code in enumerate(CLASSES.codes):
        assert pixels[c].sum() == (before == code).sum()
        assert pixels[:, c].sum() == (codes == code).sum()
    assert pixels.sum() == (~missing).sum()
    assert done.changes.hectares.sum() == pytest.approx(0.01 * (~missing).sum(), rel=2e-3)
    text = console.export_text()
    assert f"{(codes != before).sum()} of {(~missing).sum()} pixels" in text
    assert "regions below 0.05ha were merged" in text
    # The probabilities stay the model's, and the confidence is that of the class as written.
    chosen = np.take_along_axis(shares, np.minimum(final, 3)[..., None], -1)[..., 0]
    np.testing.assert_array_equal(
        codes_of(tmp_path / "clean_confidence.tif"), np.where(missing, 255, chosen)
    )
    with rasterio.open(tmp_path / "clean_probabilities.tif") as raster:
        assert (raster.read(2) == np.where(missing, 255, shares[..., 1])).all()
    # Once more: the list of what was done grows.
    again = clean.clean(
        output,
        tmp_path / "again.tif",
        Options(min_unit="0.05ha", keep=(CLASSES.names[3],)),
        console=quiet(),
    )
    assert again.changes.changed == 0
    with rasterio.open(tmp_path / "again.tif") as raster:
        assert len(json.loads(raster.tags()["RSJAX_PROVENANCE"])["clean"]) == 2
    with pytest.raises(SceneError, match="was cleaned before"):
        clean.clean(output, tmp_path / "no.tif", Options(SETTINGS), scene=scene, console=quiet())
    assert not (tmp_path / "no.tif").exists()


def test_a_map_of_others_is_cleaned_by_the_door(tmp_path):
    codes = maps.random_codes((30, 40))
    codes[5:9, 3:20] = 0
    path = maps.write(tmp_path / "map.tif", codes, tag="", crs="EPSG:4326", transform=maps.DEGREES)
    output = tmp_path / "new.tif"
    arguments = [f"--map={path}", f"--output={output}", "--nomenclature=worldcover", "--majority=3",
                 "--min_unit=9px", "--connectivity=8", "--keep=Permanent water bodies"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    command = [sys.executable, "-m", "rsjax.clean"]
    found = subprocess.run([*command, *arguments], text=True, env=environment,
                           capture_output=True, check=False)  # fmt: skip
    assert found.returncode == 0, found.stderr
    known = nomenclature.load("worldcover")
    water = known.index("Permanent water bodies")
    given = np.where(codes == 0, 255, known.encode(np.maximum(codes, 10))).astype(np.uint8)
    smooth = majority.majority(given, 3, (water,))
    final = np.empty_like(smooth)
    mapping_unit.merge_small(smooth, final, 9, None, 8, (water,))
    expected = np.array([*known.codes] + [0] * 245)[final]
    np.testing.assert_array_equal(codes_of(output), expected)
    changed = int((expected != codes).sum())
    assert f"{changed} of {(codes > 0).sum()} pixels" in found.stdout
    assert landmap.read_map(output).nomenclature.codes == known.codes


def test_costs_of_classes_come_from_a_table(tmp_path):
    from rsjax.mapping.clean_options import compatibility

    names = CLASSES.names
    rows = [["", *reversed(names)]] + [
        [a, *(abs(int(a[6:8]) - int(b[6:8])) / 10 for b in reversed(names))] for a in names
    ]
    path = tmp_path / "costs.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    index = np.arange(4)
    np.testing.assert_allclose(compatibility(str(path), CLASSES), abs(index[:, None] - index))
    np.testing.assert_array_equal(compatibility("", CLASSES), 1 - np.eye(4))
    for change, message in (
        (("1.0", "2.0", 1), "the same both ways"),
        (("20", "21", 2), "expected"),
        (("0.0", "x", 1), "could not convert"),
        (("0.0", "0" * 200_000, 1), "field larger than field limit"),
        (("1.0", "1e300", -1), "expected costs from 0 to 1,000,000"),
    ):
        path.write_text("\n".join(",".join(map(str, row)) for row in rows).replace(*change))
        with pytest.raises(ConfigError, match=message):
            compatibility(str(path), CLASSES)


@pytest.mark.parametrize(
    ("options", "given", "error", "message"),
    [
        (Options(SETTINGS), {}, ConfigError, "needs the scene"),
        (Options(majority=3), {"scene": ["a.tif"]}, ConfigError, "--scene and --compatibility are"),
        (Options(SETTINGS, keep=("water",)), {"scene": ["a.tif"]}, ConfigError,
         "--keep is for --majority and --min_unit"),
        (Options(min_unit="3px", keep=("water",)), {}, NomenclatureError, "'water' is no class"),
        (Options(), {}, ConfigError, "nothing to do; give --crf"),
        (Options(SETTINGS), {"scene": ["B02,B03=fine.tif"]}, SensorError, "B11 is missing"),
        (Options(SETTINGS), {"scene": ["B02,B03,B11=other.tif"]}, SceneError, "expected the scene"),
        (Options(SETTINGS), {"output": "fine.tif"}, ConfigError, "is a file of the scene"),
        (Options(majority=3), {"output": "map.tif"}, ConfigError, "is a file of the scene"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_leaves_nothing(
    made, tmp_path, monkeypatch, options, given, error, message
):
    folder, *_, scene = made
    monkeypatch.chdir(folder)
    identity.write("other.tif", np.full((3, 9, 9), 0.1, np.float32), None)
    before = {file.name for file in folder.iterdir()}
    given = {"output": tmp_path / "new.tif", **given}
    if str(given["output"]) == "fine.tif":
        given["scene"] = scene
    with pytest.raises(error, match=message):
        clean.clean("map.tif", given.pop("output"), options, units=UNIT, console=quiet(), **given)
    assert {file.name for file in folder.iterdir()} == before
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_message_and_leaves_nothing(made, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskError, match=r"new.tif: could not be written \(No space left"):
        clean.clean(made[0] / "map.tif", tmp_path / "new.tif", Options(majority=3), console=quiet())
    assert not list(tmp_path.iterdir())


def test_probabilities_of_another_map_are_refused(made, tmp_path):
    folder, *_, scene = made
    path = maps.write(tmp_path / "map.tif", maps.random_codes(SHAPE))
    options = Options(SETTINGS)
    with pytest.raises(SceneError, match=r"map_probabilities.tif: no such file.*--probabilities"):
        clean.clean(path, tmp_path / "new.tif", options, scene=scene, console=quiet())
    (tmp_path / "map_probabilities.tif").write_bytes(
        (folder / "map_probabilities.tif").read_bytes()
    )
    with pytest.raises(SceneError, match=r"is not that of .*; --crf needs"):
        clean.clean(path, tmp_path / "new.tif", options, scene=scene, console=quiet())
    done = clean.clean(path, tmp_path / "new.tif", Options(majority=3), console=quiet())
    assert "taken for those of another map" in done.notes[0]
    assert not (tmp_path / "new_probabilities.tif").exists()


def test_parameters_of_the_field_are_set_by_name():
    assert field(True, {"theta_beta": 0.5, "radius": 3}) == Crf(theta_beta=0.5, radius=3)
    assert field(False, {}) is None
    with pytest.raises(ConfigError, match="expected one of appearance, smoothness"):
        field(True, {"sigma": 1})
    with pytest.raises(ConfigError, match="--crf_option is for --crf"):
        field(False, {"radius": 1})


def test_tiles_take_a_bounded_space():
    for radius, iterations in ((1, 1), (1, 200), (5, 5), (9, 5), (20, 5)):
        settings = Crf(radius=radius, iterations=iterations)
        cuts = clean_crf.cut(settings, (5000, 7000), 8, 10)
        side, size = cuts.core[0], cuts.window[0]
        need = 4 * ((2 * radius + 1) ** 2 + 7 * 8 + 10 * 10) * size**2
        assert clean_crf.LEAST_TILE <= side == cuts.core[1] <= clean_crf.TILE
        assert size == side + 2 * settings.halo
        assert need <= (clean_crf.BYTES if side > clean_crf.LEAST_TILE else clean_crf.MOST)
    message = r"radius=50 and iterations=5 need .* GB for one tile of 664 x 664 .* of 300, more"
    with pytest.raises(ConfigError, match=message):
        clean_crf.cut(Crf(radius=50), (5000, 7000), 8, 10)
    # A small map is one tile, whatever the halo, and no pair reaches beyond it.
    cuts = clean_crf.cut(Crf(radius=50), (21, 30), 8, 10, step=2)
    assert (cuts.whole, cuts.core, cuts.window) == ((22, 30), (22, 30), (22, 30))
    assert cuts.settings.radius == 29
    assert cuts.spans(0, 0) == ((0, 22), (0, 30))


def test_what_takes_too_much_is_refused_before_the_scene_is_read(made, tmp_path, monkeypatch):
    folder, *_, scene = made
    monkeypatch.setattr(clean_crf, "MOST", 10**5)
    monkeypatch.setattr(clean_source, "open_source", None)
    with pytest.raises(ConfigError, match=r"for one tile of 20 x 24 pixels .*a smaller radius"):
        clean.clean(folder / "map.tif", tmp_path / "new.tif", Options(SETTINGS), scene=scene,
                    units=UNIT, console=quiet())  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_kept_river_of_one_pixel_stays(tmp_path):
    codes = np.full((20, 30), 10, np.uint8)
    codes[:, 12], codes[4, 4] = 80, 50
    path = maps.write(tmp_path / "map.tif", codes, tag="", crs="EPSG:32633")
    water = "Permanent water bodies"
    for keep in ((), (water,)):
        for options in (Options(majority=3, min_unit="0.5ha", keep=keep),
                        Options(majority=3, keep=keep)):  # fmt: skip
            output = tmp_path / "new.tif"
            clean.clean(path, output, options, nomenclature="worldcover", console=quiet())
            found = codes_of(output)
            assert (found[:, 12] == (80 if keep else 10)).all()
            assert found[4, 4] == 10


@pytest.mark.parametrize("about", [
    "5", "[1]", "{", "[" * 100_000, {"clean": 5}, {"bands": 5}, {"bands": ["B04"]}, {"bands": [1]},
    {"bands": {"a/b": 1}}, {"bands": list(BANDS), "clean": None},
])  # fmt: skip
def test_damaged_provenance_is_one_message(made, tmp_path, about):
    folder, *_, scene = made
    for name in ("map.tif", "map_probabilities.tif"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
        text = about if isinstance(about, str) else json.dumps(about)
        with rasterio.open(tmp_path / name, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
            raster.update_tags(RSJAX_PROVENANCE=text)
    for options, given in ((Options(SETTINGS), {"scene": scene, "units": UNIT}),
                           (Options(majority=3), {})):  # fmt: skip
        with pytest.raises(SceneError, match=r"map\.tif: its RSJAX_PROVENANCE is damaged"):
            clean.clean(tmp_path / "map.tif", tmp_path / "new.tif", options, console=quiet(),
                        **given)  # fmt: skip
    assert not (tmp_path / "new.tif").exists()
