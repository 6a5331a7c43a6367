"""Text from elsewhere on a terminal: nothing obeys it, and it fits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osa.model.common.progress import say
from osa.model.common.terminal import clip, harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünd 漢字", "plain, ünd 漢字"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\x9bb\x00\x7f\r", r"a\x9bb\x00\x7f\r"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\u200b\ufeff\ud800\U000e0041", r"\u200b\ufeff\ud800\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert harmless(text) == shown


@settings(deadline=None)
@given(st.text())
def test_nothing_but_line_ends_is_left(text: str) -> None:
    assert harmless(text).isprintable()
    assert harmless(text, lines=True).replace("\n", "").isprintable()


def test_messages_keep_their_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ntwo \x1b]0;title\x07")
    assert capsys.readouterr().err == "one\ntwo \\x1b]0;title\\x07\n"


@pytest.mark.parametrize(
    ("text", "width", "shown"), [("abc", 2, "ab"), ("漢字", 3, "漢"), ("e\u0301x", 1, "e\u0301")]
)
def test_wide_characters_take_two_columns_and_marks_none(text: str, width: int, shown: str) -> None:
    assert clip(text, width) == shown
