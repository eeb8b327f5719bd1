"""A packaged method's loss changes only together with its version, which the key of what it has trained holds."""

import json
from pathlib import Path

import pytest

from helpers import golden, golden_methods
from helpers.golden_methods import OUTPUTS

FILE = Path(__file__).with_name("golden.json")


@pytest.mark.parametrize("name", OUTPUTS)
def test_losses_change_only_with_their_version(name):
    golden.check(FILE, name, OUTPUTS[name])


def test_the_file_holds_these_and_no_others():
    assert json.loads(FILE.read_text()).keys() == OUTPUTS.keys()


def test_a_changed_loss_is_noticed(monkeypatch):
    monkeypatch.setattr("unsay.methods.npo.logsigmoid", lambda x: 1.01 * x)
    with pytest.raises(AssertionError, match="outputs of 'npo' changed: raise its VERSION"):
        golden.check(FILE, "npo", OUTPUTS["npo"])


def test_every_term_of_every_method_is_looked_at():
    """Whatever a weight switches on has a gradient, so that no term is left out of the hashes."""
    for name in OUTPUTS:
        _, (_, switched_on) = golden_methods.losses(name)
        assert all(any(gradient) for gradient in switched_on["gradients"].values())
        assert len(switched_on["terms"]) >= len(golden_methods.losses(name)[1][0]["terms"])
