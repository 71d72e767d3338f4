#!lua flags=allow-oom
-- Take tries to sign in back: one that was none, or all of somebody who came in.
--
-- Promise: what others tried from the same address stays.
-- Repeat: nothing is left to take back.
-- KEYS 1 prefix of the console (see console_try.lua)   ARGV 1 id of the try ('': all)  2.. who
-- Returns  how many of them had tries
local call, P, found = redis.call, KEYS[1], 0
for i = 2, #ARGV do
  local key = P .. 'tries:' .. ARGV[i]
  if ARGV[1] == '' then
    found = found + call('DEL', key)
  elseif call('HDEL', key, ARGV[1]) == 1 then
    found = found + 1
    if call('HLEN', key) == 1 then call('DEL', key) end -- only `last` is left
  end
end
return found
