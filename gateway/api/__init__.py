"""HTTP for applications: the server, its guards, the strict decoder, the table of fields, one file an endpoint."""
