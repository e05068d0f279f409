"""Amounts of memory as people write them."""

from typing import Any

import pytest

import impindiff as ipd
from impindiff.rollout import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (123, 123),
        ("123", 123),
        ("2GiB", 2 * 2**30),
        (" 512 mib ", 512 * 2**20),
        ("1.5 GB", 1_500_000_000),
        ("1KiB", 1024),
    ],
)
def test_an_amount_is_read(text: int | str, amount: int):
    assert parse_bytes(text) == amount
    assert ipd.memory.MemoryBudget(text).num_bytes == amount


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "2 gigs", 0, -5, "0GiB", True, "1e9", "nan"])
def test_what_is_no_amount_is_refused(text: Any):
    with pytest.raises(ipd.InputError, match=r"no amount of memory.*such as 2GiB"):
        ipd.memory.MemoryBudget(text)


def test_three_digits_are_enough():
    assert format_bytes(999.7 * 2**10) == "0.976 MiB"
    with pytest.raises(ipd.InputError):
        parse_bytes("9" * 400 + "GiB")


@pytest.mark.parametrize("amount", ["17 B", "999 KiB", "612 MiB", "2.7 GiB", "3.5 TiB"])
def test_an_amount_is_written_as_it_is_read(amount: str):
    assert format_bytes(parse_bytes(amount)) == amount
