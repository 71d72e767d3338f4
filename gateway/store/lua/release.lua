#!lua flags=allow-oom
--@include _record
-- Give claimed messages of which no byte was sent back to the head of their queues, the attempt not counted; and forget
-- claims of which the worker has settled everything.
--
-- Promise: only messages that are still held as they were claimed move. Repeat: finds no claim, changes nothing.
-- KEYS 1 prefix   ARGV 1 incarnation  2 number of claim fields to forget, then those; then claims (id .. time)
-- Returns the number released
local now = time_ms()
local finished = tonumber(ARGV[2])
local released = 0
for i = #ARGV, 3 + finished, -1 do -- from the last to the first, so that the first stands at the head again
  local id = sub(ARGV[i], 1, ID)
  local raw = call('GET', P .. 'msg:' .. id)
  if raw and byte(raw, #raw - T + 1) == 113 and claim_of(id, raw) == ARGV[i] then
    local r = read_record(id, raw)
    requeue(r, now, true)
    write_record(r, now)
    released = released + 1
  end
end
if finished > 0 then call('HDEL', P .. 'claims:' .. ARGV[1], unpack(ARGV, 3, 2 + finished)) end
waiting_delta = released
finish(now)
return released
