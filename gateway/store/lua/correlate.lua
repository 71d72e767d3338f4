#!lua flags=allow-oom
-- Remember which part of which message the SMSC's id names, and hand back receipts that came before.
--
-- Promise: written before the message is settled, so that no receipt can miss it. Repeat: writes the same again.
-- KEYS 1 prefix   ARGV 1 TTL s  then for each part 4 values: channel, smsc_id (canonical), id, part
-- Returns  for each part with a parked receipt: index (from 1), parked receipt
local P = KEYS[1]
local call = redis.call
local result, has_parked = {}, {}
for i = 2, #ARGV, 4 do
  local channel, key = ARGV[i], ARGV[i] .. ':' .. ARGV[i + 1]
  call('SET', P .. 'corr:' .. key, ARGV[i + 2] .. ARGV[i + 3], 'EX', ARGV[1])
  if has_parked[channel] == nil then has_parked[channel] = call('EXISTS', P .. 'corr:' .. channel .. '::parked') == 1 end
  if has_parked[channel] then
    for _, parked in ipairs(call('LRANGE', P .. 'park:' .. key, 0, -1)) do
      result[#result + 1] = (i + 2) / 4
      result[#result + 1] = parked
    end
  end
end
return result
