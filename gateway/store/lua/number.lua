#!lua flags=no-writes
--@include _record
-- The latest messages to a number of one account, or of all, newest first (at most 16 are remembered).
--
-- KEYS 1 prefix   ARGV 1 msisdn  2 account ('': of all)   Returns pairs: id, record
local now = time_ms()
local value = call('HGET', num_key(now, 0), ARGV[1]) or call('HGET', num_key(now, 1), ARGV[1])
local result = {}
if not value then return result end
local records = fetch(ids_of_number(value))
for i = #records, 1, -1 do
  local r = records[i]
  if r and (ARGV[2] == '' or account_of(r.dims) == ARGV[2]) then
    result[#result + 1] = r.id
    result[#result + 1] = r.raw
  end
end
return result
