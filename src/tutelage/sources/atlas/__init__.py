"""Atlas, the embedded default source: a small labelled web written from fact tables."""
