"""What users of other tools complained about in public, provoked here through the command line."""
