"""Few-shot evaluation as in the paper: tasks, prompts, answers, scores."""
