from running_host import client, host, start_host

__all__ = ["client", "host", "start_host"]
