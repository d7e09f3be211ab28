"""Sliding windows and predictions back on the input's grid."""
