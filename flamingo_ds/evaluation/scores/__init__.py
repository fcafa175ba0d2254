"""Official scores of few-shot tasks."""
