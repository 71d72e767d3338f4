#!lua flags=no-writes
--@include _record
-- Look at the head of a ring that no channel serves any more: the first account's entries with their records.
--
-- Repeat: the same.   KEYS 1 prefix   ARGV 1 ring ("route:rank:category")  2 most
-- Returns  account, then pairs: id, record (or '' where there is none); empty when the ring is
local account = call('LINDEX', P .. 'ring:' .. ARGV[1], 0)
if not account then
  return {}
end
local entries = call('LRANGE', P .. 'q:' .. ARGV[1] .. ':' .. account, 0, tonumber(ARGV[2]) - 1)
local result = { account }
for _, entry in ipairs(entries) do
  local id = sub(entry, 1, ID)
  result[#result + 1] = id
  result[#result + 1] = call('GET', P .. 'msg:' .. id) or ''
end
return result
