"""The version of this program, without anything that takes long to load."""

VERSION = "0.1.0"
