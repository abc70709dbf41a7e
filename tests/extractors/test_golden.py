"""Numbers of built-in extractors change with their version, and not without it."""

from __future__ import annotations

import json

import pytest

from oectflow.extractors.transfer import GmMax
from tests.extractors import golden

KEPT = json.loads(golden.GOLDEN.read_text())


@pytest.mark.parametrize("name", golden.built_in())
def test_golden__numbers_are_those_of_the_version(name):
    assert golden.differences(name, KEPT.get(name)) == ""


def test_golden__nothing_is_kept_that_is_gone():
    assert set(KEPT) == set(golden.built_in()), f"run '{golden.HOW}'"


def test_golden__numbers_that_change_need_another_version(monkeypatch):
    name, kept = "transfer.gm_max", KEPT["transfer.gm_max"]
    extract = GmMax.extract_batch

    def other(self, batch, params):
        columns = extract(self, batch, params)
        # One value of many, by a millionth.
        columns["value"].flat[0] *= 1 + 1e-6
        return columns

    monkeypatch.setattr(GmMax, "extract_batch", other)
    text = golden.differences(name, kept)
    assert f"'version = {GmMax.version + 1}' in class GmMax" in text
    assert golden.HOW in text
    monkeypatch.setattr(GmMax, "version", GmMax.version + 1)
    assert "holds version" in golden.differences(name, kept)


def test_golden__status_words_count(monkeypatch):
    extract = GmMax.extract_batch

    def other(self, batch, params):
        columns = extract(self, batch, params)
        columns["status"].flat[0] = 3
        return columns

    monkeypatch.setattr(GmMax, "extract_batch", other)
    assert "other numbers" in golden.differences("transfer.gm_max", KEPT["transfer.gm_max"])


def test_golden__inputs_are_the_same_everywhere():
    """Written out by hand; every other number of the inputs is made of these in the same way."""
    assert (golden.noise(3) * 2**16).tolist() == [908, -21251, -12541]
    first = golden.transients()[0]["Id"][:2]
    assert first.tolist() == [5 / 32 / 1024, (5 / 32 + 27 / 32 * 5 / 32) / 1024]
