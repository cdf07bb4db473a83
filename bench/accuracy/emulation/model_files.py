"""The GGUF file as fp32 matrices per kind, stacked over the layers, and outlier features planted."""

import numpy
import torch

PARTS = {"qkv": ("attn_q", "attn_k", "attn_v"), "o": ("attn_output",),
         "gate_up": ("ffn_gate", "ffn_up"), "down": ("ffn_down",)}


def _unpermute(matrix, heads):
    """GGUF stores rotary rows interleaved; here halves are paired."""
    rows, cols = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def load(path, length):
    """(config, matrices name -> [L, N, K], norms [2 * L + 1, D])."""
    import gguf
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.get_field(f"llama.{key}").contents()
    layers, heads = field("block_count"), field("attention.head_count")
    groups = field("attention.head_count_kv")
    hidden = field("embedding_length")
    config = {"layers": layers, "heads": heads, "kv_heads": groups, "hidden": hidden,
              "head_dim": hidden // heads, "rope_theta": field("rope.freq_base"),
              "epsilon": float(field("attention.layer_norm_rms_epsilon")), "length": length}
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(numpy.float32)
               for t in reader.tensors}
    matrices = {}
    for name, count in (("attn_q", heads), ("attn_k", groups)):
        for layer in range(layers):
            key = f"blk.{layer}.{name}.weight"
            tensors[key] = _unpermute(tensors[key], count)
    for kind, parts in PARTS.items():
        matrices[kind] = torch.from_numpy(numpy.stack([
            numpy.concatenate([tensors[f"blk.{layer}.{part}.weight"] for part in parts])
            for layer in range(layers)]))
    matrices["embedding"] = torch.from_numpy(tensors["token_embd.weight"])[None]
    norms = [tensors[f"blk.{layer}.{name}_norm.weight"] for layer in range(layers)
             for name in ("attn", "ffn")]
    norms = torch.from_numpy(numpy.stack(norms + [tensors["output_norm.weight"]]))
    return config, matrices, norms


def plant_outliers(matrices, norms, count=6, seed=0):
    """`count` gains of every block norm times 10 to 100 (log-uniform) and the columns they feed divided
    by as much: the same function, with outlier features as larger trained models have them."""
    matrices = {kind: values.clone() for kind, values in matrices.items()}
    norms = norms.clone()
    random = numpy.random.default_rng(seed)
    for index in range(norms.shape[0] - 1):
        layer, kind = index // 2, ("qkv", "gate_up")[index % 2]
        columns = torch.from_numpy(random.choice(norms.shape[1], count, replace=False))
        columns = columns.to(norms.device)
        factors = torch.tensor(10.0 ** random.uniform(1, 2, count), dtype=torch.float32,
                               device=norms.device)
        norms[index, columns] *= factors
        matrices[kind][layer][:, columns] /= factors
    return matrices, norms


def random_weights(matrices, norms, seed=0):
    """Normal with deviation 0.02, by 1 / sqrt(2 L) less where a matrix writes to the residual stream."""
    generator = torch.Generator(norms.device).manual_seed(seed)
    result = {}
    for kind, values in matrices.items():
        deviation = 0.02 / (2 * len(values)) ** 0.5 if kind in ("o", "down") else 0.02
        result[kind] = deviation * torch.randn(values.shape, generator=generator,
                                               device=values.device)
    return result, torch.ones_like(norms)
