#!lua
--@include _record
-- Note that a carrier called numbers invalid, for good; the second day on which one does puts a number on the list of all.
--
-- Promise: twice on one day counts once; hits are forgotten after 30 to 60 days.
-- Repeat: the day is noted already; an entry that is there stays as it is.
-- KEYS 1 prefix   ARGV 1 day (epoch days)  2 mask  3 source  then for each number 2 values: number, audit entry
-- Returns the numbers that were put on the list
local now = time_ms()
local period = floor(tonumber(ARGV[1]) / 30)
local key, counts, found = P .. 'invalid:' .. period, {}, {}
for i = 4, #ARGV, 2 do
  local number = ARGV[i]
  local day = call('HGET', key, number) or call('HGET', P .. 'invalid:' .. (period - 1), number)
  if not day then
    call('HSET', key, number, ARGV[1])
  elseif day ~= ARGV[1] then
    local before = call('HGET', P .. 'blacklist:*', number) or nil
    local after = black_merged(before, tonumber(ARGV[2]), 'invalid-number', now, ARGV[3])
    black_beneath(number, before, tonumber(ARGV[2]), 'invalid-number', now, ARGV[3])
    if after then
      call('HSET', P .. 'blacklist:*', number, after)
      black_changed(counts, '*', before, after)
      audit(now, ARGV[i + 1], before or '', after)
      found[#found + 1] = number
    end
  end
end
call('EXPIREAT', key, (period + 2) * 2592000)
black_counted(counts, now)
return found
