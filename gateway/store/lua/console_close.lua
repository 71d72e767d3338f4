#!lua flags=allow-oom
-- End sessions of the console.
--
-- Promise: they are over for every machine.
-- Repeat: none is left to end.
-- KEYS 1 prefix of the console (see console_open.lua)
-- ARGV 1 whose ('': anybody's)  2 id ('': all of theirs)  3 id to keep
-- Returns  how many ended
local call, sessions = redis.call, KEYS[1] .. 'sessions'
local ended, flat = 0, call('HGETALL', sessions)
for i = 1, #flat, 2 do
  local theirs = ARGV[1] == '' or string.match(flat[i + 1], '^[^\31]*') == ARGV[1]
  if theirs and (ARGV[2] == '' or flat[i] == ARGV[2]) and flat[i] ~= ARGV[3] then
    ended = ended + call('HDEL', sessions, flat[i])
  end
end
return ended
