"""Files, devices, processes, the console and the errors that a person can act on."""
