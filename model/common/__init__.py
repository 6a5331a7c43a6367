"""What every command uses: what a directory is, progress, missing packages, closest names."""
