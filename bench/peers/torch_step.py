#!/usr/bin/env python3
"""Times full-parameter fine-tuning steps with PyTorch: SmolLM2-135M's shape, Lion, sequences of 512.

One step is forward, backward, clipping of the global norm and a Lion update of every parameter with
foreach kernels. Prints one JSON object with the tokens per second of each step after the first.
"""

import argparse
import json
import resource
import time

import torch
import transformers

BETA1, BETA2, LEARNING_RATE, CLIP_NORM = 0.9, 0.99, 2e-5, 1.0


def make_model(dtype):
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        use_cache=False,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).to(dtype).train()


@torch.no_grad()
def lion(parameters, momenta):
    gradients = [parameter.grad for parameter in parameters]
    update = torch._foreach_mul(momenta, BETA1)
    torch._foreach_add_(update, gradients, alpha=1 - BETA1)
    torch._foreach_sign_(update)
    torch._foreach_add_(parameters, update, alpha=-LEARNING_RATE)
    torch._foreach_mul_(momenta, BETA2)
    torch._foreach_add_(momenta, gradients, alpha=1 - BETA2)


def step(model, parameters, momenta, tokens):
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM, foreach=True)
    lion(parameters, momenta)
    for parameter in parameters:
        parameter.grad = None
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch", type=int, default=4, help="sequences a step (default 4)")
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not")
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's default")
    arguments = parser.parse_args()
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)

    model = make_model(getattr(torch, arguments.dtype))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    momenta = [torch.zeros_like(parameter) for parameter in parameters]
    shape = (arguments.batch, arguments.sequence)
    speeds = []
    for index in range(arguments.steps + 1):
        tokens = torch.randint(0, model.config.vocab_size, shape)
        start = time.perf_counter()
        step(model, parameters, momenta, tokens)
        if index > 0:
            speeds.append(tokens.numel() / (time.perf_counter() - start))
    print(json.dumps({
        "tokens_per_second": speeds,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }))


if __name__ == "__main__":
    main()
