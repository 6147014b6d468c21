"""A package, so that the browser fixture ends with its last test: async tests must not meet its event loop."""
