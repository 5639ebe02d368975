"""What models are asked and how their answers become numbers with intervals."""
