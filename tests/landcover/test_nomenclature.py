import dataclasses
import itertools
import json
import re
import shutil

import numpy as np
import pytest

from rsjax import landcover
from rsjax.errors import NomenclatureError
from rsjax.landcover import IGNORE, NAMES, Nomenclature, crosswalk, load, read_csv, tables

# Typed from the papers' tables, not read from the package's files.
CLC = (
    *(111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142),
    *(211, 212, 213, 221, 222, 223, 231, 241, 242, 243, 244),
    *(311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335),
    *(411, 412, 421, 422, 423, 511, 512, 521, 522, 523),
)
NAMES_19 = (
    "Urban fabric",
    "Industrial or commercial units",
    "Arable land",
    "Permanent crops",
    "Pastures",
    "Complex cultivation patterns",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Agro-forestry areas",
    "Broad-leaved forest",
    "Coniferous forest",
    "Mixed forest",
    "Natural grassland and sparsely vegetated areas",
    "Moors, heathland and sclerophyllous vegetation",
    "Transitional woodland, shrub",
    "Beaches, dunes, sands",
    "Inland wetlands",
    "Coastal wetlands",
    "Inland waters",
    "Marine waters",
)
NAME_43_TO_19 = {
    "Continuous urban fabric": 0,
    "Discontinuous urban fabric": 0,
    "Industrial or commercial units": 1,
    "Road and rail networks and associated land": None,
    "Port areas": None,
    "Airports": None,
    "Mineral extraction sites": None,
    "Dump sites": None,
    "Construction sites": None,
    "Green urban areas": None,
    "Sport and leisure facilities": None,
    "Non-irrigated arable land": 2,
    "Permanently irrigated land": 2,
    "Rice fields": 2,
    "Vineyards": 3,
    "Fruit trees and berry plantations": 3,
    "Olive groves": 3,
    "Pastures": 4,
    "Annual crops associated with permanent crops": 3,
    "Complex cultivation patterns": 5,
    "Land principally occupied by agriculture, with significant areas of natural vegetation": 6,
    "Agro-forestry areas": 7,
    "Broad-leaved forest": 8,
    "Coniferous forest": 9,
    "Mixed forest": 10,
    "Natural grassland": 11,
    "Moors and heathland": 12,
    "Sclerophyllous vegetation": 12,
    "Transitional woodland/shrub": 13,
    "Beaches, dunes, sands": 14,
    "Bare rock": None,
    "Sparsely vegetated areas": 11,
    "Burnt areas": None,
    "Inland marshes": 15,
    "Peatbogs": 15,
    "Salt marshes": 16,
    "Salines": 16,
    "Intertidal flats": None,
    "Water courses": 17,
    "Water bodies": 17,
    "Coastal lagoons": 18,
    "Estuaries": 18,
    "Sea and ocean": 18,
}
CLC_TO_19 = {
    **{111: 0, 112: 0, 121: 1, 211: 2, 212: 2, 213: 2, 221: 3, 222: 3, 223: 3, 241: 3, 231: 4},
    **{242: 5, 243: 6, 244: 7, 311: 8, 312: 9, 313: 10, 321: 11, 333: 11, 322: 12, 323: 12},
    **{324: 13, 331: 14, 411: 15, 412: 15, 421: 16, 422: 16, 511: 17, 512: 17},
    **{521: 18, 522: 18, 523: 18},
}
SIZES = {
    **{"corine_l3": 44, "corine_l3_grid": 44, "corine_l2": 15, "corine_l1": 5},
    **{"bigearthnet19": 19, "bigearthnet43": 43, "eurosat": 10, "ucmerced": 21},
    **{"worldcover": 11, "dynamicworld": 9, "igbp": 17},
    **{"openearthmap": 8},
    **{"forty": 8, "planted_species": 40},
    **{"buildings": 2, "change": 2, "pastis": 19},
    **{"seasonet": 33, "sen2lulc": 7},
    **{"dfc2020": 10, "lccs1": 16, "lccs2": 11, "lccs3": 10, "multisenge": 14},
}


def small(**changes):
    fields = {
        "name": "small",
        "title": "Three classes",
        "source": "this test",
        "codes": (7, 3, 900),
        "names": ("water", "forest", "field"),
        "colours": ("#0000ff", "#00ff00", "#ffff00"),
        "parents": (None, None, None),
        "ignore": (0, 65535),
    }
    return Nomenclature(**{**fields, **changes})


def slow_encode(nomenclature, codes):
    out = np.empty(codes.shape, np.uint8)
    for position, code in np.ndenumerate(codes):
        code = int(code)
        out[position] = 255 if code in nomenclature.ignore else nomenclature.codes.index(code)
    return out


def test_every_table_loads_with_its_official_number_of_classes():
    assert set(NAMES) == SIZES.keys()
    for name, size in SIZES.items():
        nomenclature = load(name)
        assert nomenclature.name == name
        assert len(nomenclature) == size
        assert len(set(nomenclature.colours)) == size
        assert nomenclature.title
        assert re.search("https?://", nomenclature.source)
        assert nomenclature.ignore


def test_class_order_is_the_official_one():
    assert load("corine_l3").codes == CLC
    assert load("corine_l3_grid").codes == tuple(range(1, 45))
    assert load("corine_l2").codes == (11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 41, 42, 51, 52)
    assert load("bigearthnet19").names == NAMES_19
    assert load("bigearthnet19").codes == tuple(range(19))
    assert load("bigearthnet43").names == tuple(NAME_43_TO_19)
    assert load("bigearthnet43").codes == tuple(code for code in CLC if code != 335)
    for name in ("eurosat", "ucmerced"):
        assert list(load(name).names) == sorted(load(name).names)
        assert load(name).codes == tuple(range(len(load(name))))
    assert load("worldcover").codes == (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
    assert load("igbp").codes == tuple(range(1, 18))
    assert load("dynamicworld").codes == tuple(range(9))


@pytest.mark.parametrize(
    ("name", "code", "class_name", "colour"),
    [
        ("corine_l3", 132, "Dump sites", "#a64d00"),
        ("corine_l3", 335, "Glaciers and perpetual snow", "#a6e6cc"),
        ("corine_l3_grid", 44, "Sea and ocean", "#e6f2ff"),
        ("corine_l2", 42, "Maritime wetlands", "#ccccff"),
        ("corine_l1", 3, "Forest and semi natural areas", "#80ff00"),
        ("bigearthnet19", 18, "Marine waters", "#e6f2ff"),
        ("worldcover", 95, "Mangroves", "#00cf75"),
        ("dynamicworld", 3, "flooded_vegetation", "#7a87c6"),
        ("igbp", 17, "Water bodies", "#1c0dff"),
        ("eurosat", 2, "HerbaceousVegetation", None),
        ("ucmerced", 20, "tenniscourt", None),
    ],
)
def test_single_classes(name, code, class_name, colour):
    nomenclature = load(name)
    index = nomenclature.codes.index(code)
    assert nomenclature.names[index] == class_name
    assert nomenclature.index(class_name) == index
    assert colour in (None, nomenclature.colours[index])


def test_grid_codes_are_the_same_classes_in_the_same_order():
    grid, clc = load("corine_l3_grid"), load("corine_l3")
    assert (grid.names, grid.colours) == (clc.names, clc.colours)
    np.testing.assert_array_equal(grid.crosswalk(clc)[:44], np.arange(44))
    np.testing.assert_array_equal(
        grid.encode(np.array([1, 12, 44, 48, 49, 50, 255])), [0, 11, 43, 255, 255, 255, 255]
    )


def test_corine_levels_follow_the_digits_and_bear_a_colour_of_their_own_classes():
    for fine, coarse in (("corine_l3", "corine_l2"), ("corine_l2", "corine_l1")):
        assert load(fine).parents == tuple(code // 10 for code in load(fine).codes)
        children = {(code // 10, colour) for code, colour in _colours(fine)}
        assert set(_colours(coarse)) <= children


def _colours(name):
    return zip(load(name).codes, load(name).colours, strict=True)


def test_invented_colours_stay_apart_for_colour_blind_readers():
    # Machado et al. 2009, severity 1, on linear RGB; distance in CIE Lab, where about 2 is just
    # noticeable. The matrices: deuteranopia, protanopia.
    blindness = np.array(
        [
            [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
            [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        ]
    )
    for name, least in (("eurosat", 30), ("forty", 25), ("sen2lulc", 30), ("ucmerced", 15)):
        rgb = [[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in load(name).colours]
        rgb = np.array(rgb)
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        for matrix in (np.eye(3), *blindness):
            lab = _lab(np.clip(linear @ matrix.T, 0, 1))
            distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)]
            assert min(distances) > least


def _lab(linear):
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.transpose(to_xyz) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize("name", sorted(SIZES))
@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int16", "int32", "int64", "uint64"])
def test_encode_equals_a_slow_loop_and_decode_inverts_it(name, dtype):
    nomenclature = load(name)
    rng = np.random.default_rng(0)
    codes = rng.choice(nomenclature.codes + nomenclature.ignore, (23, 17)).astype(dtype)
    classes = nomenclature.encode(codes)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, slow_encode(nomenclature, codes))
    first = np.where(np.isin(codes, nomenclature.ignore), nomenclature.ignore[0], codes)
    decoded = nomenclature.decode(classes)
    np.testing.assert_array_equal(decoded, first)
    assert decoded.dtype == (np.uint8 if max(nomenclature.codes) < 255 else np.uint16)


def test_encode_takes_every_shape():
    table = small()
    assert table.encode(np.array(3)).shape == ()
    assert table.encode(np.array(3)) == 1
    assert table.encode(np.zeros((0, 4), np.uint8)).shape == (0, 4)
    np.testing.assert_array_equal(table.encode([[7, 900], [0, 3]]), [[0, 2], [255, 1]])
    np.testing.assert_array_equal(table.encode(np.array([7, 3], np.int8)), [0, 1])
    np.testing.assert_array_equal(
        table.encode(np.array([[7, 900], [0, 3]], np.uint16)[:, ::-1]), [[2, 0], [1, 255]]
    )


@pytest.mark.parametrize(
    ("codes", "dtype", "unknown"),
    [
        ([[111, 999], [112, 113]], "uint16", "113"),
        ([[111, 999], [112, -1]], "int32", "-1"),
        ([[111, 999], [112, -128]], "int16", "-128"),
        ([[111, 999], [112, 65536 + 111]], "int64", "65647"),
        ([[111, 999], [112, 65536]], "uint32", "65536"),
        ([[111, 999], [112, 2**63 + 111]], "uint64", str(2**63 + 111)),
        ([[111, 999], [112, -(2**63)]], "int64", str(-(2**63))),
        ([[111, 112], [131, 0]], "uint8", "0"),
    ],
)
def test_an_unknown_code_names_code_file_and_pixel(codes, dtype, unknown):
    with pytest.raises(NomenclatureError) as caught:
        load("corine_l3").encode(np.array(codes, dtype), "map_26_57.tif")
    message = str(caught.value)
    assert message.startswith(f"map_26_57.tif: codes {unknown} are not in nomenclature 'corine_l3'")
    assert "the first at (row, col) (1, 1)" in message
    assert "523, 999, 990, 995" in message


@pytest.mark.parametrize("name", ["worldcover", "dynamicworld"])
@pytest.mark.parametrize("code", [-1, -(2**63), 65536, 2**32, 2**32 + 1])
def test_codes_outside_the_table_never_wrap_into_it(name, code):
    with pytest.raises(NomenclatureError, match=f"codes {code} are not in"):
        load(name).encode(np.array([0, code]))
    with pytest.raises(NomenclatureError, match=f"codes {code} are not in"):
        small().encode(np.array([65535, code]))


def test_unknown_codes_are_counted_and_the_list_is_short():
    codes = np.full((30, 10), 111)
    codes[2, 3:] = np.arange(7)
    codes[20] = np.arange(7, 17)
    with pytest.raises(NomenclatureError, match=r"codes 0, 1, .*9, \.\.\. are") as caught:
        load("corine_l3").encode(codes)
    assert "17 values, the first at (row, col) (2, 3)" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, complex])
def test_codes_that_are_not_integers_are_refused(dtype):
    with pytest.raises(NomenclatureError, match=r"x\.tif: class codes of dtype"):
        small().encode(np.ones((2, 2), dtype), "x.tif")
    with pytest.raises(NomenclatureError, match="class indices of dtype"):
        small().decode(np.ones((2, 2), dtype))


def test_decode_refuses_what_is_no_class():
    with pytest.raises(NomenclatureError, match=r"class indices 3, 254 are .* index \(1,\)"):
        small().decode(np.array([0, 3, 254, 255]))
    with pytest.raises(NomenclatureError, match="class indices -1 are"):
        small().decode(np.array([-1, 2]))
    bare = small(ignore=())
    np.testing.assert_array_equal(bare.decode(np.array([2, 0])), [900, 7])
    with pytest.raises(NomenclatureError, match="class indices 255 are"):
        bare.decode(np.array([2, 255]))


def test_255_classes_fit_and_256_do_not():
    def many(n):
        return small(
            codes=tuple(range(1, n + 1)),
            names=tuple(map(str, range(n))),
            colours=("#000000",) * n,
            parents=(None,) * n,
        )

    codes = np.arange(256, dtype=np.uint16)
    np.testing.assert_array_equal(many(255).encode(codes), np.roll(np.arange(256), 1))
    np.testing.assert_array_equal(many(255).decode(many(255).encode(codes)), codes)
    with pytest.raises(NomenclatureError, match="256 classes, expected 1 to 255"):
        many(256)


def test_names():
    table = load("bigearthnet19")
    np.testing.assert_array_equal(
        table.multihot(["Pastures", "Urban fabric"]), np.isin(np.arange(19), [0, 4])
    )
    assert table.multihot([]).dtype == np.uint8
    assert table.multihot([]).shape == (19,)
    with pytest.raises(NomenclatureError, match=r"p\.json: 'Pasture' is no class") as caught:
        table.multihot(["Urban fabric", "Pasture"], "p.json")
    assert "did you mean 'Pastures'?" in str(caught.value)
    assert "Marine waters" in str(caught.value)
    with pytest.raises(NomenclatureError, match=r"'corine'; did you mean .*known: bigearthnet19"):
        load("corine")


def test_each_of_the_43_names_goes_to_its_class_of_19():
    table = load("bigearthnet43").crosswalk(load("bigearthnet19"))
    assert len(NAME_43_TO_19) == 43
    for name, target in NAME_43_TO_19.items():
        assert table[load("bigearthnet43").index(name)] == (255 if target is None else target)
    assert (table[43:] == IGNORE).all()
    assert (table.shape, table.dtype) == ((256,), np.uint8)


def test_corine_pixels_go_to_the_19_classes_as_published():
    clc, target = load("corine_l3"), load("bigearthnet19")
    codes = np.array([*CLC, 999, 990, 995])
    expected = [CLC_TO_19.get(int(code), 255) for code in codes]
    np.testing.assert_array_equal(clc.crosswalk(target)[clc.encode(codes)], expected)
    grid = load("corine_l3_grid")
    codes = np.array([*range(1, 45), 48, 49, 50])
    np.testing.assert_array_equal(grid.crosswalk(target)[grid.encode(codes)], expected)


@pytest.mark.parametrize(
    ("source", "target", "rule"),
    [
        ("corine_l3", "corine_l2", lambda code: code // 10),
        ("corine_l3", "corine_l1", lambda code: code // 100),
        ("corine_l2", "corine_l1", lambda code: code // 10),
        ("bigearthnet43", "corine_l1", lambda code: code // 100),
        ("bigearthnet43", "corine_l3", lambda code: code),
        ("corine_l3", "bigearthnet43", lambda code: None if code == 335 else code),
        ("igbp", "igbp", lambda code: code),
    ],
)
def test_crosswalks_by_rule(source, target, rule):
    table = load(source).crosswalk(load(target))
    for index, code in enumerate(load(source).codes):
        expected = rule(code)
        expected = 255 if expected is None else load(target).codes.index(expected)
        assert table[index] == expected


WORLDCOVER = {
    **{10: (311, 312, 313), 20: (322, 323, 324), 30: (231, 321), 60: (331, 332, 333, 334)},
    **{40: (211, 212, 213, 221, 222, 223, 241, 242, 243, 244), 50: CLC[:11], 70: (335,)},
    **{80: (511, 512, 521, 522, 523), 90: (411, 412, 421), None: (422, 423)},
}
DYNAMIC_WORLD = {
    **{0: (511, 512, 521, 522, 523), 1: (311, 312, 313), 2: (231, 321), 5: (322, 323, 324)},
    **{3: (411, 412, 421, 422, 423), 4: (211, 212, 213, 221, 222, 223, 241, 242), 6: CLC[:11]},
    **{7: (331, 332, 333, 334), 8: (335,), None: (243, 244)},
}


@pytest.mark.parametrize(
    ("target", "groups"), [("worldcover", WORLDCOVER), ("dynamicworld", DYNAMIC_WORLD)]
)
def test_crosswalks_to_the_global_products(target, groups):
    assert sorted(itertools.chain(*groups.values())) == sorted(CLC)
    table = load("corine_l3").crosswalk(load(target))
    for code, members in groups.items():
        expected = 255 if code is None else load(target).codes.index(code)
        assert {int(table[CLC.index(member)]) for member in members} == {expected}


def test_overrides_replace_entries_of_a_crosswalk():
    clc, target = load("corine_l3"), load("worldcover")
    before = clc.crosswalk(target)
    after = clc.crosswalk(target, {324: 10, 321: None, 423: 90})
    expected = before.copy()
    expected[[CLC.index(324), CLC.index(321), CLC.index(423)]] = [0, 255, 8]
    assert (before != expected).sum() == 3
    np.testing.assert_array_equal(after, expected)


def test_overrides_can_be_a_whole_crosswalk():
    table = small().crosswalk(load("worldcover"), {7: 80, 3: 10, 900: None})
    np.testing.assert_array_equal(table[:4], [7, 0, 255, 255])


@pytest.mark.parametrize(
    ("source", "target", "overrides", "message"),
    [
        ("eurosat", "corine_l3", None, "no crosswalk from 'eurosat' to 'corine_l3'.*: none"),
        ("corine_l3", "igbp", None, "are: bigearthnet19, bigearthnet43, corine_l1, corine_l2, dyn"),
        ("corine_l3_grid", "igbp", {1: 13}, "are: .*corine_l1, corine_l2, corine_l3, dynamicworld"),
        ("corine_l3", "worldcover", {113: 50}, "codes that are not in 'corine_l3': 113"),
        ("corine_l3", "worldcover", {112: 55}, "codes that are not in 'worldcover': 55"),
    ],
)
def test_impossible_crosswalks(source, target, overrides, message):
    with pytest.raises(NomenclatureError, match=message):
        load(source).crosswalk(load(target), overrides)


def test_a_crosswalk_without_an_entry_for_a_class_is_an_error():
    level2 = load("corine_l2")
    changed = dataclasses.replace(level2, parents=(None, *level2.parents[1:]))
    with pytest.raises(NomenclatureError, match=r"without an entry: 11; .*'corine_l2': 111"):
        changed.crosswalk(load("corine_l1"), {111: 1})


def test_a_crosswalk_goes_by_classes_not_by_the_name_of_a_nomenclature():
    mine = small(name="worldcover")
    with pytest.raises(NomenclatureError, match="two nomenclatures of one name with other codes"):
        mine.crosswalk(load("worldcover"))
    with pytest.raises(NomenclatureError, match="'worldcover' has not the classes of rsjax's of"):
        load("corine_l3").crosswalk(mine)
    own = small(names=("forest", "water", "field")), small()
    with pytest.raises(NomenclatureError, match="from 'small' to 'small', two nomenclatures of"):
        own[0].crosswalk(own[1])
    changed = dataclasses.replace(load("corine_l3"), codes=(113, *CLC[1:]))
    with pytest.raises(NomenclatureError, match=r"'corine_l3' has not the classes.*: corine_l1"):
        changed.crosswalk(load("worldcover"))
    assert changed.crosswalk(load("corine_l1"))[:2].tolist() == [0, 0]  # by way of the parents
    turned = small(codes=(3, 7, 900), names=("forest", "water", "field"), name="other")
    assert small().crosswalk(turned)[:4].tolist() == [1, 0, 2, 255]


def test_a_users_crosswalk_file_has_every_class_and_nothing_is_filled_in(tmp_path):
    path = tmp_path / "mine.csv"
    head = "# source: ours\nfrom_code,to_code\n"
    path.write_text(head + "7,80\n3,\n900,40\n")
    assert crosswalk.of_file(path, small(), load("worldcover"))[:4].tolist() == [7, 255, 3, 255]
    path.write_text(head + "111,10\n")
    with pytest.raises(NomenclatureError, match=r"classes without an entry: 112, 121.*mine.csv"):
        crosswalk.of_file(path, load("corine_l3"), load("worldcover"))


def test_every_crosswalk_file_is_complete_and_says_where_it_comes_from():
    paths = sorted((tables.FOLDER / "crosswalks").glob("*.csv"))
    assert len(paths) == 5
    for path in paths:
        source, target = path.stem.split("_to_")
        load(source).crosswalk(load(target))
        comments, _ = tables.read(path, ["from_code", "to_code"])
        assert comments["source"].startswith(("published:", "our reading, not published:"))


@pytest.mark.parametrize("name", sorted(SIZES))
def test_json_round_trip(name):
    nomenclature = load(name)
    nomenclature.encode(np.array(nomenclature.codes))  # cached tables must not travel
    text = json.dumps(nomenclature.to_json())
    restored = Nomenclature.from_json(json.loads(text))
    assert restored == nomenclature
    assert hash(restored) == hash(nomenclature)


def test_json_of_another_version_or_damaged_is_refused():
    data = small().to_json()
    with pytest.raises(NomenclatureError, match="written by another version"):
        Nomenclature.from_json({k: v for k, v in data.items() if k != "ignore"})
    with pytest.raises(NomenclatureError, match="written by another version"):
        Nomenclature.from_json({**data, "aliases": {}})
    with pytest.raises(NomenclatureError, match="code given more than once: 7"):
        Nomenclature.from_json({**data, "codes": [7, 7, 900]})
    with pytest.raises(NomenclatureError, match="codes that are not integers"):
        Nomenclature.from_json({**data, "codes": [7, 3.5, 900]})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("20,Shrubland", "10,Shrubland", "code given more than once: 10"),
        ("20,Shrubland", "0,Shrubland", "code given more than once: 0"),
        ("20,Shrubland", "20,Grassland", "name given more than once: Grassland"),
        ("20,Shrubland", "20,", "a class without a name"),
        ("20,Shrubland", "x,Shrubland", r"worldcover\.csv:5: 'x' is no class code"),
        ("20,Shrubland", "-20,Shrubland", r"not integers from 0 to 65535: \[-20\]"),
        ("20,Shrubland", "70000,Shrubland", r"not integers from 0 to 65535: \[70000\]"),
        ("#ffbb22", "ffbb22", r"not #rrggbb: \['ffbb22'\]"),
        ("#ffbb22", "#ffbb2", "not #rrggbb"),
        ("#ffbb22", "", "not #rrggbb"),
        ("Shrubland,", "Shrubland, low,", r"worldcover\.csv:5: 6 columns, expected 5"),
        ("#ffbb22,,", "#ffbb22,3,", r"csv:5: a parent, but no line `# parent: name`"),
        ("0,No data,,,yes", "0,No data,,,no", r"csv:15: 'no' under ignore"),
        ("code,name,", "id,name,", r"csv:3: header 'id,name,.*parent, ignore may be left out"),
        (",parent,ignore", ",ignore,parent", r"csv:3: header "),
    ],
)
def test_a_damaged_table_names_file_and_fault(tmp_path, old, new, message):
    path = tmp_path / "worldcover.csv"
    text = (tables.FOLDER / "worldcover.csv").read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(NomenclatureError, match=message) as caught:
        read_csv(path)
    assert str(path) in str(caught.value)


def test_a_short_table_is_enough(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("code,name,colour,ignore\n1,water,#0000ff,\n2,town,#ff0000,\n9,cloud,,yes\n")
    found = read_csv(path)
    assert (found.codes, found.names, found.ignore) == ((1, 2), ("water", "town"), (9,))
    assert (found.title, found.source, found.parents) == ("mine", "not stated", (None, None))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fabric,#e6004d,1,", "fabric,#e6004d,6,", r"csv:5: class 11 has parent '6', which is no"),
        ("fabric,#e6004d,1,", "fabric,#e6004d,,", r"csv:5: class 11 has parent ''"),
        ("# parent: corine_l1", "# parent: corine_l9", "no nomenclature 'corine_l9'"),
    ],
)
def test_unknown_parents_are_refused(tmp_path, old, new, message):
    path = tmp_path / "mine.csv"
    text = (tables.FOLDER / "corine_l2.csv").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(NomenclatureError, match=message):
        read_csv(path)


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    shutil.copy(tables.FOLDER / "worldcover.csv", path)
    assert read_csv(path) == dataclasses.replace(load("worldcover"), name="mine")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))  # by Excel
    assert read_csv(str(path)) == dataclasses.replace(load("worldcover"), name="mine")
    with pytest.raises(NomenclatureError, match=r"none\.csv: cannot be read"):
        read_csv(tmp_path / "none.csv")
    path.write_bytes(b"# title: \xff\n")
    with pytest.raises(NomenclatureError, match=r"mine\.csv: cannot be read"):
        read_csv(path)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(NomenclatureError, match=r"differ in length \(3, 2, 3, 3\)"):
        small(names=("water", "forest"))


def test_damaged_crosswalk_files(tmp_path):
    path = tmp_path / "a_to_b.csv"
    head = "# source: our reading\nfrom_code,to_code\n"
    path.write_text(head + "1,\n2,3\n")
    assert crosswalk.read(path) == {1: None, 2: 3}
    path.write_text(head + "1,\n1,3\n")
    with pytest.raises(NomenclatureError, match=r"a_to_b\.csv:4: class code 1 given more than"):
        crosswalk.read(path)
    path.write_text(head + "1,x\n")
    with pytest.raises(NomenclatureError, match=r"a_to_b\.csv:3: 'x' is no class code"):
        crosswalk.read(path)


def test_the_package_exports_what_its_docstring_names():
    names = ["IGNORE", "NAMES", "Nomenclature", "load", "read_csv", "register"]
    assert landcover.__all__ == names


def test_names_in_the_published_bigearthnet_metadata(samples):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = samples / "bigearthnet_v2" / "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
    labels = parquet.read_table(path, columns=["labels"])["labels"].combine_chunks().flatten()
    assert set(labels.unique().to_pylist()) == set(load("bigearthnet19").names)


def test_names_in_real_bigearthnet_v1_labels(samples):
    paths = sorted((samples / "bigearthnet_v1").glob("**/*_labels_metadata.json"))
    assert paths
    for path in paths:
        labels = json.loads(path.read_text())["labels"]
        assert load("bigearthnet43").multihot(labels, str(path)).sum() == len(labels)


def test_codes_in_real_reference_maps(samples):
    rasterio = pytest.importorskip("rasterio")
    table = load("corine_l3").crosswalk(load("bigearthnet19"))
    paths = sorted((samples / "bigearthnet_v2" / "Reference_Maps").glob("**/*_reference_map.tif"))
    assert paths
    for path in paths:
        with rasterio.open(path) as file:
            codes = file.read(1)
        classes = table[load("corine_l3").encode(codes, str(path))]
        expected = np.vectorize(lambda code: CLC_TO_19.get(code, 255))(codes)
        np.testing.assert_array_equal(classes, expected)
