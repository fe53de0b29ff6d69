"""Ctrl-C at any moment ends a command: what it interrupts cannot swallow it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from videomae.run.interrupts import ending_imports

PROGRAM = """
import signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {at!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from videomae.pretrain import main
main()
"""


@pytest.mark.parametrize("at", ["numpy.matrixlib", "torch.nn", "av", "videomae.train.trainer"])
def test_ctrl_c_during_an_import_ends_the_command(at: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("list.txt\n")
    given = ["model=vit_tiny", "data.train_list=list.txt", "data.root=.", "output_dir=out"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(at=at), *given],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def default() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which a shell may have had ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default")
def test_elsewhere_it_raises_and_the_handler_is_gone_afterwards() -> None:
    with pytest.raises(KeyboardInterrupt), ending_imports(str):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default")
def test_a_handler_of_others_stays() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or in the background
    with ending_imports(str):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("default")
def test_in_another_thread_nothing_changes() -> None:
    found = []

    def look() -> None:
        with ending_imports(str):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
