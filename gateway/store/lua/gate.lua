#!lua flags=allow-oom
--@include _record
-- Set a gate, and move a slice of what it held: to the queues when it opens, to `cancelled` when it closes.
--
-- Promise: the gate holds from this step on, for every later claim. Repeat: goes on with the rest of what is held.
-- KEYS 1 prefix   ARGV 1 name ("gate:x", "tag:x", "campaign:x", "account:x", "category:0")  2 open | hold | closed
--   3-5 retention_s  6 most
-- Returns  still held, moved or closed in this call
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[3], ARGV[4], ARGV[5]
local now = time_ms()
local name, state = ARGV[1], ARGV[2]
if state == 'open' then call('HDEL', P .. 'gates', name) else call('HSET', P .. 'gates', name, state) end
local held, moved = P .. 'held:' .. name, 0
if state ~= 'hold' then
  local ids = call('LPOP', held, tonumber(ARGV[6])) or {}
  local records = fetch(ids)
  for i = 1, #ids do
    local r = records[i]
    if r and r.state == 'w' then
      moved = moved + 1
      if state == 'closed' then
        waiting_delta = waiting_delta - 1
        finalise(r, 'C', 'gate_closed', '', '', now)
        call('HINCRBY', P .. 'gatecount', name .. US .. 'closed', 1)
      else
        requeue(r, now, false)
        write_record(r, now)
      end
    end
  end
  finish(now)
end
return { call('LLEN', held), moved }
