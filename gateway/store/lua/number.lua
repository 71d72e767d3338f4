#!lua flags=no-writes
--@include _record
-- The latest messages to a number of one account, newest first (at most 16 are remembered for all accounts).
--
-- KEYS 1 prefix   ARGV 1 msisdn  2 account   Returns pairs: id, record
local now = time_ms()
local value = call('HGET', num_key(now, 0), ARGV[1]) or call('HGET', num_key(now, 1), ARGV[1])
local result = {}
if not value then return result end
local ids = {}
for id, account in string.gmatch(value, '\ni([^\31\n]+)\31([^\31\n]*)') do
  if account == ARGV[2] then table.insert(ids, 1, id) end
end
for _, id in ipairs(ids) do
  local raw = call('GET', P .. 'msg:' .. id)
  if raw then
    result[#result + 1] = id
    result[#result + 1] = raw
  end
end
return result
