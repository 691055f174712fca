"""Every transcript prints itself, through the reference and through the worker's fold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenarios.folds import NAMES, assert_agree, named
from scenarios.transcript import parse, play, summary
from wait_for_me_app.audit.reference import fold_partition

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.fixture(params=NAMES)
def fold(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """One of the folds that must agree."""
    return named(request.param)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_prints_itself(path: Path, fold: Callable[..., Any], rewrite: bool) -> None:
    """The output under each line is exactly what the fold makes of it."""
    text = path.read_text(encoding="utf-8")
    if rewrite:
        path.write_text(play(parse(text), fold_partition), encoding="utf-8")
        return
    assert play(parse(text), fold) == text


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_folds_agree_on_a_transcript_to_the_byte(path: Path) -> None:
    """What the printed text leaves out is equal as well."""
    transcript = parse(path.read_text(encoding="utf-8"))
    assert_agree(transcript.records, **transcript.place)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_says_why_it_stays_on_paper_or_survives_a_change_of_scale(path: Path) -> None:
    """A real Kafka replays a transcript in a fraction of its time, with the same fires."""
    text = path.read_text(encoding="utf-8")
    whole = parse(text)
    if whole.on_paper is not None:
        with pytest.raises(ValueError, match="cannot be replayed"):
            whole.sends()
        return
    quick = parse(text, scale=0.02)
    assert [send.partition for send in quick.sends()] == [whole.partition] * len(whole.records)
    assert summary(fold_partition(quick.records, **quick.place).fires) == summary(
        fold_partition(whole.records, **whole.place).fires
    )


def test_every_transcript_opens_with_the_behaviour_it_pins() -> None:
    """A reader learns from the first line what the file is about."""
    assert [path.name for path in TRANSCRIPTS if not path.read_text(encoding="utf-8").startswith("# ")] == []


@pytest.mark.parametrize(
    "line",
    [
        "at noon tick",
        "at 10:00:00 jump",
        "nonsense",
        "at 10:00:00 add g p wait 5",
        "at 10:00:00 add g p of 1 wait 5 do c at once",
    ],
)
def test_a_line_that_is_no_transcript_is_refused(line: str) -> None:
    """A typing mistake in a transcript is an error, never a line that tests nothing."""
    with pytest.raises(ValueError, match=r"transcript|at HH|no such|expected"):
        parse(line)
