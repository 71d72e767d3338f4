#!lua flags=allow-oom
--@include _record
-- Long messages from handsets whose time is over, with the parts that came; also the oldest of too many.
--
-- Promise: they stay until mo.lua has recorded them; names without parts (they lapsed) leave here. A set that is handed
--   out gets another name: a part that comes from now on begins one of its own, and is not removed with this.
-- Repeat: the same again.
-- KEYS 1 prefix   ARGV 1 most of them  2 most that may wait
-- Returns for each: name, the number of fields, then fields and values: m what is known of it, <place> octets
local NAME = 32 -- octets of a name that parts gather under (handset.set_name)
local now, result = time_ms(), {}
local over = call('ZCARD', P .. 'moparts') - ARGV[2]
local names = call('ZRANGEBYSCORE', P .. 'moparts', '-inf', ms_text(now), 'LIMIT', 0, ARGV[1])
if #names == 0 and over > 0 then names = call('ZRANGE', P .. 'moparts', 0, math.min(over, ARGV[1]) - 1) end
for _, name in ipairs(names) do
  if #name == NAME and call('EXISTS', P .. 'mopart:' .. name) == 1 then
    local given_up = name .. ms_text(now)
    call('RENAME', P .. 'mopart:' .. name, P .. 'mopart:' .. given_up)
    call('ZREM', P .. 'moparts', name)
    call('ZADD', P .. 'moparts', ms_text(now), given_up)
    name = given_up
  end
  local fields = call('HGETALL', P .. 'mopart:' .. name)
  if #fields == 0 then
    call('ZREM', P .. 'moparts', name)
  else
    result[#result + 1] = name
    result[#result + 1] = #fields
    for k = 1, #fields do result[#result + 1] = fields[k] end
  end
end
return result
