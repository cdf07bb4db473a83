"""Makes the golden files beside it with the reference packages (gguf, transformers).

quantized.gguf   one tensor of each supported type that gguf decodes (all but Q8_K), random blocks, and
                 metadata of every type
quantized.f32    what gguf.dequantize makes of them, tensors in ascending order of name
tiny/            a two-layer LlamaForCausalLM as transformers saves it, bf16
tiny-sharded/    the same in several files with an index
tiny.gguf        the same in fp32, laid out as llama.cpp's convert_hf_to_gguf.py does
tiny-FAMILY      one layer of a family that has tensors or rotary embeddings of its own, and
tiny-FAMILY.gguf the same in fp32

Usage: python make_golden.py (needs gguf, transformers, accelerate, torch)
"""

import pathlib
import shutil

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from gguf_model import SCALE_BYTES, random_blocks, write_gguf_model

HERE = pathlib.Path(__file__).resolve().parent
ROWS, COLS = 3, 64
BELOW_TWO = 0xBFFF  # the bits of finite halves below 2: blocks with such scales are finite


def random_halves(rng, count):
    """Finite fp16 values over the whole range, subnormals and both zeros included."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] &= 0x83FF
    bits[:2] = [0x8000, 0x0001]
    return bits


def golden_blocks(rng, name):
    """A tensor of random blocks of the type `name`."""
    qtype = gguf.GGMLQuantizationType[name]
    cols = max(COLS, gguf.GGML_QUANT_SIZES[qtype][0])
    return qtype, random_blocks(rng, qtype, ROWS, cols,
                                lambda count: random_halves(rng, count) & BELOW_TWO)


def make_quantized():
    rng = np.random.default_rng(7)
    types = gguf.GGMLQuantizationType
    wide = rng.standard_normal((ROWS, COLS)).astype(np.float32)
    tensors = {
        "a.f32": (types.F32, wide),
        "b.f16": (types.F16, random_halves(rng, ROWS * COLS).view(np.float16).reshape(ROWS, COLS)),
        "c.bf16": (types.BF16, gguf.quantize(wide, types.BF16)),
    }
    for letter, name in zip("defghijklm", SCALE_BYTES):
        tensors[f"{letter}.{name.lower()}"] = golden_blocks(rng, name)
    writer = gguf.GGUFWriter(HERE / "quantized.gguf", "test")
    writer.add_uint8("value.uint8", 255)
    writer.add_int8("value.int8", -128)
    writer.add_uint16("value.uint16", 65535)
    writer.add_int16("value.int16", -32768)
    writer.add_uint32("value.uint32", 4294967295)
    writer.add_int32("value.int32", -2147483648)
    writer.add_uint64("value.uint64", 2**64 - 1)
    writer.add_int64("value.int64", -(2**63))
    writer.add_float32("value.float32", 0.5)
    writer.add_float64("value.float64", -0.1)
    writer.add_bool("value.bool", True)
    writer.add_string("value.string", "a\u00e9")
    writer.add_array("array.int32", [1, -2, 3])
    writer.add_array("array.float32", [0.5, -1.5])
    writer.add_array("array.bool", [True, False])
    writer.add_array("array.string", ["", "b", "cc"])
    writer.add_array("array.nested", [[1, 2], [3]])
    expected = []
    for name, (qtype, data) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=qtype)
        raw = data if qtype == types.F32 else data.view(np.uint8)
        expected.append(gguf.dequantize(raw, qtype).astype(np.float32).ravel())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    values = np.concatenate(expected)
    assert np.isfinite(values).all()
    values.tofile(HERE / "quantized.f32")


def tiny_config():
    return LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 50000.0},
        bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
        dtype="bfloat16")


def randomise(model):
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(torch.randn(tensor.shape) * 0.1 + (1 if "norm" in name else 0))


def make_tiny():
    torch.manual_seed(7)
    model = LlamaForCausalLM(tiny_config()).to(torch.bfloat16)
    randomise(model)
    for folder, shard in (("tiny", "1GB"), ("tiny-sharded", "8KB")):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        model.save_pretrained(HERE / folder, max_shard_size=shard)
    write_gguf_model(model, HERE / "tiny.gguf")
    # The reference must read back what was written, the row order of q and k included.
    for loaded in (
            AutoModelForCausalLM.from_pretrained(HERE / "tiny-sharded"),
            AutoModelForCausalLM.from_pretrained(HERE, gguf_file="tiny.gguf", dtype="float32")):
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name].float(), tensor.float()), name


FAMILIES = {
    "llama3": ("llama", {
        "attention_bias": True, "mlp_bias": True, "head_dim": 32, "rope_parameters": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_theta": 500000.0}}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True, "rope_parameters": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        "rope_theta": 1e6}}),
    "qwen3": ("qwen3", {"tie_word_embeddings": False, "head_dim": 16, "rope_parameters": {
        "rope_type": "default", "rope_theta": 1e6}}),
}


def make_families():
    for name, (kind, settings) in FAMILIES.items():
        torch.manual_seed(8)
        config = AutoConfig.for_model(
            kind, vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
            rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, dtype="bfloat16", **settings)
        model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
        randomise(model)
        folder = HERE / f"tiny-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink()
        write_gguf_model(model, HERE / f"tiny-{name}.gguf")
        # transformers leaves llama's biases interleaved and takes Qwen3's head dimension for 128.
        if kind == "qwen2":
            loaded = AutoModelForCausalLM.from_pretrained(HERE, gguf_file=f"tiny-{name}.gguf",
                                                          dtype="float32")
            for tensor, values in model.state_dict().items():
                assert torch.equal(loaded.state_dict()[tensor].float(), values.float()), tensor


if __name__ == "__main__":
    make_quantized()
    make_tiny()
    make_families()
