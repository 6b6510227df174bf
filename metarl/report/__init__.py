"""`metarl report`: runs as one page that opens offline, with its figures and tables as files for papers."""
