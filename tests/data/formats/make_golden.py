"""Makes the golden files beside it with the reference packages (gguf, transformers).

quantized.gguf   one tensor of each supported type, random blocks, and metadata of every type
quantized.f32    what gguf.dequantize makes of them, tensors in ascending order of name
tiny/            a two-layer LlamaForCausalLM as transformers saves it, bf16
tiny-sharded/    the same in several files with an index
tiny.gguf        the same in fp32, laid out as llama.cpp's convert_hf_to_gguf.py does

Usage: python make_golden.py (needs gguf, transformers, accelerate, torch)
"""

import pathlib
import shutil

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
ROWS, COLS = 3, 64


def random_halves(rng, count):
    """Finite fp16 values over the whole range, subnormals and both zeros included."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] &= 0x83FF
    bits[:2] = [0x8000, 0x0001]
    return bits


def random_blocks(rng, qtype, halves):
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    count = ROWS * COLS // block
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    scales = random_halves(rng, count * halves) & 0xBFFF  # below 2: every value is finite
    data[:, : 2 * halves] = scales.view(np.uint8).reshape(count, 2 * halves)
    return data.reshape(ROWS, -1)


def make_quantized():
    rng = np.random.default_rng(7)
    types = gguf.GGMLQuantizationType
    wide = rng.standard_normal((ROWS, COLS)).astype(np.float32)
    tensors = {
        "a.f32": (types.F32, wide),
        "b.f16": (types.F16, random_halves(rng, ROWS * COLS).view(np.float16).reshape(ROWS, COLS)),
        "c.bf16": (types.BF16, gguf.quantize(wide, types.BF16)),
        "d.q8_0": (types.Q8_0, random_blocks(rng, types.Q8_0, 1)),
        "e.q4_0": (types.Q4_0, random_blocks(rng, types.Q4_0, 1)),
        "f.q4_1": (types.Q4_1, random_blocks(rng, types.Q4_1, 2)),
    }
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


GGUF_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    fixed = {"model.embed_tokens.weight": "token_embd.weight",
             "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def permute(weights, heads):
    """LlamaModel.permute of convert_hf_to_gguf.py."""
    return (weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
            .swapaxes(1, 2).reshape(weights.shape))


def write_tiny_gguf(model, config):
    writer = gguf.GGUFWriter(HERE / "tiny.gguf", "llama")
    writer.add_name("tiny")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(50000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if "q_proj" in name:
            values = permute(values, config.num_attention_heads)
        if "k_proj" in name:
            values = permute(values, config.num_key_value_heads)
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_tiny():
    torch.manual_seed(7)
    config = tiny_config()
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(torch.randn(tensor.shape) * 0.1 + (1 if "norm" in name else 0))
    for folder, shard in (("tiny", "1GB"), ("tiny-sharded", "8KB")):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        model.save_pretrained(HERE / folder, max_shard_size=shard)
    write_tiny_gguf(model, config)
    # The reference must read back what was written, the row order of q and k included.
    for loaded in (
            AutoModelForCausalLM.from_pretrained(HERE / "tiny-sharded"),
            AutoModelForCausalLM.from_pretrained(HERE, gguf_file="tiny.gguf", dtype="float32")):
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name].float(), tensor.float()), name


if __name__ == "__main__":
    make_quantized()
    make_tiny()
