"""The network in Hugging Face terms, and what a model folder holds. Flat: `trust_remote_code` copies modules of it."""
