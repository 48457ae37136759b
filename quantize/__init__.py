"""Post-training quantization: recipes, the roles of tensors, statistics, ranges, and the one quantizer."""
