"""An installed app with periodic tasks, for relays under test."""
