"""The experiment's halves, and its table of maps against a reference."""

import importlib.util
import pathlib

import numpy as np
import pytest
from sklearn import metrics

from rsjax.datasets import geotiff
from rsjax.mapping import landmap

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "north_carolina"
CSV = "code,name,colour,parent,ignore\n1,town,#d7191c,,\n2,wood,#1b7837,,\n0,unlabelled,,,yes\n"
SIDE, ROWS, COLUMNS = 16, 64, 80


def script(name):
    spec = importlib.util.spec_from_file_location(f"nc_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("columns", [5, 6, 8])
def test_halves_keep_validation_between_training_and_test(columns):
    places = [(7 + 64 * r, 3 + 64 * c) for r in range(5) for c in range(columns) if r + c]
    block_of, splits = script("prepare").halves(places)
    at = {}
    for place, block in block_of.items():
        at.setdefault(splits[block], set()).add((place[1] - 3) // 64)
    west = -(-columns // 2)
    assert at["train"] | at["validation"] == set(range(west))
    assert at["test"] == set(range(west, columns))
    assert max(at["train"]) < min(at["validation"])
    assert max(np.bincount(np.unique(list(block_of.values()), axis=0, return_inverse=True)[1])) == 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A reference in four patches, and a map that is wrong in a fifth of the pixels."""
    folder = tmp_path_factory.mktemp("nc")
    random = np.random.default_rng(0)
    codes = random.integers(1, 3, (ROWS, COLUMNS)).astype(np.uint8)
    codes[:, -20:] = 0
    options = {"crs": "EPSG:32119", "nodata": 0}
    (folder / "landclass96.csv").write_text(CSV)
    lines, corners = ["image,mask,split,block"], [(4, 8), (4, 24), (36, 40), (36, 56)]
    for i, (row, col) in enumerate(corners):
        place = (30.0, 0.0, 6e5 + 30 * col, 0.0, -30.0, 2e5 - 30 * row)
        window = np.s_[row : row + SIDE, col : col + SIDE]
        geotiff.write_geotiff(folder / f"{i}.tif", codes[window], transform=place, **options)
        lines.append(f"{i}.tif,{i}.tif,test,{i // 2}")
    (folder / "samples.csv").write_text("\n".join([*lines, "a.tif,a.tif,train,9", ""]))
    mapped = np.where(random.random(codes.shape) < 0.2, 3 - codes, codes)
    mapped[codes == 0] = 0
    geotiff.write_geotiff(
        folder / "raw.tif", mapped, transform=(30.0, 0.0, 6e5, 0.0, -30.0, 2e5), **options
    )
    table = script("table")
    table.UNITS, table.SEEDS = 200, 20
    raw = landmap.read_map(folder / "raw.tif", str(folder / "landclass96.csv"))
    classes = np.where(mapped == 0, 255, mapped - 1).astype(np.uint8)
    table.write_cut(folder / "map.tif", classes, raw)
    used = np.zeros(codes.shape, bool)
    for row, col in corners:
        used[row : row + SIDE, col : col + SIDE] = True
    return table, folder, codes, mapped, used & (codes > 0)


def test_table_agrees_with_sklearn_and_counting(made, tmp_path, capsys):
    table, folder, codes, mapped, used = made
    table.main(folder, [("map", str(folder / "map.tif"))], tmp_path)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]]
             for line in capsys.readouterr().out.splitlines() if line]  # fmt: skip
    truth, row, again = lines[2], lines[3], lines[6]
    true, found = codes[used], mapped[used]
    assert row[1].startswith(f"{metrics.accuracy_score(true, found):.3f} [")
    assert row[2].startswith(f"{metrics.jaccard_score(true, found, average='macro'):.3f} [")
    for code in (1, 2):  # 0.09 ha a pixel, up to the projection's scale
        assert float(truth[3 + code]) == pytest.approx(0.09 * (true == code).sum(), rel=0.005)
        assert float(row[3 + code].split(";")[0]) == pytest.approx(
            0.09 * (found == code).sum(), rel=0.005
        )
    assert float(again[1].split("; ")[3][:-1]) >= 80  # 20 samples of 95 %


def test_map_without_classes_where_the_reference_has_some_is_refused(made):
    table, folder, codes, _, used = made
    grid = landmap.read_map(folder / "map.tif")
    truth = table.read_truth(folder, grid)
    np.testing.assert_array_equal(truth.classes != 255, used)
    np.testing.assert_array_equal(truth.classes[used] + 1, codes[used])
    with pytest.raises(SystemExit, match="no class in pixels"):
        table.score(np.full(codes.shape, 255, np.uint8), truth, 2)
