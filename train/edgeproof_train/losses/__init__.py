"""Losses, one file each: config and loss, registered under its kind."""
