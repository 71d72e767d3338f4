#!lua flags=no-writes
-- The messages whose window has closed before they could be sent, the first of them.
--
-- KEYS 1 prefix   ARGV 1 most   Returns pairs: id, record or false
local ids = redis.call('LRANGE', KEYS[1] .. 'reopen', 0, tonumber(ARGV[1]) - 1)
local result = {}
for i = 1, #ids do
  result[#result + 1] = ids[i]
  result[#result + 1] = redis.call('GET', KEYS[1] .. 'msg:' .. ids[i])
end
return result
