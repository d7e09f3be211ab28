"""Tables of text: read whatever separates their cells, written whole, with paths relative to their own folder."""
