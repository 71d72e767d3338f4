#!lua flags=allow-oom
--@include _record
-- Remember which part of which message the SMSC's id names, and hand back receipts that came before.
--
-- Promise: written before the message is settled, so that no receipt can miss it. Repeat: writes the same again.
-- KEYS 1 prefix   ARGV 1 TTL s  2 number of channels, then those, then for each part 2 values:
--   channel:smsc_id (canonical), id .. part
-- Returns  for each part with a parked receipt: index (from 1), parked receipt
local now = time_ms()
local result, parked_somewhere = {}, false
local first = 3 + tonumber(ARGV[2])
for i = 3, first - 1 do
  if call('EXISTS', P .. 'parked:' .. ARGV[i]) == 1 then parked_somewhere = true end
end
if parked_somewhere then
  for i = first, #ARGV, 2 do
    for _, parked in ipairs(call('LRANGE', P .. 'park:' .. ARGV[i], 0, -1)) do
      result[#result + 1] = (i - first) / 2 + 1
      result[#result + 1] = parked
    end
  end
end
local day = P .. 'corr:' .. floor(now / 86400000)
for i = first, #ARGV, 2000 do call('HSET', day, unpack(ARGV, i, math.min(i + 1999, #ARGV))) end
call('EXPIRE', day, ARGV[1] + 86400, 'NX')
return result
