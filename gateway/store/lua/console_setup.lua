#!lua flags=allow-oom
-- Make the first user of the console with a set-up token.
--
-- Promise: a token counts once, within its time, and only while there is no user: of two at the same time one wins.
-- Repeat: the user it made is there with the same content: ok.
-- KEYS 1 prefix of the console (see console_user.lua): `setup` hash of a token → until when it counts, epoch ms
-- ARGV 1 hash of the token  2 name  3 user (JSON; '': only look whether the token counts)
-- Returns  ok | late (there are users) | wrong
local call, P = redis.call, KEYS[1]
if ARGV[3] ~= '' and call('HGET', P .. 'users', ARGV[2]) == ARGV[3] then return 'ok' end
if call('HLEN', P .. 'users') > 0 then return 'late' end
local t = call('TIME')
local ends = call('HGET', P .. 'setup', ARGV[1])
if not ends or tonumber(ends) <= t[1] * 1000 then return 'wrong' end
if ARGV[3] ~= '' then
  call('HSET', P .. 'users', ARGV[2], ARGV[3])
  call('DEL', P .. 'setup')
end
return 'ok'
