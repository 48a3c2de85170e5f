"""Signals while TensorFlow computes."""

import os
import signal
import threading

import pytest
import tensorflow as tf

from tests.trainer import fakes
from trainer import interrupts


def test_signal_is_noticed_while_the_main_thread_computes():
    trainer, _, _ = fakes.make(tf.distribute.OneDeviceStrategy("CPU:0"), fakes.batches(2))
    trainer.train(tf.constant(1))
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.Interrupts(trainer.stop) as stops:
        sender = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        sender.start()
        trainer.train(tf.constant(10**9))  # ends by the signal alone
        sender.join()
        assert trainer.is_stopped
        with pytest.raises(interrupts.Stopped, match="SIGTERM") as stopped:
            stops.check()
        assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_signal():
    with interrupts.Interrupts(lambda: None) as stops:
        stops.check()
