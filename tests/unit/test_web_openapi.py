"""The description of the API is the code's own, and it is checked in."""

from __future__ import annotations

import json

from wait_for_me_app.web.api import OPERATIONS
from wait_for_me_app.web.openapi import describe, text
from web_world import REPOSITORY


def test_the_checked_in_description_is_what_the_code_says() -> None:
    """Run `python -m wait_for_me_app.web.openapi > openapi.json` after a change."""
    assert (REPOSITORY / "openapi.json").read_text(encoding="utf-8") == text(OPERATIONS)


def test_every_reference_leads_somewhere_and_every_operation_has_problems() -> None:
    """No dangling $ref, a summary and an id each, and a problem document for what goes wrong."""
    document = describe(OPERATIONS)
    written = json.dumps(document)
    names = {part.split('"')[0] for part in written.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"].endswith("."), (path, method)
            assert "application/problem+json" in json.dumps(operation["responses"]["429"])


def test_the_guide_to_the_api_names_every_address() -> None:
    """docs/api.md is complete."""
    guide = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [one.path for one in OPERATIONS if one.path not in guide]
    assert missing == []
