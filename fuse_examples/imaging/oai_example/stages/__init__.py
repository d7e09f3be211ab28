"""One function a stage: a frozen configuration in, a finished run folder out."""
