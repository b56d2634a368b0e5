"""Real servers as child processes: PostgreSQL, a Valkey Cluster and an SMTP sink, without Docker."""
