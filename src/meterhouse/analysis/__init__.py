"""What is asked about the numbers: what is held, where one comes from, do they agree."""
