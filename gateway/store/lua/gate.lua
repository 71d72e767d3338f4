#!lua flags=allow-oom
--@include _record
-- Set a gate, and move a slice of what it held: to the queues when it opens, to `cancelled` when it closes.
--
-- Promise: the gate holds from this step on, for every later claim. With `closed` a sweep begins that ends what waits
--   anywhere (see gate_sweep.lua), unless one is under way; any other state stops it, and what it closed stays closed. What
--   an opened gate still holds after this call is named in `gatefree`; `free` goes on with that, and with nothing else.
-- Repeat: goes on with the rest of what is held.
-- KEYS 1 prefix   ARGV 1 name ("gate:x", "tag:x", "campaign:x", "account:x", "category:0")  2 open | hold | closed | free
--   3-5 retention_s  6 most  7 channels (US between)
-- Returns  still held, moved or closed in this call, final states
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[3], ARGV[4], ARGV[5]
local now = time_ms()
local name, state = ARGV[1], ARGV[2]
local held, moved, finals = P .. 'held:' .. name, 0, ''
local sweep = P .. 'gatesweep:' .. name
local before = call('HGET', P .. 'gates', name) or 'open'
if state == 'free' and before ~= 'open' then
  call('SREM', P .. 'gatefree', name)
  return { 0, 0, '' }
end
if state == 'open' or state == 'free' then
  call('HDEL', P .. 'gates', name)
else
  if before == 'open' then call('HDEL', P .. 'gatecount', name .. US .. 'closed') end
  call('HSET', P .. 'gates', name, state)
end
if state == 'closed' then
  if call('SISMEMBER', P .. 'gatesweeps', name) == 0 then
    local total = 0
    for _, place in ipairs(places_of(name, ARGV[7], '', 0, now)) do total = total + length_of(place, name) end
    call('DEL', sweep)
    call('HSET', sweep, 'at', '', 'total', total, 'looked', 0, 'closed', 0, 'passes', 0, 'channels', ARGV[7],
      'started', ms_text(now))
    call('SADD', P .. 'gatesweeps', name)
  end
else
  call('SREM', P .. 'gatesweeps', name)
  call('DEL', sweep)
end
if state ~= 'hold' then
  local ids = call('LPOP', held, tonumber(ARGV[6])) or {}
  local records = fetch(ids)
  local closed = 0
  for i = 1, #ids do
    local r = records[i]
    if r and r.state == 'w' then
      moved = moved + 1
      if state == 'closed' then
        waiting_delta = waiting_delta - 1
        if close_by_gate(r, now) then closed = closed + 1 end
      else
        requeue(r, now, false)
        write_record(r, now)
      end
    end
  end
  if closed > 0 then call('HINCRBY', P .. 'gatecount', name .. US .. 'closed', closed) end
  finals = finish(now)
end
local left = call('LLEN', held)
if left > 0 and (state == 'open' or state == 'free') then
  call('SADD', P .. 'gatefree', name)
else
  call('SREM', P .. 'gatefree', name)
end
return { left, moved, finals }
