"""What people say of results, ``bad``, ``check`` and words of their own, kept beside them."""
