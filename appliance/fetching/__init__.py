"""What is fetched from elsewhere into a volume: repositories and buckets, by a container that does nothing else."""
