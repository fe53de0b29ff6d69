"""Check this machine and installation: packages, decoders, GPUs, memory, disk, and a clip list.

    python -m videomae.doctor
    python -m videomae.doctor list=LIST root=DIR

Prints the versions of all packages, whether each decoder is installed and decodes a small test clip
of this package, whether the GPUs and the communication between processes work, and how much memory
and disk space there is. With a clip list, its first 20 videos are decoded too. Each line is marked
ok, note (worth knowing) or ERROR (will not work), with what to do. The command ends with status 1
if there is an error; a machine without a GPU is no error.

    first=20                                     number of videos of the list
    list_format= frame_template= first_frame=    as data.list_format and so on: see data_lists
"""

import sys
from functools import partial

from videomae.config import DoctorConfig, UserError
from videomae.run.command import command


def doctor(config: DoctorConfig) -> None:
    """Print every finding; exit with status 1 where one is an error.

    Raises:
        UserError: PyTorch, or a package that goes with it, cannot be loaded at all.
    """
    try:
        from videomae.report import machine
    except (ImportError, OSError) as error:  # OSError: a shared library cannot be loaded
        raise UserError(
            f"a package cannot be loaded ({error}): pip check names what does not fit together, "
            "and pip install --force-reinstall -c constraints.txt -e . installs it anew"
        ) from error
    from videomae.run.console import SafeConsole

    sections = {
        "packages": machine.packages,
        "decoders": machine.decoders,
        "devices": machine.devices,
        "processes": machine.process_groups,
        "machine": machine.resources,
    }
    if config.list is not None:
        sections["list"] = partial(machine.videos, config)
    console = SafeConsole(highlight=False, width=None if sys.stdout.isatty() else 200)
    errors = sum(machine.print_section(title, look, console) for title, look in sections.items())
    console.print(f"{errors} error(s)" if errors else "no error")
    if errors:
        sys.exit(1)


main = command("doctor")(doctor)

if __name__ == "__main__":
    main()
