"""Entry scripts of fine-tuning and testing."""
