from __future__ import annotations

import pytest

from deploy.boards.address import Address
from exporters.errors import UserError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://orin", Address("orin")),
        ("ssh://nvidia@192.168.1.7:2222", Address("192.168.1.7", "nvidia", 2222)),
        ("ssh://me@[fe80::1]:22", Address("fe80::1", "me", 22)),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("orin", "is no board address"),
        ("http://orin", "is no board address"),
        ("ssh://", "is no board address"),
        ("ssh://orin:99999", "is no board address: Port out of range"),
        ("ssh://me:secret@orin", "board orin holds a password"),
        ("ssh://orin/tmp", "something behind the host"),
    ],
)
def test_what_is_no_address_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        Address.parse(text)
    assert "secret" not in str(raised.value)
