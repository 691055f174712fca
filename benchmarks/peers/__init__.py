"""The same job in other systems: what they are compared with, each in the quickest version that was found."""
