#!lua flags=no-writes
--@include _record
-- What has been learned about ported numbers since a time, the oldest first (see ported_learn.lua).
--
-- Repeat: the same, and what came meanwhile.
-- KEYS 1 prefix   ARGV 1 from (epoch ms, included)  2 most
-- Returns  now, then pairs: msisdn US carrier left US carrier joined, epoch ms
local WEEK = 604800000
local now = time_ms()
local result = { ms_text(now) }
local left = tonumber(ARGV[2])
for week = floor(tonumber(ARGV[1]) / WEEK), floor(now / WEEK) do
  if left <= 0 then break end
  local found = call('ZRANGE', P .. 'ported:' .. week, ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, left, 'WITHSCORES')
  for i = 1, #found do result[#result + 1] = found[i] end
  left = left - #found / 2
end
return result
