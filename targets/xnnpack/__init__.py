"""Android: ExecuTorch with the XNNPACK delegate."""
