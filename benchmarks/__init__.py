"""Side-by-side runs of levit-edge against the recipes that an engineer would otherwise use; no part of the product."""
