import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rsjax.input import pipeline


class Records:
    """A source whose record i holds the number i."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def being_read(self):
        return "shard 7"

    def read(self, indices):
        return {"image": np.asarray(indices, np.int32)[:, None]}


def run(source, batch_size, position, steps, hosts=1, seed=3, threads=2, weights=None):
    """The global batches that `hosts` processes read together."""
    parts = [
        pipeline.train_batches(
            source, batch_size, seed, position, steps, threads,
            process_index=host, process_count=hosts, weights=weights,
        )
        for host in range(hosts)
    ]  # fmt: skip
    return [np.concatenate([b["image"][:, 0] for b in step]) for step in zip(*parts, strict=True)]


@pytest.mark.parametrize("count", [1, 7, 64, 101])
def test_an_epoch_is_a_permutation_and_epochs_differ(count):
    stream = pipeline.order(np.arange(3 * count), count, seed=5).reshape(3, count)
    for epoch in stream:
        assert sorted(epoch) == list(range(count))
    if count > 7:
        assert not np.array_equal(stream[0], stream[1])
        other = pipeline.order(np.arange(count), count, seed=6)
        assert not np.array_equal(stream[0], other)
        # Seeds that follow each other share no epoch.
        assert not any(np.array_equal(other, epoch) for epoch in stream)


def test_every_sample_once_an_epoch_also_when_hosts_and_runs_change():
    source = Records(101)
    unbroken = np.concatenate(run(source, 8, 0, 38))
    first = np.concatenate(run(source, 8, 0, 11, hosts=2))
    second = np.concatenate(run(source, 8, 11 * 8, 17, hosts=4, threads=0))
    third = np.concatenate(run(source, 8, 28 * 8, 10, hosts=1))
    np.testing.assert_array_equal(np.concatenate([first, second, third]), unbroken)
    for epoch in range(3):
        assert sorted(unbroken[epoch * 101 : (epoch + 1) * 101]) == list(range(101))


def test_weighted_samples_also_when_hosts_and_runs_change():
    source, weights = Records(101), np.linspace(0, 2, 101)
    unbroken = np.concatenate(run(source, 8, 0, 38, weights=weights))
    first = np.concatenate(run(source, 8, 0, 11, hosts=2, weights=weights))
    second = np.concatenate(run(source, 8, 11 * 8, 17, hosts=4, threads=0, weights=weights))
    third = np.concatenate(run(source, 8, 28 * 8, 10, weights=weights))
    np.testing.assert_array_equal(np.concatenate([first, second, third]), unbroken)
    for epoch in range(3):
        counts = np.bincount(unbroken[epoch * 101 : (epoch + 1) * 101], minlength=101)
        assert (abs(counts - weights) < 1).all()
    with pytest.raises(ValueError, match="101 weights of 9 records"):
        next(pipeline.train_batches(Records(9), 8, 0, 0, 1, weights=weights))


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_evaluation_reads_all_once_and_pads_alike_on_every_host(hosts):
    parts = [
        list(pipeline.eval_batches(Records(21), 8, process_index=h, process_count=hosts))
        for h in range(hosts)
    ]
    assert {len(p) for p in parts} == {3}
    seen = [b["index"][b["valid"]] for p in parts for b in p]
    assert sorted(np.concatenate(seen)) == list(range(21))
    assert all(len(b["index"]) == 8 // hosts for p in parts for b in p)


def test_batch_that_hosts_cannot_share_is_refused():
    with pytest.raises(ValueError, match="no multiple of 3"):
        pipeline.train_batches(Records(9), 8, 0, 0, 1, process_count=3)


def test_batches_arrive_on_the_mesh_in_order():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    placed = pipeline.OnMesh(pipeline.train_batches(Records(50), 8, 0, 0, 6), sharding)
    found = list(placed)
    assert len(found) == 6
    assert found[0]["image"].sharding == sharding
    host = np.concatenate([np.asarray(b["index"]) for b in found])
    np.testing.assert_array_equal(host, pipeline.order(np.arange(48), 50, 0))
    assert placed.wait_s > 0


def test_reader_errors_reach_the_caller():
    class Broken(Records):
        def read(self, indices):
            raise OSError("shard 3 is damaged")

    with pytest.raises(OSError, match="shard 3 is damaged"):
        next(pipeline.train_batches(Broken(9), 4, 0, 0, 2))
