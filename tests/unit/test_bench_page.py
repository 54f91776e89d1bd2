"""The page of benchmarks: what one run writes leaves what the other one wrote."""

from __future__ import annotations

from bench.nomad import HEADING, section_of, with_section

PAGE = "# Benchmarks\n\n| a | table |\n"


def test_the_section_about_nomad_replaces_the_one_before_and_nothing_else() -> None:
    once = with_section(PAGE, "first")
    assert once == f"{PAGE}\n{HEADING}\n\nfirst\n"
    assert with_section(once, "second") == with_section(PAGE, "second")


def test_a_new_page_keeps_the_section_about_nomad() -> None:
    assert section_of(PAGE) == ""
    assert PAGE + section_of(with_section("# An older page\n", "kept")) == with_section(PAGE, "kept")
