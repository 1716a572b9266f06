#!/usr/bin/env python3
"""Writes tests/golden/foreign.json: state dicts as nn.MultiheadAttention, GPT-2 and Llama have them, an input, and what
PyTorch makes of it. The two models are written here after their papers and the names of their published weights.

A case: {"name", "options", "bytes" of the .pt file, "input", "output"}, or "refused" with a part of the sentence.
"""
import io
import json
import math
import pathlib
import re

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, CONTEXT, D, HEADS, LAYERS = 7, 5, 8, 4, 2


class Conv1D(nn.Module):
    """GPT-2's linear layer: its matrix is [in, out]."""
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.3)
        self.bias = nn.Parameter(torch.randn(outputs) * 0.1)

    def forward(self, x):
        return x @ self.weight + self.bias


def attend(q, k, v):
    """[B, heads, T, d_k], causal; K and V may have fewer heads."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    T = q.shape[2]
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~torch.ones(T, T).tril().bool(), -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Gpt2(nn.Module):
    def __init__(self, layer=Conv1D):
        super().__init__()
        block = lambda: nn.ModuleDict({
            "ln_1": nn.LayerNorm(D), "attn": nn.ModuleDict({"c_attn": layer(D, 3 * D), "c_proj": layer(D, D)}),
            "ln_2": nn.LayerNorm(D), "mlp": nn.ModuleDict({"c_fc": layer(D, 4 * D), "c_proj": layer(4 * D, D)})})
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(VOCABULARY, D), "wpe": nn.Embedding(CONTEXT, D),
                                          "h": nn.ModuleList(block() for _ in range(LAYERS)), "ln_f": nn.LayerNorm(D)})
        self.lm_head = nn.Linear(D, VOCABULARY, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        for name, p in self.named_parameters():
            if "ln_" in name:
                nn.init.normal_(p, 1.0 if "weight" in name else 0.0, 0.2)

    def forward(self, tokens):
        t = self.transformer
        x = t["wte"](tokens) + t["wpe"](torch.arange(tokens.shape[1]))
        for b in t["h"]:
            q, k, v = (split(y, HEADS) for y in b["attn"]["c_attn"](b["ln_1"](x)).chunk(3, -1))
            x = x + b["attn"]["c_proj"](attend(q, k, v))
            x = x + b["mlp"]["c_proj"](F.gelu(b["mlp"]["c_fc"](b["ln_2"](x)), approximate="tanh"))
        return self.lm_head(t["ln_f"](x))


class RmsNorm(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(1 + 0.2 * torch.randn(D)), eps

    def forward(self, x):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight


class Llama(nn.Module):
    def __init__(self, kv_heads, base, eps, bias=False, hidden=12):
        super().__init__()
        self.kv_heads, self.base = kv_heads, base
        line = lambda i, o, bias=False: nn.Linear(i, o, bias=bias)
        kv = D // HEADS * kv_heads
        block = lambda: nn.ModuleDict({
            "input_layernorm": RmsNorm(eps), "post_attention_layernorm": RmsNorm(eps),
            "self_attn": nn.ModuleDict({"q_proj": line(D, D, bias), "k_proj": line(D, kv, bias),
                                        "v_proj": line(D, kv, bias), "o_proj": line(D, D)}),
            "mlp": nn.ModuleDict({"gate_proj": line(D, hidden), "up_proj": line(D, hidden), "down_proj": line(hidden, D)})})
        self.model = nn.ModuleDict({"embed_tokens": nn.Embedding(VOCABULARY, D),
                                    "layers": nn.ModuleList(block() for _ in range(LAYERS)), "norm": RmsNorm(eps)})
        self.lm_head = line(D, VOCABULARY)

    def rotated(self, x):
        width = x.shape[-1]
        angle = torch.arange(x.shape[2])[:, None] / self.base ** (torch.arange(0, width, 2) / width)
        c, s = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
        a, b = x.chunk(2, -1)
        return x * c + torch.cat((-b, a), -1) * s

    def forward(self, tokens):
        m = self.model
        x = m["embed_tokens"](tokens)
        for b in m["layers"]:
            a, y = b["self_attn"], b["input_layernorm"](x)
            q, k = self.rotated(split(a["q_proj"](y), HEADS)), self.rotated(split(a["k_proj"](y), self.kv_heads))
            x = x + a["o_proj"](attend(q, k, split(a["v_proj"](y), self.kv_heads)))
            y = b["post_attention_layernorm"](x)
            x = x + b["mlp"]["down_proj"](F.silu(b["mlp"]["gate_proj"](y)) * b["mlp"]["up_proj"](y))
        return self.lm_head(m["norm"](x))


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue().hex()


def numbers(x):
    return {"shape": list(x.shape), "values": [float(f"{v:.9g}") for v in x.detach().double().flatten().tolist()]}


def main():
    torch.manual_seed(0)
    cases = []
    case = lambda name, options, state, x, y: cases.append(
        {"name": name, "options": options, "bytes": saved(state),
         "input": numbers(x) | ({} if x.is_floating_point() else {"dtype": "int64", "values": x.flatten().tolist()}),
         "output": numbers(y)})
    refused = lambda name, options, state, sentence: cases.append(
        {"name": name, "options": options, "bytes": saved(state), "refused": sentence})
    tokens = torch.randint(VOCABULARY, (2, CONTEXT))
    with torch.no_grad():
        for bias in (True, False):
            layer = nn.MultiheadAttention(D, HEADS, bias=bias, batch_first=True)
            x = torch.randn(2, 3, D)
            if bias:
                nn.init.normal_(layer.in_proj_bias)
            case(f"nn.MultiheadAttention, bias {bias}", {"heads": HEADS}, layer.state_dict(), x, layer(x, x, x)[0])
        state = {f"layers.{i}.self_attn.{name}": p for i in range(2) for name, p in layer.state_dict().items()}
        case("nn.MultiheadAttention in a model", {"heads": HEADS, "prefix": "layers.1."}, state, x, layer(x, x, x)[0])
        q, k, v = layer.state_dict()["in_proj_weight"].chunk(3)
        separate = {"q_proj_weight": q, "k_proj_weight": k, "v_proj_weight": v,
                    "out_proj.weight": layer.state_dict()["out_proj.weight"]}
        case("nn.MultiheadAttention, separate", {"heads": HEADS}, separate, x, layer(x, x, x)[0])
        ours = {f"W_{name[0]}.weight": x for name, x in separate.items()}
        case("MultiHeadAttention, our own names", {"heads": HEADS}, ours, x, layer(x, x, x)[0])
        refused("nn.MultiheadAttention, several", {"heads": HEADS}, state,
                "there are several layers, and the prefix must say which: layers.0.self_attn., layers.1.self_attn.")
        refused("nn.MultiheadAttention, bias_k", {"heads": HEADS},
                nn.MultiheadAttention(D, HEADS, add_bias_kv=True).state_dict(), "bias_k, bias_v")
        refused("nn.MultiheadAttention, heads", {"heads": 3}, separate, "3 heads do not divide")
        refused("no heads", {}, separate, "heads must be given")

        gpt2 = Gpt2()
        state = gpt2.state_dict()
        masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, CONTEXT, CONTEXT).tril() for i in range(LAYERS)}
        case("GPT-2", {"heads": HEADS}, state | masks, tokens, gpt2(tokens))
        bare = {name.removeprefix("transformer."): x for name, x in state.items() if name != "lm_head.weight"}
        case("GPT-2 without prefix and head", {"heads": HEADS}, {"step": 3, "model": bare}, tokens, gpt2(tokens))
        linear = Gpt2(lambda i, o: nn.Linear(i, o))
        case("GPT-2 of linear layers", {"heads": HEADS}, linear.state_dict(), tokens, linear(tokens))
        less = {name: x for name, x in bare.items() if not name.startswith("h.0.ln_2") and name != "ln_f.bias"}
        refused("GPT-2 with something missing", {"heads": HEADS}, less,
                "blocks.0.norm2.weight is missing, blocks.0.norm2.bias is missing")
        refused("GPT-2 with something else", {"heads": HEADS}, bare | {"h.0.attn.alpha": torch.ones(1)}, "h.0.attn.alpha")
        refused("GPT-2 with a hole", {"heads": HEADS}, bare | {"h.7.ln_1.bias": torch.ones(D)}, "only 3 blocks")

        for kv, base, eps, bias in ((HEADS, 10000.0, 1e-6, False), (2, 500.0, 1e-3, False), (1, 10000.0, 1e-6, True)):
            llama = Llama(kv, base, eps, bias)
            case(f"Llama, {kv} heads of keys, bias {bias}", {"heads": HEADS, "rotary_base": base, "norm_eps": eps},
                 llama.state_dict(), tokens, llama(tokens))
        phi = {name: x for name, x in llama.state_dict().items() if not re.search(r"\.([qkv]|gate|up)_proj", name)}
        for i in range(LAYERS):
            parts = lambda where, *names: torch.cat(
                [llama.state_dict()[f"model.layers.{i}.{where}.{name}"] for name in names])
            for end in ("weight", "bias"):
                phi[f"model.layers.{i}.self_attn.qkv_proj.{end}"] = parts(
                    "self_attn", *(f"{x}_proj.{end}" for x in "qkv"))
            phi[f"model.layers.{i}.mlp.gate_up_proj.weight"] = parts("mlp", "gate_proj.weight", "up_proj.weight")
        case("Phi-3: queries, keys and values in one, gate and up in one",
             {"heads": HEADS, "rotary_base": base, "norm_eps": eps}, phi, tokens, llama(tokens))
    text = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    (pathlib.Path(__file__).parent / "foreign.json").write_text("[\n" + text + "\n]\n")


if __name__ == "__main__":
    main()
