"""The configuration: every key, the config file, and the original's JSON translated."""
