#!lua flags=allow-oom
--@include _record
-- Remember which part of which message the SMSC's id names, and hand back receipts that came before.
--
-- Promise: written before the message is settled, so that no receipt can miss it. Repeat: writes the same again.
-- KEYS 1 prefix   ARGV 1 TTL s  then for each part 4 values: channel, smsc_id (canonical), id, part
-- Returns  for each part with a parked receipt: index (from 1), parked receipt
local now = time_ms()
local result, has_parked, rows = {}, {}, {}
for i = 2, #ARGV, 4 do
  local channel, name = ARGV[i], ARGV[i] .. ':' .. ARGV[i + 1]
  rows[#rows + 1] = name
  rows[#rows + 1] = ARGV[i + 2] .. ARGV[i + 3]
  if has_parked[channel] == nil then has_parked[channel] = call('EXISTS', P .. 'parked:' .. channel) == 1 end
  if has_parked[channel] then
    for _, parked in ipairs(call('LRANGE', P .. 'park:' .. name, 0, -1)) do
      result[#result + 1] = (i + 2) / 4
      result[#result + 1] = parked
    end
  end
end
local day = P .. 'corr:' .. floor(now / 86400000)
call('HSET', day, unpack(rows))
call('EXPIRE', day, ARGV[1] + 86400, 'NX')
return result
