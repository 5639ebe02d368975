"""What the stages of constitutional AI share: settings, writers of text, chains of revisions, judges of pairs."""
