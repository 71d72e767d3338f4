#!lua flags=allow-oom
-- Count a try to sign in before its password is looked at, or say how long to wait.
--
-- Promise: after the free tries each one that is not taken back doubles the wait, up to the longest; tries during a wait are
--   not counted, so nobody can make it longer by trying. Many at once count each.
-- Repeat: the same try counts once.
-- KEYS 1 prefix of the console: `tries:` who → the tries' ids, and `last` (epoch ms)
-- ARGV 1 id of the try  2 free tries  3 first wait ms  4 longest wait ms  5 ms they are remembered  6.. who (name, address)
-- Returns  ms to wait (0: try), and the most tries of one of them
local call, P = redis.call, KEYS[1]
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local free, first, longest = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local wait, most = 0, 0
for i = 6, #ARGV do
  local key = P .. 'tries:' .. ARGV[i]
  if call('HEXISTS', key, ARGV[1]) == 0 then
    local count = math.max(0, call('HLEN', key) - 1)
    most = math.max(most, count)
    if count >= free then
      local due = tonumber(call('HGET', key, 'last')) + math.min(longest, first * 2 ^ math.min(count - free, 40))
      wait = math.max(wait, due - now)
    end
  end
end
if wait > 0 then return { math.ceil(wait), most } end
for i = 6, #ARGV do
  local key = P .. 'tries:' .. ARGV[i]
  if call('HEXISTS', key, ARGV[1]) == 0 then
    -- Beyond so many the wait is the longest anyway: only the time moves.
    if call('HLEN', key) <= 64 then call('HSET', key, ARGV[1], '') end
    call('HSET', key, 'last', string.format('%.0f', now))
    call('PEXPIRE', key, ARGV[5])
  end
  most = math.max(most, call('HLEN', key) - 1)
end
return { 0, most }
