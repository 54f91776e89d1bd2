"""The way into the origin: publish what was built, adopt what others uploaded, print the stanza that uses it."""

from waystation.publish.adoption import Adopted
from waystation.publish.opening import open_publisher, open_writer
from waystation.publish.publisher import Published, Publisher, bundle_target, machine_arch

__all__ = ["Adopted", "Published", "Publisher", "bundle_target", "machine_arch", "open_publisher", "open_writer"]
