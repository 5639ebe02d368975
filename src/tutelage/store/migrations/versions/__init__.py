"""The revisions, one file each; a published one is never changed."""
