"""Everything that can be said of a table of cases before training: what cannot be used, what is odd, and how it looks."""
