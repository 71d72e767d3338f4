#!lua flags=allow-oom
-- Draw parts from a channel's rate bucket (one for all workers and machines).
--
-- Promise: over any time t at most rate * t + burst parts are granted, burst = rate * burst_ms, at least one part.
-- Repeat: a lost answer costs its draw, never more than the rate.
-- KEYS 1 bucket of the channel   ARGV 1 rate per s  2 burst ms  3 wanted   Returns granted, us until the next part
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local step = 1000000 / tonumber(ARGV[1])
local burst = math.max(tonumber(ARGV[2]) * 1000, step)
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat < now or tat > now + 10 * burst + 1000000 then tat = now end -- idle, or the wall clock went back
local free = math.floor((now + burst - tat) / step + 1e-6)
local granted = math.min(free, tonumber(ARGV[3]))
if granted > 0 then
  tat = tat + granted * step
  redis.call('SET', KEYS[1], string.format('%.3f', tat))
else
  granted = 0
end
return { granted, math.max(0, math.ceil(tat + step - burst - now)) }
