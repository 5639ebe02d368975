"""What distillation needs beside its stage: its settings, what is learnt from, the teacher's distributions on disk."""
