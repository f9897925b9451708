"""One picture edited and run again, and what that changed."""
