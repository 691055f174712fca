"""A service that is called by webhook, and verifies that it is the executor who calls.

HOOK_SECRET=whsec_... python examples/webhook_receiver.py 8080
"""

import json
import os
import sys

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError


def make_app(secret: str) -> web.Application:
    """Return the service: POST / takes fires."""
    verifier = Webhook(secret)
    seen: set[str] = set()  # in real life: a table with a unique key, written together with what the fire changes

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            fire = verifier.verify(body, dict(request.headers))
        except WebhookVerificationError:
            return web.Response(status=401)
        if fire["fire_id"] not in seen:  # the same fire may be delivered more than once
            seen.add(fire["fire_id"])
            print(
                json.dumps({"group": fire["group_key"], "reason": fire["reason"], "fire_id": fire["fire_id"]}),
                flush=True,
            )
        return web.Response(status=204)

    app = web.Application(client_max_size=1024 * 1024)
    app.router.add_post("/", receive)
    return app


if __name__ == "__main__":
    web.run_app(make_app(os.environ["HOOK_SECRET"]), host="127.0.0.1", port=int(sys.argv[1]), print=None)
