"""From a login node to a job of SLURM: one description, checked, rendered as one batch file, submitted. No torch."""
