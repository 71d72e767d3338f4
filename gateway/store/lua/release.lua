#!lua flags=allow-oom
--@include _record
-- Give claimed messages of which no byte was sent back to the head of their queues, the attempt not counted.
--
-- Promise: only messages this incarnation holds under the given attempt move. Repeat: finds no claim, changes nothing.
-- KEYS 1 prefix   ARGV 1 incarnation, then for each item: id, attempt   Returns the number released
local inc = ARGV[1]
local now = time_ms()
local ids, attempts = {}, {}
for i = #ARGV - 1, 2, -2 do -- from the last to the first, so that the first stands at the head again
  ids[#ids + 1] = ARGV[i]
  attempts[#attempts + 1] = ARGV[i + 1]
end
if #ids == 0 then return 0 end
local claims = call('HMGET', P .. 'claims:' .. inc, unpack(ids))
local records = fetch(ids)
local gone, released = {}, 0
for i = 1, #ids do
  local r = records[i]
  if claims[i] and sub(claims[i], -#attempts[i] - 1) == US .. attempts[i] then
    gone[#gone + 1] = ids[i]
    if r and r.state == 'q' then
      requeue(r, now, true)
      released = released + 1
    end
  end
end
if #gone > 0 then call('HDEL', P .. 'claims:' .. inc, unpack(gone)) end
waiting_delta = released
finish(now)
return released
