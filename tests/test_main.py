"""`videomae VERB`, the same as `python -m videomae.VERB`."""

import errno
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import videomae
from tests.conftest import ROOT
from tests.test_commands import call
from videomae.config import PretrainConfig, UserError
from videomae.config.settings import listed_settings
from videomae.run.directory import alone
from videomae.run.schema import COMMANDS


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Call `python -m videomae`, which the program of that name calls."""
    return subprocess.run(
        [sys.executable, "-m", "videomae", *words], capture_output=True, text=True, check=False
    )


def test_alone_it_lists_every_command() -> None:
    done = run()
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")]
    assert listed[-len(COMMANDS) :] == list(COMMANDS)
    assert run("--help").stdout == done.stdout


def test_the_version_is_the_package_s() -> None:
    assert run("--version").stdout == f"{videomae.__version__}\n"


@pytest.mark.parametrize("words", [("recipes", "match=demo"), ("recipes", "--help")])
def test_a_verb_is_its_module(words: tuple[str, ...]) -> None:
    verb, *rest = words
    module = [sys.executable, "-m", f"videomae.{verb}", *rest]
    other = subprocess.run(module, capture_output=True, text=True, check=True)
    assert run(*words).stdout == other.stdout


def test_a_misspelt_verb_is_answered_by_the_nearest() -> None:
    done = run("pretain")
    assert done.returncode == 2
    assert done.stderr == "error: there is no command 'pretain'; did you mean pretrain?\n"
    assert "there are pretrain finetune" in run("xyzzy").stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# @package _global_\noptim: [\n", "exp/mine.yaml"),
        ("# @package _global_\noptim:\n  epoch: 3\n", "did you mean optim.epochs?"),
        ("# @package _global_\nseed: 1\nseed: 2\n", "found duplicate key seed"),
        ("# @package _global_\noptim: null\n", "field 'optim' is not Optional"),
        ("optim:\n  epochs: 3\n", "the first line of an exp's file must be '# @package _global_'"),
        ("\xff", "can't decode byte 0xff"),
    ],
)
def test_a_yaml_file_of_ones_own_that_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "mine.yaml").write_bytes(text.encode("latin-1"))
    assert call("pretrain", f"--config-dir={tmp_path}", "+exp=mine") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the settings cannot be read: ")
    assert said in error
    assert "Traceback" not in error
    assert "HYDRA_FULL_ERROR" not in error


def test_what_cannot_be_looked_up_or_printed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "--cfg", "job", "--resolve", "data.root=${nope}") == 2
    assert "error: the settings cannot be read: Interpolation key 'nope'" in capsys.readouterr().err
    with open("/dev/full", "w") as full:
        for words in (["--help"], ["--cfg", "job"]):
            done = subprocess.run(
                [sys.executable, "-m", "videomae.pretrain", *words],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert done.returncode == 2
            assert done.stderr.startswith("error: [Errno 28] No space left on device")
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["", ".pretrain --help", ".pretrain --cfg job"])
def test_a_reader_that_ends_early_is_no_error(words: str) -> None:
    line = f"{sys.executable} -m videomae{words} | true"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("closing", ["| true", ">&-", ">&- 2>&-"])
def test_a_command_goes_on_where_nobody_reads_it(closing: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    words = f"weights={ROOT}/tests/earlier/pretrained out={file} format=videomae"
    line = f"set -o pipefail; {sys.executable} -um videomae.convert {words} {closing}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert file.exists()


def test_a_closed_stream_is_no_error_of_its_own(tmp_path: Path) -> None:
    line = f"{sys.executable} -m videomae.pretrain 2>&-"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2


def test_every_command_tells_the_version() -> None:
    assert run("recipes", "--version").stdout == f"videomae {videomae.__version__}\n"


PROGRAM = """
import os, signal, sys
sys.argv = {argv!r}
import videomae
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("argv", [["/usr/bin/videomae", "pretrain"], ["-m"]])
def test_ctrl_c_ends_a_program_that_is_being_imported_without_a_word(argv: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(argv=argv)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("columns", ["80", "120"])
def test_no_key_is_broken_in_the_help(columns: str) -> None:
    env = os.environ | {"COLUMNS": columns}
    command = [sys.executable, "-m", "videomae.pretrain", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    first_words = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert {known.key for known in listed_settings(PretrainConfig)} <= first_words


def test_the_help_is_whole_on_a_terminal_without_a_width() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "videomae.pretrain", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "0"},
    )
    assert len(done.stdout) > 20_000


@pytest.mark.parametrize("words", ["", "--version", "completion bash"])
def test_a_reader_that_has_gone_is_no_error(words: str) -> None:
    line = f"{sys.executable} -m videomae {words} | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_what_is_left_out_and_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "~data.sources.instagrm") == 2
    assert "instagrm' does not exist. --cfg job prints all" in capsys.readouterr().err


def test_a_sweep_that_slurm_refuses_ends_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sbatch", "srun"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    words = [*("pretrain", "-m", "seed=1,2", "hydra/launcher=submitit_slurm")]
    done = run(*words, f"hydra.sweep.dir={tmp_path}/jobs")
    assert done.returncode == 2
    assert "error: Slurm takes no job of this sweep; hydra.launcher.* are" in done.stderr
    assert done.stderr.endswith("sbatch: error: invalid partition\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("curate",), "out is not set"),
        (("curate",), "source is not set"),
        (("curate", "out=corpus"), "source is not set"),
        (("curate", "out=corpus", "source=none"), "source=none does not exist"),
        (("curate", "out=corpus", "stage=sources"), "source is not set"),
        (("curate", "out=corpus", "forget=none.txt"), "forget=none.txt does not exist"),
        (("doctor", "root=none"), "root=none is the root of a clip list: give list=LIST too"),
        (("prepare",), "dataset is not set"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_made(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "annotations is not set" not in told
    assert list(tmp_path.iterdir()) == []


def test_what_was_given_is_not_advised_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "videos" / name / f"{number}.mp4").write_bytes(bytes([number]))
    out = tmp_path / "prepared"
    given = ["dataset=folders", f"videos={tmp_path / 'videos'}", f"out={out}", "scan=off"]
    assert call("prepare", *given) == 0
    capsys.readouterr()
    lists = [f"data.prepared={out}", "model=vit_tiny"]
    assert call("pretrain", *lists, "data.train_list=none.txt") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[1].startswith("  data.train_list=none.txt does not exist: ")
    assert said[2:] == [f"data.prepared={out} gives those that no other setting names"]
    assert call("pretrain", *lists, f"data.videos={tmp_path / 'videos'}") == 2
    said = capsys.readouterr().err
    assert f"makes the lists, but there is data.prepared={out}: leave one of the two" in said


def test_an_output_directory_that_cannot_be_made_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuses(self: Path, *given: object, **more: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(self))

    monkeypatch.setattr(Path, "mkdir", refuses)  # as /proc, and file systems mounted on demand
    message = "cannot be made; choose another output_dir"
    with pytest.raises(UserError, match=message), alone(tmp_path / "out"):
        pass


def test_a_mistake_in_the_jobs_of_a_sweep_is_told_as_one(tmp_path: Path) -> None:
    words = [*("pretrain", "-m", "seed=1", "hydra/launcher=submitit_local")]
    done = run(*words, f"hydra.sweep.dir={tmp_path}/jobs")
    assert done.returncode == 2
    assert "error: a job of this sweep ended without a result:" in done.stderr
    assert "error: not enough to start with:" in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_that_are_not_there_are_named_with_the_rest_that_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["+exp=ucf101", "weights=outputs/none", "data.train_list=none.txt"]
    assert call("finetune", *given) == 2
    said = capsys.readouterr().err
    assert "\n  data.train_list=none.txt does not exist" in said
    assert "\n  weights=outputs/none does not exist" in said
    assert "weights=scratch" not in said


def test_who_has_no_weights_is_told_of_scratch(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("finetune", "+exp=ucf101") == 2
    assert "\nweights=scratch begins at random weights\n" in capsys.readouterr().err
    assert call("evaluate", "+exp=ucf101") == 2
    assert "scratch" not in capsys.readouterr().err
