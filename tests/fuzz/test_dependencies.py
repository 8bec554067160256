"""What is installed at run time fits together, and may be used by a program under Apache-2.0."""

import pytest
from dependencies import kind_of, needed


def test_every_package_is_there_in_a_version_that_others_ask_for() -> None:
    assert {one.name: one.wants for one in needed() if one.wants} == {}


def test_every_licence_is_known_and_compatible() -> None:
    packages = needed()
    assert {"numpy", "torch", "polars", "fastapi", "starlette"} <= {one.name for one in packages}  # and what they need
    assert {one.name: one.licence for one in packages if not one.kind} == {}


@pytest.mark.parametrize(
    ("licence", "kind"),
    [("GPL-3.0-only", ""), ("GNU General Public License v3 (GPLv3)", ""), ("MIT AND GPL-2.0", ""), ("AGPL-3.0", ""),
     ("Proprietary", ""), ("", ""), ("GPL-2.0 OR MIT", "MIT"), ("LGPL-3.0-only", "LGPL"), ("BSD-3-Clause", "BSD")],
)  # fmt: skip
def test_a_licence_that_would_bind_us_is_seen(licence: str, kind: str) -> None:
    assert kind_of(licence) == kind
