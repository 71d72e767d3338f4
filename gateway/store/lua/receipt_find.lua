#!lua flags=allow-oom
-- Find the message part that a receipt names; park the receipt when nobody knows the id (yet).
--
-- Promise: a receipt is either matched or parked in one step, so a response recorded meanwhile cannot miss it. A final
--   receipt cuts the correlation's life to one hour (repeats still find it).
-- Repeat: the same answer; parking the same receipt again keeps one.
-- KEYS 1 prefix   ARGV 1 parked receipts kept a channel  2 their TTL s  then for each receipt 5 values:
--   channel, smsc_id, final ('1'), park if missing ('1'), payload
-- Returns  for each: id .. part, or '' (missing), or 'P' (parked), or 'O' (the channel's parking is full, dropped)
local P = KEYS[1]
local call = redis.call
local keys = {}
for i = 3, #ARGV, 5 do keys[#keys + 1] = P .. 'corr:' .. ARGV[i] .. ':' .. ARGV[i + 1] end
local found = call('MGET', unpack(keys))
local result = {}
local now_s = call('TIME')[1]
for k = 1, #keys do
  local b = 3 + (k - 1) * 5
  if found[k] then
    result[k] = found[k]
    if ARGV[b + 2] == '1' then call('EXPIRE', keys[k], 3600) end
  elseif ARGV[b + 3] == '1' then
    local index = P .. 'corr:' .. ARGV[b] .. '::parked'
    local name = ARGV[b] .. ':' .. ARGV[b + 1]
    if call('ZCARD', index) >= tonumber(ARGV[1]) then
      call('ZREMRANGEBYSCORE', index, '-inf', now_s - ARGV[2])
    end
    if call('ZCARD', index) >= tonumber(ARGV[1]) then
      result[k] = 'O'
    else
      -- A list: two receipts may share a spelling (decimal 257 and hexadecimal 257 are different messages).
      call('LREM', P .. 'park:' .. name, 1, ARGV[b + 4])
      call('RPUSH', P .. 'park:' .. name, ARGV[b + 4])
      call('LTRIM', P .. 'park:' .. name, -8, -1)
      call('EXPIRE', P .. 'park:' .. name, ARGV[2])
      call('ZADD', index, 'NX', now_s, ARGV[b + 1])
      result[k] = 'P'
    end
  else
    result[k] = ''
  end
end
return result
