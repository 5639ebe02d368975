"""What the stages that draw replies share."""
