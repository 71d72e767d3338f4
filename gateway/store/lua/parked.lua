#!lua flags=allow-oom
-- List parked receipts that may be tried again: those whose id is known by now. Expired ones leave the index.
--
-- KEYS 1 prefix   ARGV 1 channel  2 TTL s  3 most   Returns number parked, then pairs smsc_id, payload
local P, channel = KEYS[1], ARGV[1]
local call = redis.call
local index = P .. 'corr:' .. channel .. '::parked'
local now_s = call('TIME')[1]
call('ZREMRANGEBYSCORE', index, '-inf', now_s - ARGV[2])
local result = { call('ZCARD', index) }
for _, smsc_id in ipairs(call('ZRANGE', index, 0, tonumber(ARGV[3]) - 1)) do
  if call('EXISTS', P .. 'corr:' .. channel .. ':' .. smsc_id) == 1 then
    local payload = call('GET', P .. 'park:' .. channel .. ':' .. smsc_id)
    if payload then
      result[#result + 1] = smsc_id
      result[#result + 1] = payload
    else
      call('ZREM', index, smsc_id)
    end
  end
end
return result
