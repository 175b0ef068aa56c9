"""What a checkpoint file is made of: records, and what they say."""
