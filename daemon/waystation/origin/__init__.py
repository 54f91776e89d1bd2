"""Where bytes come from: an S3 bucket or a folder, behind one small interface."""
