#!lua flags=allow-oom
--@include _record
-- Remove what a number's handset wrote, by the ids kept for the number.
--
-- Promise: the messages, their places in `moreview` and the number's own entry go; lists by account keep bare ids.
-- Repeat: finds nothing any more. KEYS 1 prefix   ARGV 1 msisdn  2 periods (of 30 days) to go back   Returns messages removed
local now, n = time_ms(), 0
local period = floor(now / 1000 / 2592000)
for back = 0, tonumber(ARGV[2]) do
  local key = P .. 'monum:' .. (period - back)
  local ids = call('HGET', key, ARGV[1]) or ''
  for at = 1, #ids, ID do
    local id = sub(ids, at, at + ID - 1)
    n = n + call('HDEL', P .. 'mo:' .. (period - back), id) + call('HDEL', P .. 'mooptout:' .. (period - back), id)
    call('ZREM', P .. 'moreview', id)
  end
  call('HDEL', key, ARGV[1])
end
return n
