"""The sub-commands of `kws`: a module each."""
