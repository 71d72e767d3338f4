#!lua flags=allow-oom
-- Note something that changed by itself (a worker that was started again), beside what moves note in their own step.
--
-- Repeat: a token that the latest entries hold is not noted again.
-- KEYS 1 stream of changes   ARGV 1 token  2… pairs: field, value (kind and object among them)
-- Returns 1 when it was noted
local MOST, KEEP_MS = 500, 604800000
local call = redis.call
for _, entry in ipairs(call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 100)) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'token' and entry[2][i + 1] == ARGV[1] then return 0 end
  end
end
call('XADD', KEYS[1], 'MAXLEN', MOST, '*', 'token', ARGV[1], unpack(ARGV, 2))
call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', call('TIME')[1] * 1000 - KEEP_MS))
return 1
