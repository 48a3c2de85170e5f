"""Batches made by the workers of a tf.data service, all in this process."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data.targets import keys
from tests.data import test_pipeline as plain


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    plain.write(folder, [plain.example(number) for number in range(plain.NUM_RECORDS)])
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """Without the service."""
    return plain.training(folder, 20)


def start(num_workers):
    """A dispatcher and its workers."""
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    config = service.WorkerConfig(dispatcher_address=dispatcher.target.split("://")[1])
    return dispatcher, [service.WorkerServer(config) for _ in range(num_workers)]


def test_two_trainers_get_their_parts_in_order_from_one_worker(folder, whole):
    dispatcher, workers = start(1)
    changes = {"data_service": dispatcher.target}
    parts = [plain.training(folder, 3, changes, num_shards=2, shard=k) for k in range(2)]
    joined = [{key: np.concatenate([part[step][key] for part in parts]) for key in whole[0]} for step in range(3)]
    plain.assert_same(whole[:3], joined)
    del workers


def test_two_workers_make_every_batch_once(folder, whole):
    dispatcher, workers = start(2)
    made = plain.training(folder, 10, {"data_service": dispatcher.target}, start_batch=1)
    number = {batch[keys.IMAGE].tobytes(): k for k, batch in enumerate(whole)}
    found = [number.get(batch[keys.IMAGE].tobytes()) for batch in made]
    # Each is one of the batches that would have come without the service, though not in their order. A worker makes
    # some in advance.
    assert None not in found and 0 not in found and len({*found}) == len(found), found
    for batch, k in zip(made, found):
        plain.assert_same([batch], [whole[k]])
    del workers
