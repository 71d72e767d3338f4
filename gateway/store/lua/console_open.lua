#!lua flags=allow-oom
-- Open a session for a user who has just shown who they are.
--
-- Promise: only for the user as they were when that was checked; what is over is forgotten, and the oldest beyond the most
--   of one user ends.
-- Repeat: the session is there.
-- KEYS 1 prefix of the console (see console_user.lua): `sessions` id (hash of what opens it) → name US role US begun US seen
--   US checked US address US browser, times in epoch ms; `last` name → ms US address of the latest sign-in
-- ARGV 1 id  2 name  3 version of the user  4 address  5 browser  6 idle ms  7 longest ms  8 most of one user
-- Returns 1, or 0 where the user has changed
local call, P, US = redis.call, KEYS[1], '\31'
local sessions, name = P .. 'sessions', ARGV[2]
if call('HEXISTS', sessions, ARGV[1]) == 1 then return 1 end
local raw = call('HGET', P .. 'users', name)
local user = raw and cjson.decode(raw)
if not user or not user.enabled or user.version ~= tonumber(ARGV[3]) then return 0 end
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local own, flat = {}, call('HGETALL', sessions)
for i = 1, #flat, 2 do
  local whose, begun, seen = string.match(flat[i + 1], '^([^\31]*)\31[^\31]*\31(%d+)\31(%d+)')
  if not whose or now - tonumber(seen) >= tonumber(ARGV[6]) or now - tonumber(begun) >= tonumber(ARGV[7]) then
    call('HDEL', sessions, flat[i])
  elseif whose == name then
    own[#own + 1] = { tonumber(seen), flat[i] }
  end
end
table.sort(own, function(a, b) return a[1] < b[1] end)
for i = 1, #own - tonumber(ARGV[8]) + 1 do call('HDEL', sessions, own[i][2]) end
local at = string.format('%.0f', now)
call('HSET', sessions, ARGV[1], table.concat({ name, user.role, at, at, at, ARGV[4], ARGV[5] }, US))
call('HSET', P .. 'last', name, at .. US .. ARGV[4])
return 1
