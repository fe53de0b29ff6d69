"""Where the videos of a run are, and whether a page that is there is one of ours.

Runs may come from others: nothing that they name is imported, looked up or quoted unseen.
"""

import os
from dataclasses import replace
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from videomae.config import ConfigError, DataConfig, UserError
from videomae.report.gather import CONFIG, RunRecord
from videomae.run.extensions import is_extension
from videomae.run.files import regular
from videomae.run.schema import section_object
from videomae.video.opening import AUTO, check_decoder

TITLE, MOST_HEAD = b"<title>videomae report", 1024
"""Beginning of the title of a report page, and the number of first bytes in which it stands."""


def data_of(run: RunRecord) -> DataConfig | None:
    """Return the settings of a run's data set; None if its config has none or they are damaged."""
    if "data" not in run.config:
        return None
    try:
        if "${" in str(run.config["data"]):  # the environment's secrets, for one
            raise ValueError("it holds ${...}, which no run writes")
        data = section_object(run.config["data"], DataConfig, "data")
        if is_extension(data.decoder):  # the run may be another's: its code is not imported
            data = replace(data, decoder=AUTO)
        check_decoder(data.decoder)
        return data
    except (OmegaConfBaseException, UserError, ValueError) as error:
        reason = str(error).splitlines()[0]
        run.damaged.append(f"{run.directory / CONFIG}: data cannot be understood: {reason}")
        return None


def hashes_of_test_list(run: RunRecord) -> list[str]:
    """Return the SHA-256 of the test list that the run and its evaluation recorded."""
    at_start = run.environment.get("sha256")
    found = [result.sha256.get("test_list") for result in run.results]
    found.append(at_start.get("data.test_list") if isinstance(at_start, dict) else None)
    return [each for each in found if isinstance(each, str)]


def check_page(path: Path) -> None:
    """Check that a path is free, or holds a report page, which may be replaced.

    Raises:
        ConfigError: it holds something else.
    """
    if not os.path.lexists(path):
        return
    try:
        with regular(path).open("rb") as file:
            ours = TITLE in file.read(MOST_HEAD)
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise ConfigError(
            f"{path} is there, and is no page of a report: choose another out, or move it away"
        )
