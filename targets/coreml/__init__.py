"""iOS: Core ML."""
