"""Rounding of weights: formats by hand, what rounding undoes, tools that are missing or fail."""

import stat
import sys

import pytest
import torch

from unsay.errors import UserError
from unsay.robustness import quantise
from unsay.robustness.weights import changing
from unsay.scoring.robustness import Subject

SUITES = ("advbench", "advbench-typographic", "advbench-figstep")
NAMES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip


def int8(weights):
    return dict(quantise.FORMATS["int8"](weights))


def int4(weights):
    return dict(quantise.FORMATS["int4"](weights))


def weights_of_llama(blocks=2, width=64):
    torch.manual_seed(0)
    return {
        f"model.language_model.layers.{block}.{name}": torch.randn(width, width)
        for block in range(blocks)
        for name in NAMES
    }


def relative(rounded, weight):
    return float((rounded - weight).norm() / weight.norm())


def test_eight_bits_by_hand():
    """Each 32 weights are whole multiples of their largest ÷ 127."""
    weight = torch.zeros(1, 64)
    weight[0, :4] = torch.tensor([127.0, 1.4, -63.6, 0.4])
    weight[0, 32:34] = torch.tensor([1.27, 0.014])
    rounded = int8({"w": weight})["w"]
    assert rounded[0, :4].tolist() == [127.0, 1.0, -64.0, 0.0]
    assert rounded[0, 32:34].tolist() == pytest.approx([1.27, 0.01], rel=1e-3)  # the scale has 16 bits


def test_four_bits_by_hand():
    """Each 32 weights are whole multiples of their largest ÷ 8, from -8 to 7; the largest gets -8, its sign kept."""
    weight = torch.zeros(1, 32)
    weight[0, :5] = torch.tensor([8.0, 7.9, 2.6, -3.4, 0.4])
    rounded = int4({"w": weight})["w"]
    assert rounded[0, :5].tolist() == [8.0, 8.0, 3.0, -3.0, 0.0]


def test_rows_that_are_no_multiple_of_a_group_are_filled_up():
    weight = torch.arange(-20.0, 20.0).reshape(1, 40).repeat(3, 1)
    rounded = int8({"w": weight})["w"]
    assert rounded.shape == weight.shape
    assert relative(rounded, weight) < 0.01


def test_normal_float_has_sixteen_values_and_a_scale_per_64_weights():
    pytest.importorskip("bitsandbytes")
    weight = torch.zeros(1, 128)
    weight[0, :4] = torch.tensor([1.0, -1.0, 0.73, 0.08])
    weight[0, 64:66] = torch.tensor([2.0, 1.46])
    rounded = dict(quantise.nf4({"w": weight}))["w"]
    # The two values are those of QLoRA's table (arXiv 2305.14314, appendix E).
    assert rounded[0, :4].tolist() == pytest.approx([1.0, -1.0, 0.7229568, 0.0795803], abs=1e-6)
    assert rounded[0, 64:66].tolist() == pytest.approx([2.0, 2 * 0.7229568], abs=1e-6)


@pytest.mark.parametrize(("name", "error"), [("int8", (0.003, 0.008)), ("int4", (0.07, 0.1)), ("nf4", (0.08, 0.1))])
def test_round_trip_error_of_normal_weights(name, error):
    if name == "nf4":
        pytest.importorskip("bitsandbytes")
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    assert error[0] < relative(dict(quantise.FORMATS[name]({"w": weight}))["w"], weight) < error[1]


def test_rounding_undoes_a_small_change_and_leaves_a_large_one():
    """The planted weakness: what unlearning changed is smaller than half a step of the format. And the strength."""
    weight = torch.randint(-7, 8, (4, 32)).float()
    weight[:, 0] = -8.0  # the scale of each group is 1
    push = torch.zeros_like(weight)
    push[:, 1:] = 0.3
    assert torch.equal(int4({"w": weight + push})["w"], weight)
    assert not torch.equal(int8({"w": weight + push})["w"].round(decimals=1), weight)
    assert not torch.equal(int4({"w": weight + 2 * push})["w"], weight)


def test_weights_come_back_bit_by_bit(any_vlm):
    before = {name: value.clone() for name, value in any_vlm.base.state_dict().items()}
    with changing(any_vlm) as linears:
        for name, weight in int4({name: linear.weight for name, linear in linears.items()}).items():
            linears[name].weight.data.copy_(weight)
        changed = {n for n, value in any_vlm.base.state_dict().items() if not torch.equal(value, before[n])}
        assert changed == {f"{name}.weight" for name in linears}
    assert all(torch.equal(value, before[name]) for name, value in any_vlm.base.state_dict().items())


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts a stand-in for llama.cpp's tool on the path; it runs the given lines of Python."""

    def put(*lines):
        path = tmp_path / "bin" / quantise.LLAMA_QUANTIZE
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([f"#!{sys.executable}", "import sys", *lines]))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(path.parent), prepend=":")

    return put


EIGHT_BITS = (
    "import gguf",
    "from gguf.quants import quantize",
    "given = gguf.GGUFReader(sys.argv[1])",
    "writer = gguf.GGUFWriter(sys.argv[2], 'llama')",
    "kind = gguf.GGMLQuantizationType.Q8_0",
    "for tensor in given.tensors:",
    "    writer.add_tensor(tensor.name, quantize(tensor.data, kind), raw_dtype=kind)",
    "writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()",
    "assert sys.argv[3] == 'Q4_K_M'",
)
"""A tool that rounds to 8 bits, which `gguf` can do without llama.cpp."""


def test_the_tool_of_llama_cpp_gets_the_linears_under_its_names_and_they_are_read_back(tool):
    tool(*EIGHT_BITS)
    weights = weights_of_llama()
    rounded, direct = dict(quantise.q4_k_m(weights)), int8(weights)
    assert rounded.keys() == weights.keys()
    for name in weights:
        assert torch.equal(rounded[name], direct[name]), name


def test_a_tool_that_fails_is_an_error_in_plain_words(tool):
    tool("print('unknown model architecture', file=sys.stderr)", "sys.exit(1)")
    with pytest.raises(UserError, match=r"llama-quantize failed \(unknown model architecture\)"):
        dict(quantise.q4_k_m(weights_of_llama()))


def test_linears_of_another_layout_are_named():
    with pytest.raises(UserError, match=r"other names than llama's, as .*\.strange"):
        dict(quantise.q4_k_m({"model.layers.0.strange": torch.zeros(2, 2)}))
    fused = {name: weight for name, weight in weights_of_llama().items() if "q_proj" not in name}
    with pytest.raises(UserError, match=r"no linear that llama's layout calls blk\.0\.attn_q$"):
        dict(quantise.q4_k_m(fused))


def test_a_format_that_cannot_hold_the_model_is_noted_and_the_others_are_measured(attack, monkeypatch):
    def cannot(_weights):
        raise quantise.UnsupportedError("odd: has no place for these weights")

    monkeypatch.setattr(quantise, "FORMATS", {"odd": cannot, "int8": quantise.FORMATS["int8"]})
    result = attack(quantise.CHECK, quick=False)
    assert result.notes == ("not tried: odd: has no place for these weights",)
    assert {row.setting["weights"] for row in result.outcomes} == {"merged", "int8"}
    assert {row.name for row in result.numbers} == {"int8"}


def test_what_is_missing_is_noted_and_the_others_are_measured(attack, monkeypatch):
    monkeypatch.setattr(quantise.shutil, "which", lambda _name: None)
    monkeypatch.setattr(quantise, "find_spec", lambda _name: None)
    result = attack(quantise.CHECK, quick=False)
    assert len(result.notes) == 2
    assert "unsay[qlora]" in result.notes[0]
    assert quantise.LLAMA_QUANTIZE in result.notes[1]
    assert {row.setting["weights"] for row in result.outcomes} == {"merged", "int8", "int4"}
    for subject in Subject:
        for suite in SUITES:
            row = result.outcome(subject, suite, {"weights": "int4"})
            assert row.baseline == {"weights": "merged"}
            assert row.change.n == 2
            assert result.number("int4", subject, suite).n == 2


def test_the_short_form_asks_in_four_bits_and_in_pictures_where_it_matters(attack, monkeypatch):
    monkeypatch.setattr(quantise, "find_spec", lambda _name: None)
    result = attack(quantise.CHECK)
    asked = {(row.subject, row.setting["weights"], row.counts.suite) for row in result.outcomes}
    both = {(subject, name, "advbench") for subject in Subject for name in ("merged", "int4")}
    assert asked == both | {(Subject.UNLEARNED, name, suite) for name in ("merged", "int4") for suite in SUITES}
    assert result.number("int4", Subject.UNLEARNED, "advbench").from_reference is not None
    assert result.number("int4", Subject.UNLEARNED, "advbench-figstep").from_reference is None


def test_merged_weights_answer_as_the_adapter_does(attack, monkeypatch):
    """Rounding is compared with them, so they must not differ from what was unlearned."""
    monkeypatch.setattr(quantise, "FORMATS", {})
    result = attack(quantise.CHECK)
    assert all(row.change.n == 2 and row.change.difference == 0 for row in result.outcomes)
