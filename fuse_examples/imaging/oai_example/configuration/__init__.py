"""YAML text and key=value words to one frozen, typed object per stage. Imports no torch."""
