"""LeViT (Graham et al. 2021, arXiv:2104.01136)."""
