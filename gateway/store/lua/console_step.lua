#!lua flags=allow-oom
-- Use up the time step of a one-time code (RFC 6238 §5.2: a code counts once).
--
-- Promise: a step, and every step before it, counts once for a user, whichever machines are asked at the same time.
-- Repeat: the same use of it counts.
-- KEYS 1 prefix of the console: `steps` name → the latest step US the use's token   ARGV 1 name  2 step  3 token
-- Returns 1, or 0 where it was used
local call, steps = redis.call, KEYS[1] .. 'steps'
local latest = call('HGET', steps, ARGV[1])
if latest then
  if latest == ARGV[2] .. '\31' .. ARGV[3] then return 1 end
  if tonumber(string.match(latest, '^%d+')) >= tonumber(ARGV[2]) then return 0 end
end
call('HSET', steps, ARGV[1], ARGV[2] .. '\31' .. ARGV[3])
return 1
