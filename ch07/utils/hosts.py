"""Names of this machine, to which plain HTTP is allowed."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
