"""Load tests: shoppers who browse, read and buy over HTTP. Imports nothing of the application."""
