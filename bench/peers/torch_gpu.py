#!/usr/bin/env python3
"""Times full-parameter fine-tuning steps of LLaMA-2-7B's shape with PyTorch on one GPU: bf16 weights, gradients
and Lion momentum, gradient checkpointing, torch.compile for each layer, attention by PyTorch's own kernels.
Random weights and tokens. Prints one JSON object: the median of the steps after the first two, and the peak
of the device's memory as the driver counts it.

  bench/peers/torch_gpu.py --batch 4 --seq 2048 --steps 6
"""

import argparse
import json
import statistics
import time

import torch
import transformers
from torch.utils.checkpoint import checkpoint

BETA1, BETA2, LEARNING_RATE, CLIP_NORM = 0.9, 0.99, 1e-5, 1.0
HEAD_TOKENS = 2048  # whose logits exist at once


def make_model(layers):
    config = transformers.LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=layers,
        num_attention_heads=32, num_key_value_heads=32, max_position_embeddings=4096,
        rms_norm_eps=1e-5, use_cache=False, attn_implementation="sdpa")
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = transformers.LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    for layer in model.model.layers:
        layer.compile()
    return model.train()


def hidden_states(model, tokens):
    base = model.model
    x = base.embed_tokens(tokens)
    positions = torch.arange(tokens.shape[1], device=x.device)[None]
    rotary = base.rotary_emb(x, positions)
    for layer in base.layers:
        def run(x, layer=layer):
            y = layer(x, position_embeddings=rotary)
            return y[0] if isinstance(y, tuple) else y
        x = checkpoint(run, x, use_reentrant=False)
    return base.norm(x)


def head_loss(head, x, targets):
    return torch.nn.functional.cross_entropy(head(x).float(), targets, reduction="sum")


def loss_of(model, tokens):
    x = hidden_states(model, tokens)[:, :-1].reshape(-1, 4096)
    targets = tokens[:, 1:].reshape(-1)
    parts = [checkpoint(head_loss, model.lm_head, x[i:i + HEAD_TOKENS], targets[i:i + HEAD_TOKENS],
                        use_reentrant=False) for i in range(0, len(x), HEAD_TOKENS)]
    return sum(parts) / len(targets)


@torch.no_grad()
def lion(parameters, momenta):
    for parameter, momentum in zip(parameters, momenta):
        update = torch.lerp(momentum, parameter.grad, 1 - BETA1).sign_()
        parameter.add_(update, alpha=-LEARNING_RATE)
        momentum.lerp_(parameter.grad, 1 - BETA2)
        parameter.grad = None


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--layers", type=int, default=32)
    arguments = parser.parse_args()
    model = make_model(arguments.layers)
    parameters = list(model.parameters())
    momenta = [torch.zeros_like(parameter) for parameter in parameters]
    seconds, peak = [], 0
    for _ in range(arguments.steps):
        tokens = torch.randint(32000, (arguments.batch, arguments.seq), device="cuda")
        torch.cuda.synchronize()
        begin = time.time()
        loss_of(model, tokens).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        lion(parameters, momenta)
        torch.cuda.synchronize()
        seconds.append(time.time() - begin)
        free, total = torch.cuda.mem_get_info()
        peak = max(peak, total - free)
    median = statistics.median(seconds[2:])
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__,
                      "batch": arguments.batch, "seq": arguments.seq, "layers": arguments.layers,
                      "seconds_per_step": median,
                      "tokens_per_second": arguments.batch * arguments.seq / median,
                      "peak_device_bytes": peak}))


if __name__ == "__main__":
    main()
