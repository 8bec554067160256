"""Whatever a file holds, its reader gives a value or one line that names it, in little time and memory."""

from collections.abc import Iterator

import pytest
from guarded import Guarded
from hostile import HOSTILE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutations
from readers import READERS, present

EXAMPLES, EXAMPLES_APART = 25, 2


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    one = Guarded()
    yield one
    one.close()


@pytest.mark.parametrize("name", READERS)
def test_bytes_that_are_nearly_a_file_are_read_or_refused_in_one_line(guarded: Guarded, name: str) -> None:
    target = READERS[name]
    if not present(name):
        pytest.skip(f"what reads {name} is not installed")

    @settings(
        max_examples=EXAMPLES_APART if target.apart else EXAMPLES,
        derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.one_of(mutations(guarded.seeds(name)), st.binary(max_size=40)))
    def holds(data: bytes) -> None:
        found = guarded.ask(name, data)
        assert "wrong" not in found, found["wrong"]

    holds()


@pytest.mark.parametrize("name", READERS)
def test_the_files_that_fuzzing_begins_with_are_valid(guarded: Guarded, name: str) -> None:
    if not present(name):
        pytest.skip(f"what reads {name} is not installed")
    if name in ("idx", "patronus"):
        pytest.skip("a valid one has megabytes; these reach the checks of its content")
    assert [guarded.ask(name, seed) for seed in guarded.seeds(name)] == [{"value": True}] * len(guarded.seeds(name))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_made_to_harm_is_refused_in_one_line(guarded: Guarded, what: str) -> None:
    name, _, says = HOSTILE[what]
    if not present(name):
        pytest.skip(f"what reads {name} is not installed")
    found = guarded.ask_hostile(name, what)
    assert "said" in found, found
    assert says in found["said"]
