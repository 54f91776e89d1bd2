"""The redirect: jobs that use the bucket's own URL reach the mirror, while there is one to answer."""
