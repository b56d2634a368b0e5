"""Proofs: races, kills and thread hops with exact counts; each is also a program."""
