"""The Ray cluster of the Ray engine: connecting to one, or starting one on this machine."""

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import RayError

from videomae.config import ConfigError, EngineConfig
from videomae.run.cores import available_cores

logger = logging.getLogger(__name__)

CLIENT = "ray://"
"""Beginning of the address of a cluster that this machine is no node of."""
ANSWER_S = 10.0
"""Seconds that the head of a cluster may take to accept a connection."""
OBJECTS_BYTES = 80_000_000
"""Memory for objects of a Ray that is started here; tasks answer in a few kilobytes."""


@contextmanager
def connected(config: EngineConfig) -> Iterator[None]:
    """Connect to the cluster at engine.address, or start a Ray on this machine, while the block
    runs.

    A Ray that is started here sends no usage statistics, has no dashboard, and leaves no files.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    logging.getLogger("ray").setLevel(logging.ERROR)
    if config.address is not None:
        _connect(config.address)
        try:
            yield
        finally:
            ray.shutdown()
        return
    place = os.environ.get("RAY_TMPDIR", "/tmp")  # as Ray: its sockets need a short path
    with tempfile.TemporaryDirectory(
        prefix="ray-", dir=place, ignore_cleanup_errors=True
    ) as folder:
        ray.init(
            address="local",
            num_cpus=config.workers or available_cores(),
            include_dashboard=False,
            object_store_memory=OBJECTS_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    if address.startswith(CLIENT):
        raise ConfigError(
            f"engine.address={address}: run the command on a node of the cluster, with "
            "engine.address=auto"
        )
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), ANSWER_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"engine.address={address}: no Ray cluster of which this machine is a node answers "
            f"there: {error}"
        ) from error
    nodes = live_nodes()
    logger.info(f"Ray cluster {address}: {len(nodes)} nodes, {sum(nodes.values())} CPUs")


def live_nodes() -> dict[str, int]:
    """Return the number of CPUs by id of each node that is alive."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in nodes}
