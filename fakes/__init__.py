"""Stand-ins for other companies' services, with faults on request. The app never imports them."""
