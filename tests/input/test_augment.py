import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsjax import config as configs
from rsjax.input.augment import augment, named_key


def options(**changes):
    return {**configs.base().augment.to_dict(), **changes}


def batch(bands=3, size=8, count=16):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 5, (count, size, size)).astype(np.uint8)
    image = np.repeat(mask[..., None].astype(np.float32), bands, axis=-1)  # image shows the mask
    target = np.eye(5, dtype=np.float32)[rng.integers(0, 5, count)]
    return {"image": jnp.asarray(image), "mask": jnp.asarray(mask), "target": jnp.asarray(target)}


def run(seed, given, sensors=None, **changes):
    sensors = sensors or (0,) * given["image"].shape[-1]
    function = jax.jit(lambda key, b: augment(key, b, options(**changes), sensors))
    return jax.device_get(function(jax.random.key(seed), given))


def test_everything_is_off_by_default():
    given = batch()
    for name, value in run(0, given).items():
        np.testing.assert_array_equal(value, given[name])


@pytest.mark.parametrize("bands", [2, 3, 10, 12, 13])
def test_d4_moves_image_and_mask_together_and_reaches_all_eight(bands):
    given = batch(bands, count=128)
    found = run(1, given, d4=True)
    np.testing.assert_array_equal(found["image"][..., bands - 1], found["mask"])
    seen = set()
    for before, after in zip(np.asarray(given["mask"]), found["mask"], strict=True):
        symmetries = [np.rot90(m, k) for m in (before, before.T) for k in range(4)]
        hits = [i for i, s in enumerate(symmetries) if np.array_equal(s, after)]
        assert len(hits) == 1
        seen.add(hits[0])
    assert seen == set(range(8))


def test_zoom_keeps_image_and_mask_aligned():
    size = 32
    rows = np.arange(size) // 8
    mask = np.broadcast_to(rows[:, None] * 4 + rows[None], (16, size, size)).astype(np.uint8)
    given = {"image": jnp.asarray(mask[..., None], jnp.float32), "mask": jnp.asarray(mask),
             "target": jnp.zeros((16, 2))}  # fmt: skip
    found = run(2, given, max_zoom=2.0)
    same = np.abs(found["image"][..., 0] - found["mask"]) < 0.51
    assert same.mean() > 0.85  # all but the borders of the blocks, where the image is blended
    assert any(not np.array_equal(a, mask[0]) for a in found["mask"])
    assert set(np.unique(found["mask"])) <= set(np.unique(mask))


@pytest.mark.parametrize("name", ["brightness_std", "contrast_std", "noise_std"])
def test_radiometric_changes_have_the_stated_size(name):
    given = batch(count=512)
    found = run(3, given, **{name: 0.2})
    image = np.asarray(given["image"])
    np.testing.assert_array_equal(found["mask"], given["mask"])
    if name == "contrast_std":
        per_sample = np.log(found["image"].sum((1, 2, 3)) / image.sum((1, 2, 3)))
    else:
        per_sample = (found["image"] - image)[:, 0, 0, 0]
    assert per_sample.std() == pytest.approx(0.2, rel=0.15)


def test_dropout_takes_whole_bands_or_sensors_but_never_all():
    given = {**batch(bands=4, count=256)}
    given["image"] = jnp.ones_like(given["image"])
    bands = run(4, given, band_dropout=0.6)["image"]
    assert set(np.unique(bands)) == {0.0, 1.0}
    assert (bands == bands[:, :1, :1]).all()
    assert (bands[:, 0, 0].sum(-1) >= 1).all()
    assert 0.4 < (bands[:, 0, 0] == 0).mean() < 0.6
    sensors = run(4, given, sensors=(0, 0, 1, 1), sensor_dropout=0.5)["image"][:, 0, 0]
    assert (sensors[:, 0] == sensors[:, 1]).all()
    assert (sensors[:, 2] == sensors[:, 3]).all()
    assert (sensors.sum(-1) >= 2).all()
    assert (sensors.sum(-1) == 2).any()


def test_mixup_and_cutmix_mix_targets_as_they_mix_images():
    count, size = 64, 16
    levels = np.arange(count, dtype=np.float32)
    image = np.broadcast_to(levels[:, None, None, None], (count, size, size, 1))
    given = {"image": jnp.asarray(image), "target": jnp.asarray(levels[:, None])}
    for name, alpha in (("mixup_alpha", 0.4), ("cutmix_alpha", 1.0)):
        found = run(5, given, **{name: alpha})
        # The target is the level, so the mean level of the image must be the target.
        np.testing.assert_allclose(found["image"].mean((1, 2, 3)), found["target"][:, 0], rtol=1e-4)
        assert not np.allclose(found["target"], given["target"])


def test_draws_depend_on_key_and_not_on_the_number_of_devices():
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    given = batch(count=16)
    everything = dict(d4=True, max_zoom=1.5, noise_std=0.1, band_dropout=0.2, cutmix_alpha=1.0)
    one = run(6, given, **everything)
    split = jax.device_put(given, NamedSharding(mesh, PartitionSpec("data")))
    four = run(6, split, **everything)
    for name in one:
        np.testing.assert_allclose(one[name], four[name], rtol=1e-6, atol=1e-6)
    other = run(7, given, **everything)
    assert not np.allclose(one["image"], other["image"])


def test_named_keys_differ():
    key = jax.random.key(0)
    a, b = (jax.random.key_data(named_key(key, name)) for name in ("augment", "dropout"))
    assert not np.array_equal(a, b)
