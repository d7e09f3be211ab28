"""Signals: what is deferred, what ends at once, and whose handlers stand afterwards. Whole runs: tests/integration/test_interruption.py."""

import os
import signal
import threading
import time

import pytest

from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption


@pytest.fixture(autouse=True)
def handlers_as_before():
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {signum: signal.getsignal(signum) for signum in before} == before


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_outside_training_a_signal_ends_the_run_with_its_exit_code(signum: int, code: int) -> None:
    with pytest.raises(Interrupted) as stopped, Interruption():
        os.kill(os.getpid(), signum)
    assert stopped.value.exit_code == code
    assert not isinstance(stopped.value, Exception)


def test_while_training_it_is_noted_told_and_the_next_ctrl_c_is_the_kernels(capfd: pytest.CaptureFixture[str]) -> None:
    with Interruption() as interruption:
        interruption.defer()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # schedulers repeat it
        assert interruption.requested == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert capfd.readouterr().err.count("SIGTERM: stopping after this optimiser step and its checkpoint; Ctrl-C now ends at once.") == 1


def test_after_training_it_ends_the_run_again() -> None:
    def train_and_go_on(interruption: Interruption) -> None:
        interruption.defer()
        interruption.end_deferral()
        os.kill(os.getpid(), signal.SIGINT)

    with Interruption() as interruption, pytest.raises(Interrupted):
        train_and_go_on(interruption)


def test_a_forked_process_leaves_ctrl_c_to_its_parent_and_dies_of_sigterm() -> None:
    with Interruption():
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                os.kill(os.getpid(), signal.SIGINT)
                os.write(tell, b"alive")
                while True:  # not signal.pause(), which a signal that comes just before it would not end
                    time.sleep(0.01)
            finally:
                os._exit(99)
        os.close(tell)  # so that reading ends when the child does
        assert os.read(ready, 5) == b"alive"
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


def test_in_another_thread_nothing_is_installed() -> None:
    seen = []

    def work() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
