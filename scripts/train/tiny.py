"""Sizes of the tiny voice of the golden tensors, for golden.py, clone/golden.py and tests/models/tiny_acoustic.h."""

# Widths of whole vector registers, as real voices have them: then every row of a chunk is rounded alike.
CONFIG = {
    "acoustic": {"codes": 16, "code_dim": 8, "phonemes": 40, "hidden": 32, "filter": 64, "heads": 2, "layers_ssl": 1,
                 "layers_text": 2, "layers_post": 2, "attention_window": [5, 1], "mrte_dim": 32, "mrte_heads": 4,
                 "ref_bins": 100, "style_dim": 16, "feature_dim": 32, "wns_layers": 2,
                 "estimator": {"type": "causal_convnext", "dim": 32, "ff": 64, "layers": 3, "kernel": 7}},
    "vocoder": {"type": "source_filter_istft", "dim": 32, "ff": 64, "layers": 2, "f0_dim": 32, "f0_ff": 64,
                "f0_layers": 2},
}
