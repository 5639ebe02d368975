"""Curation: what is measured of documents, the rules over it, and the corpus that they leave."""
