#!lua flags=allow-oom
--@include _record
-- Put messages that were meant for one channel alone into the queues of their ranks, because it cannot take them now. Long
-- messages with a part out there stay: another channel's parts would never be put together.
--
-- Promise: an entry leaves in the step that puts its message elsewhere. Repeat: finds the rest.
-- KEYS 1 prefix   ARGV 1 channel  2 most of each category   Returns the number moved
local now = time_ms()
local moved, left = 0, false
for cat = 0, 2 do
  local key = P .. 'pin:' .. ARGV[1] .. ':' .. cat
  for _, entry in ipairs(call('LRANGE', key, 0, tonumber(ARGV[2]) - 1)) do
    local id = sub(entry, 1, ID)
    local raw = call('GET', P .. 'msg:' .. id)
    local r = raw and byte(raw, #raw - T + 1) == 113 and read_record(id, raw)
    if not r then
      call('LREM', key, 1, entry)
    elseif not has(r.flags, 16) then
      call('LREM', key, 1, entry)
      requeue(r, now, false)
      write_record(r, now)
      moved = moved + 1
    end
  end
  left = left or call('EXISTS', key) == 1
end
if not left then call('SREM', P .. 'pins', ARGV[1]) end
finish(now)
return moved
