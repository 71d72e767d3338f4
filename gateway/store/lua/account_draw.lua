#!lua
-- Draw what one account may send next: messages of its rate (a bucket of one second) and of its quota (a UTC day).
--
-- Promise: over any time the rate grants at most max_per_s a second plus one bucket, and the quota at most
--   daily_quota a day; rate and quota are drawn for themselves, the caller spends both.
-- Repeat: the same call again draws again. What the first drew and nobody received is lost for the rate (refilled
--   within the second) and for the day's quota (one chunk); it is never granted twice.
-- KEYS 1 hash of the account: tokens, at (us), day, used
-- ARGV 1 max_per_s (0 no limit)  2 wanted of the rate  3 daily_quota (0 no limit)  4 wanted of the quota
--      5 quota given back  6 the day that was drawn on (days since 1970)
-- Returns  granted of the rate, granted of the quota, ms until the rate has what was missing, ms until the day ends,
--   the day
local per_s, want = tonumber(ARGV[1]), tonumber(ARGV[2])
local quota, want_quota = tonumber(ARGV[3]), tonumber(ARGV[4])
local back, back_day = tonumber(ARGV[5]), tonumber(ARGV[6])
local t = redis.call('TIME')
local now_s = tonumber(t[1])
local now = now_s * 1000000 + tonumber(t[2])
local day = math.floor(now_s / 86400)
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'day', 'used')

local granted, wait_ms, tokens = want, 0, 0
if per_s > 0 then
  -- A clock set back refills nothing; one set forward fills the bucket once.
  local elapsed = kept[2] and math.max(0, now - tonumber(kept[2])) or 1000000
  tokens = math.min(per_s, (tonumber(kept[1] or '') or per_s) + elapsed * per_s / 1000000)
  granted = math.min(want, math.floor(tokens))
  tokens = tokens - granted
  if granted < want then
    wait_ms = math.ceil((math.min(want - granted, per_s) - tokens) * 1000 / per_s)
  end
end

local granted_quota, used = want_quota, 0
if quota > 0 then
  used = tonumber(kept[3] or '') == day and tonumber(kept[4] or '') or 0
  if back_day == day then
    used = math.max(0, used - back)
  end
  granted_quota = math.max(0, math.min(want_quota, quota - used))
  used = used + granted_quota
end

redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now),
  'day', day, 'used', string.format('%.0f', used))
-- Counters of an account that went silent may lapse: the bucket is full and the day over long before.
redis.call('EXPIRE', KEYS[1], 172800)
return { granted, granted_quota, wait_ms, (day + 1) * 86400000 - math.floor(now / 1000), day }
