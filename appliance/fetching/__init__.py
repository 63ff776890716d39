"""What is fetched from elsewhere into a folder here, for steps of workflows and for deployments."""
