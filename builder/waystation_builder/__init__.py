"""The builder: a project goes in, one self-contained executable comes out, checked and published."""
