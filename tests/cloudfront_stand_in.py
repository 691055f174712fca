"""As much of Amazon CloudFront's API as an invalidation needs, on a loopback port: XML over HTTP, as boto3 has it."""

from __future__ import annotations

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

_NAMESPACE = "http://cloudfront.amazonaws.com/doc/2020-05-31/"


class CloudFront:
    """Remembers invalidations by their CallerReference, as the real one does."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, tuple[str, ...]]] = []
        """CallerReference and paths of each request."""
        self.invalidations: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        """By CallerReference: id, distribution and paths."""
        self.failures: deque[tuple[int, str]] = deque()
        """What the next requests are answered with: status and code."""
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, answer = cloud._answer(self.path, body)
                self.send_response(status)
                self.send_header("content-type", "text/xml")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        _, _, resource, distribution, kind = path.split("/")
        assert (resource, kind) == ("distribution", "invalidation"), path
        batch = ElementTree.fromstring(body)
        reference = batch.findtext(f"{{{_NAMESPACE}}}CallerReference") or ""
        paths = tuple(item.text or "" for item in batch.iter(f"{{{_NAMESPACE}}}Path"))
        self.requests.append((reference, paths))
        if self.failures:
            return _error(*self.failures.popleft())
        if not distribution.startswith("E"):
            return _error(404, "NoSuchDistribution")
        known = self.invalidations.setdefault(reference, (f"I{len(self.requests)}", distribution, paths))
        if known[1:] != (distribution, paths):
            return _error(400, "InvalidationBatchAlreadyExists")
        return 201, _invalidation(known[0], reference, paths)


def _error(status: int, code: str) -> tuple[int, bytes]:
    text = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{code}</Message></Error><RequestId>r</RequestId>"
    return status, f'<ErrorResponse xmlns="{_NAMESPACE}">{text}</ErrorResponse>'.encode()


def _invalidation(name: str, reference: str, paths: tuple[str, ...]) -> bytes:
    items = "".join(f"<Path>{path}</Path>" for path in paths)
    batch = f"<Paths><Quantity>{len(paths)}</Quantity><Items>{items}</Items></Paths>"
    batch += f"<CallerReference>{reference}</CallerReference>"
    text = f"<Id>{name}</Id><Status>InProgress</Status><CreateTime>2026-11-24T02:10:00Z</CreateTime>"
    text += f"<InvalidationBatch>{batch}</InvalidationBatch>"
    return f'<Invalidation xmlns="{_NAMESPACE}">{text}</Invalidation>'.encode()
