"""`smsgw send FILE.csv`: a file of messages through the HTTP API, resumable, with a result for every row.

`rows` reads the CSV (pure), `results` keeps the result file that is also the journal, `runner` posts and
shows progress.
"""

from gateway.send.rows import Row, read_rows
from gateway.send.runner import SendOptions, SendReport, SendStopped, send_file

__all__ = ["Row", "SendOptions", "SendReport", "SendStopped", "read_rows", "send_file"]
