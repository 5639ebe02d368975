"""The stages, one short file each; `STAGES` is the whole list."""
