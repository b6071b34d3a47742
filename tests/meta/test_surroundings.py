"""The suite runs without a network, and in the same surroundings everywhere."""

from __future__ import annotations

import os
import socket
import urllib.request

import pytest


def test_another_machine_cannot_be_reached():
    with pytest.raises(OSError, match=r"asked for the address of example\.com"):
        urllib.request.urlopen("https://example.com/", timeout=5)


def test_this_machine_can():
    assert socket.getaddrinfo("127.0.0.1", 80)


def test_the_hub_is_told_to_stay_offline():
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE


def test_the_terminal_is_eighty_wide_and_asks_for_nothing():
    assert os.environ["COLUMNS"] == "80"
    assert not {"NO_COLOR", "FORCE_COLOR"} & os.environ.keys()
