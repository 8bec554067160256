"""The review's pages and API; the same pages as files, for a site that needs no server."""
