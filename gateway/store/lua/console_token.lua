#!lua flags=allow-oom
-- Let a set-up token count for a time.
--
-- Promise: none counts once there is a user; at most so many count at once, one for each machine that started lately.
-- Repeat: the token keeps the time it was given.
-- KEYS 1 prefix of the console (see console_setup.lua)   ARGV 1 hash of the token  2 ms it counts  3 most of them
-- Returns  until when it counts (epoch ms), 0 where there is a user
local call, P = redis.call, KEYS[1]
if call('HLEN', P .. 'users') > 0 then
  call('DEL', P .. 'setup')
  return 0
end
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local known = call('HGET', P .. 'setup', ARGV[1])
if known and tonumber(known) > now then return tonumber(known) end
local flat, first, first_at, count = call('HGETALL', P .. 'setup'), nil, nil, 0
for i = 1, #flat, 2 do
  local ends = tonumber(flat[i + 1])
  if ends <= now then
    call('HDEL', P .. 'setup', flat[i])
  else
    count = count + 1
    if not first_at or ends < first_at then first, first_at = flat[i], ends end
  end
end
if count >= tonumber(ARGV[3]) then call('HDEL', P .. 'setup', first) end
local ends = now + tonumber(ARGV[2])
call('HSET', P .. 'setup', ARGV[1], string.format('%.0f', ends))
return ends
