#!lua flags=allow-oom
-- Put dead letters of an account back in line, oldest first.
--
-- Promise: each goes back once, as if it had never been tried, and at most as many as the line has room for.
-- Repeat: goes on with what is left.
-- KEYS 1 prefix   ARGV 1 account  2 most  3 most the line may hold
-- Returns  put back, dead letters left
local P = KEYS[1]
local call, sub, byte = redis.call, string.sub, string.byte
local account = ARGV[1]
local out, dead = P .. 'out:' .. account, P .. 'outdead:' .. account
local was = call('LLEN', out)
local n = math.min(tonumber(ARGV[2]), tonumber(ARGV[3]) - was)
local letters = n > 0 and call('LPOP', dead, n) or {}
for i = 1, #letters do
  local size = byte(letters[i], 14)
  local field = account .. '\31' .. sub(letters[i], 15, 14 + size)
  if call('HINCRBY', P .. 'outdeadwhy', field, -1) <= 0 then call('HDEL', P .. 'outdeadwhy', field) end
  call('RPUSH', out, sub(letters[i], 15 + size))
end
if was == 0 and #letters > 0 then call('PUBLISH', 'gw:wake', 'events') end
return { #letters, call('LLEN', dead) }
