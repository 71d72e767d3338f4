#!lua flags=allow-oom
--@include _record
-- Cancel a message that is not yet claimed for sending.
--
-- Repeat: answers `already`.   KEYS 1 prefix   ARGV 1 id  2 account  3-5 retention_s
-- Returns  cancelled | already | too_late | not_found (also for another account's message)
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[3], ARGV[4], ARGV[5]
local r = fetch({ ARGV[1] })[1]
if not r or account_of(r.dims) ~= ARGV[2] then return 'not_found' end
if r.state == 'C' then return 'already' end
if not find('hfqrw', r.state, 1, true) or has(r.flags, 8) then return 'too_late' end
if r.state == 'q' and held(r) then return 'too_late' end
local now = time_ms()
waiting_delta = -1
finalise(r, 'C', 'cancelled', '', '', now)
if r.state == 'h' or r.state == 'f' then call('ZREM', P .. 'due', r.id) end
finish(now)
return 'cancelled'
