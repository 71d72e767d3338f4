#!lua flags=allow-oom
--@include _record
-- Give claimed messages of which no byte was sent back to the head of their queues, the attempt not counted.
--
-- Promise: only messages this incarnation holds under the given attempt move. Repeat: answers the same, changes nothing.
-- KEYS 1 prefix   ARGV 1 incarnation, then for each item: id, attempt   Returns the number released
local inc = ARGV[1]
local now = time_ms()
local ids, attempts = {}, {}
for i = #ARGV - 1, 2, -2 do -- from the last to the first, so that the first stands at the head again
  ids[#ids + 1] = ARGV[i]
  attempts[#attempts + 1] = tonumber(ARGV[i + 1])
end
local records = fetch(ids)
local gone = {}
for i = 1, #ids do
  local r = records[i]
  if r and r.state == 'c' and r.inc == inc and r.attempt == attempts[i] then
    r.attempt = r.attempt - 1
    gone[#gone + 1] = r.id
    requeue(r, now, true)
    write_record(r, now)
  end
end
if #gone > 0 then call('HDEL', P .. 'claims:' .. inc, unpack(gone)) end
waiting_delta = #gone
finish(now)
return #gone
