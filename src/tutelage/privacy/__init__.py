"""What is private in a text or a reply, how much of it a model keeps, and how it is made to forget."""
