"""Refuses to start with other versions of Faust and aiokafka than those whose insides this package replaces."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

WRITTEN_FOR: Final = {
    "faust-streaming": "0.15.3",
    "mode-streaming": "0.7.1",
    "aiokafka": "0.14.0",
    "rocksdict": "0.3.29",
}


class UnfitInstallation(Exception):
    """The installed packages are not those that this release was written for."""


def check_versions() -> None:
    """Raise UnfitInstallation, with what to install, if a pinned package is missing or another version."""
    wrong = [f"{name}=={wanted}" for name, wanted in WRITTEN_FOR.items() if _installed(name) != wanted]
    if wrong:
        raise UnfitInstallation(
            f"this worker replaces parts of its libraries and was written for exactly: pip install {' '.join(wrong)}"
        )


def check_classes(app: Any) -> None:
    """Raise UnfitInstallation if Faust is not using the classes of this package, or runs without its compiled stream."""
    import faust.streams

    from wait_for_me_app.faust_lanes.recovery import LaneRecovery, LaneTableManager
    from wait_for_me_app.faust_lanes.table import LaneRowsStore
    from wait_for_me_app.faust_lanes.transport import LaneConsumer, LaneTransport

    in_use = {
        "transport": (app.transport, LaneTransport),
        "consumer": (app.consumer, LaneConsumer),
        "table manager": (app.tables, LaneTableManager),
        "recovery": (app.tables.recovery, LaneRecovery),
        "store": (next(iter(app.tables.values())).data, LaneRowsStore),
    }
    for part, (found, wanted) in in_use.items():
        if not isinstance(found, wanted):
            raise UnfitInstallation(
                f"Faust's {part} is {type(found).__name__}, not {wanted.__name__}; reinstall kafka-wait-for-me[app]"
            )
    if getattr(faust.streams, "_CStreamIterator", None) is None:
        raise UnfitInstallation(
            "faust-streaming was installed without its compiled parts; reinstall it from a binary wheel"
        )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
