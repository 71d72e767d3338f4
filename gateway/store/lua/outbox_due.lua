#!lua flags=no-writes
-- Say which accounts have events to take now.
--
-- Promise: reads only. Repeat: the same question.
-- KEYS 1 prefix   ARGV accounts
-- Returns  '1' or '0' for each in one string
local P = KEYS[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local marks = {}
for i = 1, #ARGV do
  local some = redis.call('EXISTS', P .. 'out:' .. ARGV[i]) == 1
  if not some then
    local first = redis.call('ZRANGE', P .. 'outlater:' .. ARGV[i], 0, 0, 'WITHSCORES')
    some = first[2] ~= nil and tonumber(first[2]) <= now
  end
  marks[i] = some and '1' or '0'
end
return table.concat(marks)
