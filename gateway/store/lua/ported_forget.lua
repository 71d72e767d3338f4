#!lua flags=allow-oom
--@include _record
-- Forget what receipts taught about one ported number, or about all.
--
-- Promise: what was noted before is gone, and a note with no carriers in its place tells whoever has read it already
--   ('*' for all numbers). What is learned from then on holds. Looks through all of it, so it is for operators: 0.1 s for
--   100,000 numbers.
-- Repeat: finds nothing.
-- KEYS 1 prefix   ARGV 1 msisdn, '' for all  2 ms for which a note counts
-- Returns  facts forgotten
local WEEK = 604800000
local now = time_ms()
local week = floor(now / WEEK)
local wanted, ttl = ARGV[1], tonumber(ARGV[2])
local prefix = wanted .. US
local gone_facts = 0
for w = math.max(0, floor((now - ttl) / WEEK) - 1), week do
  local key = P .. 'ported:' .. w
  local cursor, leaving = '0', {}
  repeat
    local found = call('ZSCAN', key, cursor, 'COUNT', 1000)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      local fact = found[2][i]
      local is_note = sub(fact, -2) == US .. US
      if wanted == '' or sub(fact, 1, #prefix) == prefix then
        leaving[#leaving + 1] = fact
        if not is_note then gone_facts = gone_facts + 1 end
      end
    end
  until cursor == '0'
  -- Notes stay where nothing was learned since: others may not have read them yet.
  for i = 1, gone_facts > 0 and #leaving or 0, 5000 do
    call('ZREM', key, unpack(leaving, i, math.min(i + 4999, #leaving)))
  end
end
if gone_facts > 0 then
  local key = P .. 'ported:' .. week
  call('ZADD', key, ms_text(now), (wanted == '' and '*' or wanted) .. US .. US)
  call('PEXPIREAT', key, ms_text((week + 1) * WEEK + ttl))
end
return gone_facts
