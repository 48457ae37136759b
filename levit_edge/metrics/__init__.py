"""From logits and times to figures."""
