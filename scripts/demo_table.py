#!/usr/bin/env python
"""Print what the demo's three runs gave, and where their pictures are."""

import argparse
from pathlib import Path

from videomae.report.table import demo_report

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="the demo's output, such as outputs/demo")
    demo_report(parser.parse_args().directory)
