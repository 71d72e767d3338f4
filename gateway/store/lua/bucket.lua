#!lua flags=allow-oom
-- Draw parts from a channel's rate bucket (one for all workers and machines), at the rate in force: the configured one, or
-- less while the carrier says that it is too much.
--
-- Promise: over any time t at most rate * t + burst parts are granted, burst = rate * burst_ms, at least one part. A report
--   of throttled parts cuts the rate at once, once a second: to what the carrier accepted in the last second, at most by
--   half. It climbs by 5 % of the configured rate a second, by 1 % near the rate that was throttled last. Where none is
--   configured it begins low, doubles in a second, climbs by 3 % near that rate, and ends a minute after the last cut.
-- Repeat: a lost answer costs its draw, never more than the rate.
-- KEYS 1 bucket of the channel   ARGV 1 rate per s (0: none is configured)  2 burst ms  3 wanted
--   4 parts the carrier accepted since this worker's last draw  5 parts it throttled since then
-- Returns granted, us until the next part, the rate in force (text; 0: none)
local FAST, SLOW, NEAR, PAST = 0.05, 0.01, 0.6, 1.1
local FREE_FAST, FREE_SLOW, FREE_FIRST, FREE_US = 1.0, 0.03, 10, 60000000
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local rate, wanted = tonumber(ARGV[1]), tonumber(ARGV[3])
local accepted, throttled = tonumber(ARGV[4]), tonumber(ARGV[5])

-- tat, limit (0: the configured rate), when it was worked out, the rate last throttled, when it was last cut, begin of the
-- second that is counted, accepted in it, accepted in the one before
local s = {}
for number in string.gmatch(redis.call('GET', KEYS[1]) or '', '[^ ]+') do s[#s + 1] = tonumber(number) end
local tat, limit, at, ceiling, cut_at = s[1] or 0, s[2] or 0, s[3] or now, s[4] or 0, s[5] or 0
local second, count, last = s[6] or now, s[7] or 0, s[8] or 0

if now - second >= 1000000 or now < second then
  last = now - second < 2000000 and now >= second and count or 0
  second, count = now, 0
end
count = count + accepted

if limit > 0 then -- climb
  local dt = math.max(0, math.min(now - at, 60000000)) / 1000000
  while dt > 0 and (rate == 0 or limit < rate) do
    local near = limit >= NEAR * ceiling and limit <= PAST * ceiling
    local step = math.min(dt, 0.1)
    if rate > 0 then
      limit = limit + (near and SLOW or FAST) * rate * step
    else
      limit = math.min(limit * (1 + (near and FREE_SLOW or FREE_FAST) * step), 1000000)
    end
    dt = dt - step
  end
  if rate > 0 and limit >= rate or rate == 0 and (now - cut_at >= FREE_US or now < cut_at) then limit = 0 end
end
if throttled > 0 and (now - cut_at >= 1000000 or now < cut_at) then
  local seen = math.max(last, count)
  local in_force = limit > 0 and limit or rate
  if in_force == 0 then
    limit = math.max(FREE_FIRST, seen)
  else
    limit = math.max(in_force / 2, math.min(in_force, seen), 1)
  end
  ceiling, cut_at = in_force, now
end
at = now
local in_force = limit > 0 and limit or rate

local granted, wait = wanted, 0
if in_force > 0 then
  local step = 1000000 / in_force
  local burst = math.max(tonumber(ARGV[2]) * 1000, step)
  if tat < now or tat > now + 10 * burst + 1000000 then tat = now end -- idle, or the wall clock went back
  granted = math.max(0, math.min(math.floor((now + burst - tat) / step + 1e-6), wanted))
  tat = tat + granted * step
  wait = math.max(0, math.ceil(tat + step - burst - now))
end
if granted > 0 or throttled > 0 or accepted > 0 then
  redis.call('SET', KEYS[1], string.format('%.3f %.3f %.0f %.3f %.0f %.0f %.0f %.0f',
    tat, limit, at, ceiling, cut_at, second, count, last))
end
return { granted, wait, string.format('%.2f', in_force) }
