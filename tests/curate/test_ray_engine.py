"""The Ray engine on a cluster of two nodes: equal tables, deaths of all kinds, and refusals."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, run_command
from tests.curate.doubled import tries
from tests.curate.ray_nodes import Cluster, cluster, free_port, processes
from tests.curate.test_engine import raw_corpus

pytest.importorskip("ray", reason="Ray, which the extra `ray` brings, is not installed")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes that /proc lists"),
]
TABLES = ("clips.parquet", "sources.parquet", "rules_used.yaml", "stages/measure.parquet")
MEASURING = "videomae.curate.measuring"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster(2) as made:
        yield made


@pytest.fixture
def two(nodes: Cluster) -> Cluster:
    """The cluster, with a second node in place of one that a test has killed."""
    if len(nodes.nodes) < 2:
        nodes.add()
    return nodes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw videos, and the corpus that the local engine makes of them."""
    folder = tmp_path_factory.mktemp("corpus")
    raw_corpus(folder / "raw", 6)
    done = run_command("curate", *given(folder), "out=local", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def given(folder: Path) -> list[str]:
    raw = folder / "raw"
    return [f"source={raw}", f"salt={raw / 'salt'}", "engine.shard=4", "rules=loose"]


def on_ray(folder: Path, made: Cluster, out: str) -> list[str]:
    """The command line of curate on a cluster."""
    engine = ["engine.name=ray", f"engine.address={made.address}", f"out={out}"]
    return [sys.executable, "-m", "videomae.curate", *given(folder), *engine]


def has_the_tables_of_local(folder: Path, out: str) -> bool:
    return all(
        (folder / out / name).read_bytes() == (folder / "local" / name).read_bytes()
        for name in TABLES
    )


def doubled(
    out: Path, *names: str, environment: dict[str, str] | None = None, **settings: Any
) -> dict[str, Any]:
    """Measure names with the Ray engine as tests.curate.doubles does it."""
    line = [sys.executable, "-m", "tests.curate.ray_double", str(out), json.dumps(settings), *names]
    done = subprocess.run(
        line, env=environment or os.environ, cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"log": done.stderr}


def test_the_table_is_that_of_the_local_engine(corpus: Path, two: Cluster) -> None:
    done = subprocess.run(
        on_ray(corpus, two, "ray"), cwd=corpus, env=two.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert has_the_tables_of_local(corpus, "ray")
    assert "2 nodes, 2 CPUs" in done.stderr
    assert "% decoding" in done.stderr
    assert not list((corpus / "ray").rglob(".*")), "temporary files"
    assert not (corpus / "ray/measured/ray").exists()


@pytest.mark.soak
def test_both_nodes_measure_and_only_deaths_by_a_video_count(tmp_path: Path, two: Cluster) -> None:
    """What tests/curate/test_engine.py says of the local engine."""
    names = ("a", "crash", "b", "unlucky", "killed", "late", "slow1", "slow2")
    found = doubled(tmp_path, *names, environment=two.environment, address=two.address)
    assert found["errors"] == dict.fromkeys(names) | {"crash": "decoder crashed (SIGABRT)"}
    counts = {"crash": 2, "unlucky": 2, "killed": 3}
    assert {name: tries(tmp_path / name) for name in names} == dict.fromkeys(names, 1) | counts
    assert found["videos"] == len(names)
    assert found["note"].endswith("videos/s, 50% decoding")
    workers = {(tmp_path / f"{name}.tries").read_text().split()[0] for name in names}
    assert len(workers) >= 2  # each node has one CPU


def test_a_video_that_takes_too_long_is_named(tmp_path: Path, two: Cluster) -> None:
    given = {"environment": two.environment, "address": two.address}
    found = doubled(tmp_path, "hang", **given, timeout_s=1)  # the start of the program counts, too
    assert found["errors"] == {"hang": "not measured in time (1 s)"}


def test_a_node_that_does_not_share_the_folder_is_refused(tmp_path: Path, two: Cluster) -> None:
    """A token that is another one stands for a folder that is another one."""
    found = doubled(
        tmp_path, "a", environment=two.environment, address=two.address, replaced={"token": "other"}
    )
    assert found["refused"].startswith("ConfigError: the Ray node ")
    assert "out= must lie on a file system that all nodes share" in found["refused"]
    assert found["errors"] == {}


def test_a_node_with_other_versions_is_refused(tmp_path: Path, two: Cluster) -> None:
    own = {"environment": two.environment, "address": two.address}
    found = doubled(tmp_path, "a", **own, replaced={"versions": {"numpy": "1.0"}})
    assert "(here 1.0): install the same versions on every node" in found["refused"]
    assert found["errors"] == {}


@pytest.mark.soak
def test_a_node_that_is_killed_while_it_measures_costs_nothing(corpus: Path, two: Cluster) -> None:
    node, line = two.nodes[-1], on_ray(corpus, two, "killed")
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    running = subprocess.Popen(line, cwd=corpus, env=two.environment, text=True, **both)
    while not processes(node.pid, MEASURING):
        assert running.poll() is None, "it has ended before the node was killed"
        time.sleep(0.02)
    two.kill(node)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert has_the_tables_of_local(corpus, "killed")


@pytest.mark.soak
def test_a_cluster_whose_head_dies_ends_the_command(corpus: Path, nodes: Cluster) -> None:
    """Ray waits a minute for it, in this test two seconds. The same command goes on elsewhere."""
    impatient = nodes.environment | {"RAY_gcs_rpc_server_reconnect_timeout_s": "2"}
    line = on_ray(corpus, nodes, "ended")
    running = subprocess.Popen(
        line, cwd=corpus, env=impatient, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not any(processes(node.pid, MEASURING) for node in nodes.nodes):
        assert running.poll() is None
        time.sleep(0.02)
    nodes.kill(nodes.head)
    said, _ = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "GCS may have been killed" in said
    done = run_command("curate", *given(corpus), "out=ended", cwd=corpus)
    assert done.returncode == 0, done.stderr
    assert has_the_tables_of_local(corpus, "ended")
    assert not (corpus / "ended/measured/ray").exists()


@pytest.mark.soak
def test_a_ray_of_its_own_is_started_and_ended(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        own = os.environ | {"RAY_TMPDIR": place}
        found = doubled(tmp_path, "a", "b", environment=own, workers=2)
        assert not list(Path(place).iterdir())
    assert found.get("refused") is None
    assert found["errors"] == {"a": None, "b": None}
    assert all("videomae" in line for line in found["log"].splitlines()), "Ray speaks, too"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["engine.address=auto"], "engine.address=auto needs engine.name=ray"),
        pytest.param(
            ["engine.name=ray", "engine.address=ray://there:1"],
            "run the command on a node",
            marks=pytest.mark.soak,
        ),
        (["engine.name=ray", "engine.address=127.0.0.1:PORT"], "no Ray cluster of which this"),
    ],
)
def test_an_address_without_a_cluster_is_named(
    corpus: Path, overrides: list[str], said: str
) -> None:
    port = str(free_port())
    overrides = [each.replace("PORT", port) for each in overrides]
    done = run_command("curate", *given(corpus), *overrides, "out=none", cwd=corpus)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
