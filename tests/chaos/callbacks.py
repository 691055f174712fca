"""What the executors run: callbacks that leave a line in the witness file, on the disk, each time they have done their work.

The time limits are short, because a successor waits one out after a crash. `chaos.flaky` fails at the first attempt of a fire, whichever
process makes it; a file says that it has been made.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from wait_for_me.fires import Fire
from wait_for_me_app.callback_errors import SetAside
from wait_for_me_app.callbacks import callback
from witness_callbacks import WITNESS, note

LIMIT_S: Final = 4.0


@callback("chaos.note", attempts=20, timeout_in_seconds=LIMIT_S, first_wait_in_seconds=0.5, longest_wait_in_seconds=2)
def noted(fire: Fire) -> None:
    """Take a moment, then leave a line."""
    time.sleep(0.01)
    note("effect", fire)


@callback("chaos.async", attempts=20, timeout_in_seconds=LIMIT_S, first_wait_in_seconds=0.5, longest_wait_in_seconds=2)
async def noted_async(fire: Fire) -> None:
    """The same on the loop."""
    await asyncio.sleep(0.01)
    note("effect", fire)


@callback("chaos.flaky", attempts=20, timeout_in_seconds=LIMIT_S, first_wait_in_seconds=0.5, longest_wait_in_seconds=2)
def flaky(fire: Fire) -> None:
    """Fail at the first attempt."""
    os.makedirs(os.environ[WITNESS] + ".tried", exist_ok=True)
    try:
        os.close(os.open(os.path.join(os.environ[WITNESS] + ".tried", fire.fire_id), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        note("effect", fire)
    else:
        raise ValueError("the first attempt fails")


@callback("chaos.hopeless", attempts=3, timeout_in_seconds=LIMIT_S, first_wait_in_seconds=0.5)
def hopeless(fire: Fire) -> None:
    """Ask to be set aside."""
    raise SetAside("nothing can be done about it")
