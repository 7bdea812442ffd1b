"""Fetching a published data set: licence first, then archives that are verified, then unpacking that cannot escape."""
