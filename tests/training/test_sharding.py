from types import SimpleNamespace

import pytest

from rsjax.errors import ConfigError
from rsjax.training import sharding


def test_devices_that_do_not_fit_are_refused():
    for model in (3, 8):
        with pytest.raises(ConfigError, match=rf"mesh.model={model}: 4 devices.*choose of 1, 2, 4"):
            sharding.make_mesh(model)
    with pytest.raises(ConfigError, match=r"batch_size=15.*2 devices along 'data'.*14 or 16"):
        sharding.check_batch("batch_size", 15, sharding.make_mesh(2))


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([(0, 4), (4, 8)], (0, 2)),
        ([(12, 16), (8, 12)], (1, 2)),  # in any order
        ([(8, 12), (8, 12)], (2, 4)),  # two devices along 'model'
        ([(0, 16), (0, 16)], (0, 1)),  # all devices along 'model'
        ([(0, 4), (8, 12)], None),  # not adjacent
        ([(4, 12)], None),  # adjacent, but no equal part
    ],
)
def test_a_process_reads_the_rows_that_its_devices_hold(rows, part):
    indices = {device: (slice(*row),) for device, row in enumerate(rows)}
    stand_in = SimpleNamespace(addressable_devices_indices_map=lambda shape: indices)
    if part:
        assert sharding.reader_of(stand_in, 16) == part
    else:
        with pytest.raises(ConfigError, match="no equal part"):
            sharding.reader_of(stand_in, 16)


@pytest.mark.parametrize("model", [1, 2, 4])
def test_a_single_process_reads_all(model):
    mesh = sharding.make_mesh(model)
    assert sharding.reader_of(sharding.over_data(mesh), 16) == (0, 1)
