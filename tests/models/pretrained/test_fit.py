import numpy as np
import pytest

from rsjax.errors import WeightsError
from rsjax.models.pretrained.fit import fit, flat, head_of, shapes_of, stem_of, unflat
from rsjax.models.resnet import BasicBlock, ResNet


def make(outputs=3):
    return ResNet(outputs, (1, 1), BasicBlock, width=4, stem="small")


@pytest.fixture(scope="module")
def wanted():
    return shapes_of(make(), 2)


def arrays(wanted):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=s.shape).astype(np.float32) for name, s in flat(wanted).items()}


def test_all_arrays_are_taken_or_none(wanted):
    given = arrays(wanted)
    fitted = fit(unflat(given), wanted, "file")
    assert (fitted.new, fitted.ignored) == ((), ())
    for name, value in flat(fitted.variables).items():
        np.testing.assert_array_equal(value, given[name])
    half = {name: value.astype(np.float16) for name, value in given.items()}
    assert {v.dtype for v in flat(fit(unflat(half), wanted, "file").variables).values()} == {
        np.dtype("float32")
    }


def test_the_diff_names_what_is_missing_unexpected_and_of_another_shape(wanted):
    given = arrays(wanted)
    given["params/layer1_0/convolution1/kernel"] = given.pop("params/layer1_0/conv1/kernel")
    given["params/fc/kernel"] = given["params/fc/kernel"][:, :2]
    with pytest.raises(WeightsError) as caught:
        fit(unflat(given), wanted, "model.pth")
    text = str(caught.value)
    assert "model.pth are not the weights of this model" in text
    assert "missing (1):\n    params/layer1_0/conv1/kernel (3, 3, 4, 4)" in text
    assert "(near: params/layer1_0/convolution1/kernel)" in text
    assert "unexpected (1):\n    params/layer1_0/convolution1/kernel" in text
    assert "of another shape (1):\n    params/fc/kernel (8, 2), wanted (8, 3)" in text
    assert "Nothing was loaded" in text
    with pytest.raises(WeightsError, match=r"missing \(\d\d\):(?s:.*)\.\.\. and \d+ more"):
        fit(unflat({"params/other/kernel": np.ones(2)}), wanted, "model.pth")


def test_regexes_leave_out_what_they_name_and_only_that(wanted):
    given = arrays(wanted)
    given["params/fc/kernel"] = np.ones((8, 1000), np.float32)
    given["params/extra/bias"] = np.ones(2, np.float32)
    fitted = fit(unflat(given), wanted, "file", new=["^fc/"], ignore=["extra"])
    assert fitted.new == ("params/fc/bias", "params/fc/kernel")
    assert fitted.ignored == ("params/extra/bias", "params/fc/bias", "params/fc/kernel")
    assert set(flat(fitted.variables)) == set(flat(wanted)) - set(fitted.new)
    with pytest.raises(WeightsError, match=r"--new: 'head' matches no array; there are"):
        fit(unflat(given), wanted, "file", new=["head"], options=("--new", "--ignore"))
    with pytest.raises(WeightsError, match=r"ignore: '\(' is no regex"):
        fit(unflat(given), wanted, "file", ignore=["("])
    with pytest.raises(WeightsError, match="nothing to take"):
        fit(unflat(given), wanted, "file", new=["."])


def test_numbers_that_are_none_are_refused(wanted):
    given = arrays(wanted)
    given["params/bn1/scale"] = np.array([1, np.nan, 1, 1], np.float32)
    with pytest.raises(WeightsError, match=r"file: 'params/bn1/scale' has NaN"):
        fit(unflat(given), wanted, "file")


def test_stem_and_head_are_found_by_what_their_shapes_follow():
    assert stem_of(make, 3) == ("params/conv1/kernel",)
    assert set(head_of(make, 3, 2)) == {"params/fc/kernel", "params/fc/bias"}
