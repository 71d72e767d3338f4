"""`smsgw demo`: the whole main job on embedded parts, measured by comparing what was asked, sent and reported.

`world` sets up configuration, simulated carriers and the gateway; `load` posts a mixed load over HTTP; `show` runs
both and kills a carrier half-way; `report` compares the ledgers; `serve` is `make run`. Stands outside the gateway.
"""

from gateway.demo.serve import serve
from gateway.demo.show import run

__all__ = ["run", "serve"]
