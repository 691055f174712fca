"""Every known mistake is noticed: tests that do not fail when the product is wrong are worth nothing."""

from __future__ import annotations

import pytest

from mutants.registry import MUTANTS, by_name
from mutants.rewriting import DoesNotFit, Mutant
from mutants.search import MOST_SCHEDULES, first_seeds, schedules_until_noticed
from wait_for_me_app.core.retry import RetryPolicy

NAMES = [mutant.name for mutant in MUTANTS]


def test_there_are_enough_mutants_and_no_two_of_a_name() -> None:
    """A shorter list would say less about the tests."""
    assert len(set(NAMES)) == len(NAMES) >= 25


@pytest.mark.parametrize("name", NAMES)
def test_the_mistake_can_be_made_and_is_taken_back(name: str) -> None:
    """A mutant that no longer fits its source fails here, and what it replaced is back in its place afterwards."""
    mutant = by_name(name)
    before = [getattr(place, function) for place, function, _, _ in mutant.changes]
    with mutant.applied():
        assert [getattr(place, function) for place, function, _, _ in mutant.changes] != before
    assert [getattr(place, function) for place, function, _, _ in mutant.changes] == before


def test_a_mutant_that_does_not_fit_is_refused() -> None:
    """Otherwise the list would rot in silence as the product changes."""
    mutant = Mutant(name="no", mistake="none", changes=[(RetryPolicy, "after", "no such text", "")])
    with pytest.raises(DoesNotFit, match="0 times"), mutant.applied():
        pass


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_the_mistake_is_noticed(name: str) -> None:
    """The simulation finds a violation; the seeds that did last time are tried first."""
    _, text = schedules_until_noticed(name, MOST_SCHEDULES, first_seeds().get(name))
    assert text is not None, f"{name} survives {MOST_SCHEDULES} schedules"
