"""Measured tables: what somebody noted about LLMs on servers, used as it stands."""
