"""The contract: what a deployed model must keep, and whether this evidence shows that it does."""
