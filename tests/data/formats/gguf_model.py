"""Writes a transformers model as a GGUF file, in fp32 as llama.cpp's convert_hf_to_gguf.py does or with
random blocks of a quantised type in place of its matrices."""

import math

import gguf
import numpy as np

ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA,
                 "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}


# Where a block of a type holds its fp16 scales and minimum.
SCALE_BYTES = {"Q8_0": slice(0, 2), "Q4_0": slice(0, 2), "Q4_1": slice(0, 4), "Q5_0": slice(0, 2),
               "Q5_1": slice(0, 4), "Q2_K": slice(80, 84), "Q3_K": slice(108, 110),
               "Q4_K": slice(0, 4), "Q5_K": slice(0, 4), "Q6_K": slice(208, 210)}


def random_blocks(rng, qtype, rows, cols, make_scales):
    """[rows, bytes of a row] of random codes; make_scales(count) gives the fp16 bits."""
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    data = rng.integers(0, 256, (rows * cols // block, size), dtype=np.uint8)
    place = data[:, SCALE_BYTES[qtype.name]]
    place[:] = make_scales(place.size // 2).astype(np.uint16).view(np.uint8).reshape(place.shape)
    return data.reshape(rows, -1)


def random_matrix(rng, qtype, values):
    """Random blocks that decode to a matrix of the shape and the root mean square of `values`."""
    def draw(factor):
        return random_blocks(rng, qtype, *values.shape, lambda count: (
            rng.uniform(0.5, 1, count) * factor).astype(np.float16).view(np.uint16))
    unit = np.sqrt(np.square(gguf.dequantize(draw(1), qtype), dtype=np.float64).mean())
    return draw(np.sqrt(np.square(values, dtype=np.float64).mean()) / unit)


def permute(weights, heads):
    """LlamaModel.permute: the halves of each head of q and k are interleaved."""
    return (weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
            .swapaxes(1, 2).reshape(weights.shape))


def llama3_factors(rope, head_dim):
    """What frequencies are divided by: LlamaModel.generate_extra_tensors."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    factors = []
    for i in range(0, head_dim, 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        if wave < context / high:
            factors.append(1.0)
        elif wave > context / low:
            factors.append(rope["factor"])
        else:
            smooth = (context / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write_rope(writer, rope, head_dim):
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))
    elif kind != "default":
        raise ValueError(f"GGUF has no rotary embeddings of type {kind}")


def write_gguf_model(model, path, quantized=None):
    """`quantized`: the name of the type of the random blocks."""
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    interleaved = architecture == gguf.MODEL_ARCH.LLAMA
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_name("tiny")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if interleaved:
        writer.add_rope_dimension_count(head_dim)
    write_rope(writer, config.rope_parameters, head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    if config.pad_token_id is not None:
        writer.add_pad_token_id(config.pad_token_id)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    rng = np.random.default_rng(9)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        if interleaved and "q_proj" in name:
            values = permute(values, config.num_attention_heads)
        if interleaved and "k_proj" in name:
            values = permute(values, config.num_key_value_heads)
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if quantized is not None and values.ndim == 2:
            qtype = gguf.GGMLQuantizationType[quantized]
            writer.add_tensor(stored, random_matrix(rng, qtype, values), raw_dtype=qtype)
        else:
            writer.add_tensor(stored, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
