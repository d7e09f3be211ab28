"""An image release of the Osteoarthritis Initiative and its clinical tables, turned into CSV files."""
