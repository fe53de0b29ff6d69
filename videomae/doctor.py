"""Look at this machine and installation: what is there, what works, and what to mend.

    python -m videomae.doctor
    python -m videomae.doctor list=LIST root=DIR

Prints the versions of all packages, the decoders that are found and whether each decodes a little
clip that comes with this package, what the GPUs and the links between processes say of themselves,
and how much memory and disk there is. With a clip list, its first 20 videos are decoded too. Each
line is marked ok, note (worth knowing) or ERROR (will not work), with what to do. Ends with status
1 where there is an error; having no GPU is none.

    first=20                                     how many videos of the list
    list_format= frame_template= first_frame=    as data.list_format and so on: see data_lists
"""

import sys
from functools import partial

from videomae.config import DoctorConfig
from videomae.run.command import command


def doctor(config: DoctorConfig) -> None:
    """Print every finding; exit with status 1 where one is an error."""
    from videomae.report import machine
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
