import threading

import pytest

from rsjax.errors import ShardError
from rsjax.input.readahead import read_ahead


@pytest.mark.parametrize(("threads", "buffer"), [(0, 1), (1, 1), (3, 2), (4, 9)])
def test_batches_come_in_order_and_all_of_them(threads, buffer):
    found = list(read_ahead(lambda step: step * step, 50, threads, buffer, 60.0, str))
    assert found == [step * step for step in range(50)]


def test_no_more_is_read_than_the_buffer_holds():
    started = []
    batches = read_ahead(lambda step: started.append(step), 100, 2, 5, 60.0, str)
    next(batches)
    next(batches)
    batches.close()
    assert len(started) <= 2 + 5


def test_a_hanging_read_is_an_error_that_says_where(caplog):
    answer = threading.Event()

    def read(step):
        if step == 3:
            answer.wait(30)
        return step

    batches = read_ahead(read, 9, 2, 2, 0.3, lambda: "shard 00003-of-00004")
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ShardError, match=r"no batch for 0.3 s.*00003-of-00004.*again"):
        next(batches)
    assert "being read: shard 00003" in caplog.text
    answer.set()


def test_the_error_of_a_reader_is_its_own_also_where_it_is_a_timeout():
    def read(step):
        raise TimeoutError("the disk said so")

    with pytest.raises(TimeoutError, match="the disk said so"):
        next(read_ahead(read, 3, 2, 2, 60.0, str))


def test_threads_end_with_the_reader():
    batches = read_ahead(lambda step: step, 9, 3, 3, 60.0, str)
    next(batches)
    batches.close()
    for thread in threading.enumerate():
        if thread.name.startswith("rsjax_read_"):
            thread.join(5)
            assert not thread.is_alive()
