"""From YAML files to typed settings."""
