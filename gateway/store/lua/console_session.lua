#!lua flags=allow-oom
-- Look at a session, and keep it alive.
--
-- Promise: one that is over, by its idle time or its longest, is gone; looking alone keeps none alive.
-- Repeat: the same again; a use counts once within ARGV 4, a password check once a second.
-- KEYS 1 prefix of the console (see console_open.lua)
-- ARGV 1 id  2 idle ms  3 longest ms  4 what is it for: '' a look; else a use, noted where the last one is so many ms ago
--   5 '1': the password was checked just now
-- Returns  its value and the time (epoch ms), or nothing
local call, P, US = redis.call, KEYS[1], '\31'
local raw = call('HGET', P .. 'sessions', ARGV[1])
if not raw then return nil end
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local name, role, begun, seen, checked, rest = string.match(raw, '^([^\31]*)\31([^\31]*)\31(%d+)\31(%d+)\31(%d+)(\31.*)$')
if not name or now - tonumber(seen) >= tonumber(ARGV[2]) or now - tonumber(begun) >= tonumber(ARGV[3]) then
  call('HDEL', P .. 'sessions', ARGV[1])
  return nil
end
local at, changed = string.format('%.0f', now), false
if ARGV[4] ~= '' and now - tonumber(seen) >= tonumber(ARGV[4]) then seen, changed = at, true end
if ARGV[5] == '1' and now - tonumber(checked) >= 1000 then checked, changed = at, true end
if changed then
  raw = table.concat({ name, role, begun, seen, checked }, US) .. rest
  call('HSET', P .. 'sessions', ARGV[1], raw)
end
return { raw, at }
