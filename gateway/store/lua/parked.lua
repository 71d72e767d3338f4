#!lua flags=allow-oom
-- List parked receipts that may be tried again: those whose id is known by now. Expired ones leave the index.
--
-- KEYS 1 prefix   ARGV 1 channel  2 TTL s  3 most   Returns number parked, then triples smsc_id, id .. part, payload
local P, channel = KEYS[1], ARGV[1]
local call = redis.call
local index = P .. 'corr:' .. channel .. '::parked'
local now_s = call('TIME')[1]
call('ZREMRANGEBYSCORE', index, '-inf', now_s - ARGV[2])
local result = { call('ZCARD', index) }
for _, smsc_id in ipairs(call('ZRANGE', index, 0, tonumber(ARGV[3]) - 1)) do
  local known = call('GET', P .. 'corr:' .. channel .. ':' .. smsc_id)
  if known then
    local payloads = call('LRANGE', P .. 'park:' .. channel .. ':' .. smsc_id, 0, -1)
    for _, payload in ipairs(payloads) do
      result[#result + 1] = smsc_id
      result[#result + 1] = known
      result[#result + 1] = payload
    end
    if #payloads == 0 then call('ZREM', index, smsc_id) end
  end
end
return result
