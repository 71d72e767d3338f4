#!lua flags=allow-oom
--@include _record
-- List the messages whose redelivery was asked for, the oldest first.
--
-- Repeat: the same list.   KEYS 1 prefix   ARGV 1 most   Returns for each: id, record ('' when it is gone)
local result = {}
for _, id in ipairs(call('LRANGE', P .. 'redo', 0, ARGV[1] - 1)) do
  result[#result + 1] = id
  result[#result + 1] = call('GET', P .. 'msg:' .. id) or ''
end
return result
