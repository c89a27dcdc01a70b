import jax
import numpy as np
import pytest

from rsjax import sealed
from rsjax.errors import CheckpointError
from rsjax.training import checkpoints


def state(value=1.0):
    return {"params": {"w": np.full((3, 2), value, np.float32)}, "step": np.int32(1)}


def abstract():
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), state()
    )  # fmt: skip


def opened(folder, keep_latest=1):
    return checkpoints.Checkpoints(folder, "acc", keep_latest, 1)


def steps(folder):
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def test_the_first_of_equally_good_steps_is_the_best(tmp_path):
    with opened(tmp_path) as manager:
        for step, acc in ((1, 0.5), (2, 0.7), (3, 0.7), (4, float("nan")), (5, 0.6)):
            manager.save(step, state(step), {"n": step}, {"acc": acc, "loss": 1.0 / step})
    assert steps(tmp_path) == [2, 5]
    with opened(tmp_path) as manager:
        found, step, figures = manager.restore_best(abstract(), 0.7)
        assert step == 2
        assert figures == {"acc": 0.7, "loss": 0.5}
        np.testing.assert_array_equal(found["params"]["w"], state(2)["params"]["w"])
        assert manager.restore_best(abstract(), 0.8) is None
        assert manager.restore(abstract())[1] == {"n": 5}


def test_a_step_is_sealed_before_it_has_its_name(tmp_path, monkeypatch):
    visible = []
    seal = checkpoints.Checkpoints._seal

    def sealing(self):
        seal(self)
        visible.append(steps(tmp_path))

    monkeypatch.setattr(checkpoints.Checkpoints, "_seal", sealing)
    with opened(tmp_path, 2) as manager:
        manager.save(1, state(), {})
        manager.save(2, state(), {})
    assert visible == [[], [1]]
    assert [checkpoints.check(tmp_path / str(s)) for s in (1, 2)] == ["", ""]


def test_damaged_steps_are_moved_aside_and_do_not_pile_up(tmp_path, caplog):
    for step in (1, 2, 3):
        with opened(tmp_path, 3) as manager:
            manager.save(step, state(step), {"n": step}, {"acc": step / 10})
    for step in (3, 2):
        (tmp_path / str(step) / "metrics" / "metrics").write_text("{")
        with opened(tmp_path, 3) as manager:
            assert manager.restore(abstract())[1] == {"n": step - 1}
        assert f"step {step} is damaged (metrics/metrics: changed)" in caplog.text
    with opened(tmp_path, 3):
        pass
    assert [p.name for p in tmp_path.glob("damaged-*")] == ["damaged-2"]


def test_a_step_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    with opened(tmp_path) as manager:
        manager.save(1, state(), {})
        manager.finish()
        write = sealed.write

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sealed, "write", full)
        manager.save(2, state(), {})
        with pytest.raises(CheckpointError, match=r"step 2 .*No space left.*from step 1"):
            manager.finish()
        monkeypatch.setattr(sealed, "write", write)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1"]
