"""The OpenAPI 3.1 description, made from the table of operations and the documents' classes. `python -m wait_for_me_app.web.openapi` prints it."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from wait_for_me_app.web.documents import Problem
from wait_for_me_app.web.operations import Operation, Parameter


def describe(operations: tuple[Operation, ...]) -> dict[str, Any]:
    """Return the whole description."""
    types = {
        kind for operation in operations for kind in (*operation.answers.values(), operation.body) if _is_document(kind)
    }
    ordered = sorted({*types, Problem}, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    refs = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "WaitForMe",
            "version": "1",
            "description": "See and steer groups that wait. Any worker answers for all of them. Errors are RFC 9457 problem documents.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}, {"login": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "login": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _is_document(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _operation(operation: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary, "tags": [operation.tag]}
    if operation.parameters:
        described["parameters"] = [_parameter(one) for one in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.method == "POST",
            "content": _content("application/json", refs[operation.body]),
        }
    answers = {str(status): _answer(operation, kind, refs) for status, kind in operation.answers.items()}
    statuses = sorted({*operation.problems, 400, 401, 421, 429, 503, *((403, 413, 415) if operation.acts else ())})
    problems = {str(status): _problem(refs) for status in statuses if str(status) not in answers}
    described["responses"] = {**answers, **problems}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.meaning,
        "schema": dict(parameter.schema),
    }


def _answer(operation: Operation, kind: Any, refs: dict[Any, Any]) -> dict[str, Any]:
    if kind is None:
        return {"description": operation.summary}
    schema = refs[kind] if _is_document(kind) else {"type": "string"}
    return {"description": operation.summary, "content": _content(operation.content_type, schema)}


def _problem(refs: dict[Any, Any]) -> dict[str, Any]:
    return {
        "description": "A problem; `detail` ends with what to do.",
        "content": _content("application/problem+json", refs[Problem]),
    }


def _content(content_type: str, schema: Any) -> dict[str, Any]:
    return {content_type: {"schema": schema}}


def text(operations: tuple[Operation, ...]) -> str:
    """Return the description as it is checked in."""
    return json.dumps(describe(operations), indent=2, ensure_ascii=False, sort_keys=False) + "\n"


if __name__ == "__main__":
    from wait_for_me_app.web.api import OPERATIONS

    sys.stdout.write(text(OPERATIONS))
