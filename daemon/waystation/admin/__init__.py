"""The Unix socket through which all that changes anything goes."""
