"""The proof that examples in a prompt teach: real digits under names that are invented anew in each prompt."""
