"""Real servers as child processes (PostgreSQL, Valkey Cluster, SMTP sink), without Docker."""
