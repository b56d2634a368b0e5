"""What tests share: servers, clean-up, the mailbox, waiting."""
