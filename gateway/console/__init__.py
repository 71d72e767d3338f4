"""The console: the gateway in a browser. Its page, its users and their sessions; what it shows is the admin API's."""
