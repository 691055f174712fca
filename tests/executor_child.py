"""An executor in a process of its own, with limits that fit the patience of a test: `python executor_child.py
MODULE...`

The limits come as JSON in WAIT_FOR_ME_TEST_OPTIONS; everything else is what `wait-for-me executor` does.
"""

from __future__ import annotations

import json
import os
import sys

from wait_for_me_app.executor import process as executor
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.logging_setup import configure_logging
from wait_for_me_app.settings import Settings


def main(modules: list[str]) -> int:
    """Run until stopped."""
    settings = Settings.from_environment()
    configure_logging(settings)
    options = ExecutorOptions(**json.loads(os.environ.get("WAIT_FOR_ME_TEST_OPTIONS", "{}")))
    return executor.run(settings, modules, options=options)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
