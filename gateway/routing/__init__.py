"""From a recipient's number to a route: normalise, find the carrier, take the matching rule.

In the order of the path: `msisdn` → `number_segments` → `router`, over the compiled `table`; `loader` builds
them from files and settings. Knows nothing of HTTP, Redis or SMPP.
"""
