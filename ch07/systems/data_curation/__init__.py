"""Data curation: quality flags, filters, near duplicates and the selection of diverse rows."""
