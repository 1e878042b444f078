"""Process groups of `notqmail run`: what it says of those that it may not signal."""

import os
import signal

import pytest

from notqmail.admin.children import group_is_gone, signal_group


@pytest.mark.parametrize(
    ("error", "is_gone", "was_reached"),
    [(None, False, True), (ProcessLookupError, True, True), (PermissionError, False, False)],
)
def test_a_group_that_may_not_be_signalled_is_neither_gone_nor_reached(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError] | None, is_gone: bool, was_reached: bool
) -> None:
    def killpg(pid: int, number: int) -> None:
        assert (pid, number) in ((77, 0), (77, signal.SIGKILL))
        if error is not None:
            raise error

    monkeypatch.setattr(os, "killpg", killpg)
    assert group_is_gone(77) == is_gone
    assert signal_group(77, signal.SIGKILL) == was_reached
