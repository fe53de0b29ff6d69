"""Runs under torchrun and under Slurm: what is killed, or asked to stop, goes on by itself."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT, composed
from tests.train import NUM_VIDEOS, PRETRAIN, metrics, train, video_list

SCRIPTS = ROOT / "scripts"
STEPS = 120
LIMIT_S = 240
"""More than any of these runs takes."""


@cache
def answers(*command: str) -> bool:
    """Whether a program is there, and does its work."""
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


under_slurm = pytest.mark.skipif(
    # as text: asked where such a test is run, as a Slurm that is down answers after 20 s
    "not answers('sinfo')",
    reason="no Slurm answers here (sinfo); CI starts one of its own",
)


def environment(**more: str) -> dict[str, str]:
    own = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return os.environ | own | more


def queue() -> str:
    """What Slurm says of its jobs, where there is one."""
    if shutil.which("squeue") is None:
        return ""
    return subprocess.run(["squeue"], capture_output=True, text=True, check=False).stdout


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Poll until it holds."""
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, f"waited {LIMIT_S} s for {what}\n{queue()}"
        time.sleep(0.1)


def processes_of(launcher: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun has started, by their ranks: numbers of processes begin anew
    where they come to their end."""
    children = ["pgrep", "-P", str(launcher.pid)]
    found = subprocess.run(children, capture_output=True, text=True, check=True)
    return sorted(map(int, found.stdout.split()), key=rank_of)


def rank_of(process: int) -> int:
    """The rank that a process was started with."""
    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return int(next(each for each in variables if each.startswith(b"RANK=")).removeprefix(b"RANK="))


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def loss_curve(directory: Path) -> list[float]:
    return [row["loss"] for row in metrics(directory)]


@pytest.fixture(scope="module")
def overrides(videos: Path) -> list[str]:
    assert STEPS % (NUM_VIDEOS // 4) == 0
    return [
        *PRETRAIN,
        f"optim.epochs={STEPS // (NUM_VIDEOS // 4)}",
        f"data.root={videos}",
        f"data.train_list={video_list(videos / 'train.txt')}",
    ]


@pytest.fixture(scope="module")
def undisturbed(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The loss curve of one process."""
    directory = tmp_path_factory.mktemp("undisturbed")
    train(composed("pretrain", *overrides, f"output_dir={directory}"))
    curve = loss_curve(directory)
    assert len(curve) == STEPS
    return curve


@pytest.fixture
def launched() -> Iterator[list[subprocess.Popen[str]]]:
    """Launchers, killed at the end with all that they started."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def launch(script: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SCRIPTS / script), "pretrain", *arguments],
        env=environment(**more),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("script", ["one_node.sh", "several_nodes.sh", "slurm.sh"])
def test_help_is_the_header(script: str) -> None:
    said = subprocess.run([SCRIPTS / script, "--help"], capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert "\n".join(f"# {line}" for line in lines) in (SCRIPTS / script).read_text()
    assert any(f"scripts/{script}" in line for line in lines)
    assert lines[-1].endswith(("PYTHON (python).", "share."))
    assert "Environment:" in said.stdout


@pytest.mark.skipif(answers("nvidia-smi", "-L"), reason="needs a machine without a GPU")
@pytest.mark.parametrize("script", ["one_node.sh", "several_nodes.sh"])
def test_without_a_gpu_the_number_of_processes_is_asked_for(script: str) -> None:
    said = subprocess.run(
        [SCRIPTS / script, "pretrain"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 2
    assert "PROCESSES=2" in said.stderr


@pytest.mark.long
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_process_that_is_killed_is_started_again(
    overrides: list[str],
    undisturbed: list[float],
    launched: list[subprocess.Popen[str]],
    tmp_path: Path,
    count: int,
) -> None:
    often = "run.checkpoint_every=10"
    run = launch("one_node.sh", *overrides, often, f"output_dir={tmp_path}", PROCESSES=str(count))
    launched.append(run)
    wait_for("15 steps", lambda: num_lines(tmp_path / "metrics.jsonl") >= 15)
    ranks = processes_of(run)
    assert len(ranks) == count
    os.kill(ranks[-1], signal.SIGKILL)
    _, said = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 0, said[-2000:]
    assert "Signal 9 (SIGKILL) received by PID" in said or "exitcode: -9" in said
    assert "Traceback" not in said  # whether torchrun ends the other one, or it ends by itself
    assert "going on from" in said
    assert loss_curve(tmp_path) == pytest.approx(undisturbed, rel=1e-3)


@pytest.mark.long
@pytest.mark.soak
def test_several_machines_make_one_run(
    overrides: list[str],
    undisturbed: list[float],
    launched: list[subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    """Two of them on this one; what is killed on one is started again on both."""
    given = {"HEAD": "localhost", "NODES": "2", "PORT": "29517", "PROCESSES": "1"}
    here = [*overrides, "run.checkpoint_every=10", f"output_dir={tmp_path}"]
    for _ in range(2):
        launched.append(launch("several_nodes.sh", *here, **given))
    wait_for("15 steps", lambda: num_lines(tmp_path / "metrics.jsonl") >= 15)
    os.kill(*processes_of(launched[1]), signal.SIGKILL)
    said = [process.communicate(timeout=LIMIT_S)[1] for process in launched]
    assert [process.returncode for process in launched] == [0, 0], said[0][-2000:]
    assert "2 x 2 x 1" in "".join(said) or "2 x 1 x 2" in "".join(said)
    assert "going on from" in "".join(said)
    assert loss_curve(tmp_path) == pytest.approx(undisturbed, rel=1e-3)


def state(job: str) -> str:
    """What Slurm says of a job."""
    show = ["scontrol", "show", "job", job]
    return subprocess.run(show, capture_output=True, text=True, check=True).stdout


def start_now(job: str) -> None:
    """Slurm holds a job back that was put back into its queue, for two minutes; and nodes know the
    time by the second.
    """
    time.sleep(3)
    update = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
    subprocess.run(update, check=False, capture_output=True)


@under_slurm
@pytest.mark.long
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_job_that_is_asked_to_stop_goes_back_into_the_queue_and_on(
    overrides: list[str], undisturbed: list[float], tmp_path: Path, count: int
) -> None:
    output = tmp_path / "run"
    script = [str(SCRIPTS / "slurm.sh"), "pretrain", *overrides, f"output_dir={output}"]
    job = subprocess.run(
        ["sbatch", "--parsable", *script],
        cwd=tmp_path,
        env=environment(PROCESSES=str(count)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    log = tmp_path / f"videomae-{job}.log"

    def ended() -> bool:
        now = state(job)
        assert "JobState=FAILED" not in now
        if "JobState=PENDING" in now:
            start_now(job)
        return "JobState=COMPLETED" in now

    try:
        wait_for("15 steps", lambda: num_lines(output / "metrics.jsonl") >= 15)
        subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
        wait_for("the queue", lambda: "JobState=PENDING" in state(job))
        assert loss_curve(output)[-1] != undisturbed[-1]
        wait_for("the end", ended)
    finally:
        subprocess.run(["scancel", job], check=False, capture_output=True)
    said = log.read_text()
    assert "is asked to stop" in said
    assert "stopped by SIGUSR1 after step" in said
    assert f"job {job}, start 2" in said
    assert "going on from" in said
    assert 15 <= len(loss_curve(output)) == STEPS
    assert loss_curve(output) == pytest.approx(undisturbed, rel=1e-3)


@under_slurm
@pytest.mark.long
@pytest.mark.soak
def test_the_jobs_of_a_sweep_go_back_into_the_queue_and_on(
    overrides: list[str], undisturbed: list[float], tmp_path: Path
) -> None:
    """Hydra's submitit launcher, two processes a job; the first of two jobs is told to stop."""
    launcher = [
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.tasks_per_node=2",
        "hydra.launcher.array_parallelism=1",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]
    one = ["resume=auto", "seed=0,1", f"output_dir={tmp_path}/seed-${{seed}}"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "videomae.pretrain", "-m", *launcher, *overrides, *one],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    first = tmp_path / "seed-0"
    job = ""
    try:
        wait_for("15 steps", lambda: num_lines(first / "metrics.jsonl") >= 15)
        (folder,) = (tmp_path / "sweep" / ".submitit").glob("*_0")
        job = folder.name
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
        wait_for("the queue", lambda: "JobState=PENDING" in state(job))
        saved = num_lines(first / "metrics.jsonl")
        assert (first / "checkpoints" / "last").read_text() == f"step_{saved}"
        start_now(job)
        said, _ = sweep.communicate(timeout=LIMIT_S)
    finally:
        sweep.kill()
        subprocess.run(["scancel", job.split("_")[0]], check=False, capture_output=True)
    assert sweep.returncode == 0, said[-2000:]
    assert "2 x 1 x 2" in next(folder.glob("*_0_log.err")).read_text()
    assert loss_curve(first) == pytest.approx(undisturbed, rel=1e-3)
    assert len(loss_curve(tmp_path / "seed-1")) == STEPS


PYTHON_STUB = """#!/bin/bash
echo "interface ${GLOO_SOCKET_IFNAME:-none}, files $(ulimit -Sn), $*"
"""
NETWORK = {
    "getent": 'case $2 in gpu01) echo "10.0.0.1 STREAM";; own) echo "127.0.1.1 STREAM";; esac',
    "ip": """case "$*" in
        *"address show to 10.0.0.1") [[ $HERE != gpu01 ]] || echo "3: ib0 inet 10.0.0.1/24";;
        *"route get 10.0.0.1") echo "10.0.0.1 dev eth7 src 10.0.0.9 uid 0";;
        *"route get 1.1.1.1") [[ $HERE == island ]] || echo "1.1.1.1 via 10.0.9.1 dev eth0 src 1";;
    esac""",
    "srun": 'shift; exec "$@"',
    "scontrol": 'echo "$3"',
}
"""Programs that know of a head gpu01, reached through eth7, and that names may lead nowhere."""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let launchers find these programs, and print what they would start."""
    for name, text in {**NETWORK, "python-stub": PYTHON_STUB}.items():
        path = tmp_path / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHON", str(tmp_path / "python-stub"))
    monkeypatch.setenv("PROCESSES", "1")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("script", ["several_nodes.sh", "slurm.sh"])
@pytest.mark.parametrize(
    ("head", "here", "given", "interface"),
    [
        ("gpu01", "gpu02", {}, "eth7"),  # towards the head
        ("gpu01", "gpu01", {}, "ib0"),  # the head itself, where its address is
        ("own", "gpu01", {}, "eth0"),  # a name that means the loopback
        ("unknown", "gpu01", {}, "eth0"),
        ("own", "island", {}, "none"),
        ("gpu01", "gpu02", {"GLOO_SOCKET_IFNAME": "mine"}, "mine"),
    ],
)
def test_the_interface_that_leads_to_the_first_machine_is_named(
    script: str, head: str, here: str, given: dict[str, str], interface: str
) -> None:
    slurm = {"SLURM_JOB_NODELIST": head, "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2"}
    more = {"HEAD": head, "NODES": "2", "HERE": here, "OMP_NUM_THREADS": "1", **slurm, **given}
    said = subprocess.run(
        [SCRIPTS / script, "pretrain", "a=b"],
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in said.stdout.splitlines() if line.startswith("interface")]
    assert line.startswith(f"interface {interface}, ")
    assert f"--rdzv-endpoint {head}:" in line
    assert line.endswith("-m videomae.pretrain resume=auto a=b")


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("script", ["one_node.sh", "several_nodes.sh", "slurm.sh"])
@pytest.mark.parametrize(("soft", "hard", "then"), [(256, 4096, 4096), (70000, 70000, 70000)])
def test_as_many_files_as_the_machine_allows_may_be_open(
    script: str, soft: int, hard: int, then: int
) -> None:
    slurm = {"SLURM_JOB_NODELIST": "own", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < hard:
        pytest.skip(f"no more than {most} files may be open here")
    limits = f"ulimit -Sn {soft} && ulimit -Hn {hard}"
    said = subprocess.run(
        ["bash", "-c", f"{limits} && exec {SCRIPTS / script} pretrain"],
        env=os.environ | {"HEAD": "own", "NODES": "1", "HERE": "island", **slurm},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"files {then}, " in said.stdout
