"""Merging LoRAs by training: a student follows several teachers, each on the prompts that it is for; no reward."""
