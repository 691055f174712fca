"""Start of the command line: `wait-for-me` and `python -m wait_for_me_app`.

Rule: nothing outside the standard library is imported here, because a bare installation (the client alone) has this
file too, and must answer with the line to type instead of a traceback.
"""

from __future__ import annotations

import sys

_INSTALL = "pip install 'kafka-wait-for-me[app]'"
_FROM_THE_EXTRA = frozenset({"aiokafka", "click", "faust", "mode", "rich", "rocksdict", "uvloop"})


def main() -> int:
    """Run the command line, or say what to install when the extra `[app]` is missing."""
    try:
        from wait_for_me_app import cli

        return cli.main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _FROM_THE_EXTRA:
            raise
        sys.stderr.write(
            f"wait-for-me: this needs {error.name}, which the client alone does not bring. Run: {_INSTALL}\n"
        )
        return 78


if __name__ == "__main__":
    raise SystemExit(main())
