"""The mathematics on tensors: losses, schedules, teacher update, metric functions."""
