"""Where Q/DQ pairs go, by policy, and putting them there."""
