"""Whatever a parser is given: it reads it, or raises an error that it documents."""

import pytest


@pytest.mark.slow
def test_thousands_of_damaged_inputs():
    from long.fuzz_parsers import fuzz, shared

    for name, found in fuzz(shared(6_000), seed=1, jobs=0).items():
        assert not found.broken, f"{name}: {found.broken}"
        assert found.outcomes["read"] or found.outcomes.total() < 100, name
