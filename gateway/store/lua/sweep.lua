#!lua flags=allow-oom
-- Elect the sweeper of a shard and turn the idempotency generations on 24 h of its monotonic time.
--
-- Promise: keys are forgotten after 24 to 48 h of counted time, never because a wall clock jumped (no EXPIRE).
-- Repeat: no time has passed on the caller's clock since the first call, so none is counted twice.
-- KEYS 1 prefix   ARGV 1 incarnation  2 the caller's monotonic clock, ms   Returns 1 when it is elected
local P = KEYS[1]
local call = redis.call
local owner = call('HGET', P .. 'sweep', 'owner')
if owner ~= ARGV[1] then
  if owner and call('HEXISTS', P .. 'lease', owner) == 1 then return 0 end
  call('HSET', P .. 'sweep', 'owner', ARGV[1], 'at', ARGV[2])
  call('HSETNX', P .. 'sweep', 'ms', 0)
  return 1
end
-- At most five minutes a call: longer, and the owner was frozen or the store away.
local elapsed = tonumber(ARGV[2]) - tonumber(call('HGET', P .. 'sweep', 'at') or ARGV[2])
call('HSET', P .. 'sweep', 'at', ARGV[2])
local total = call('HINCRBY', P .. 'sweep', 'ms', math.floor(math.max(0, math.min(elapsed, 300000))))
if total >= 86400000 then
  call('HSET', P .. 'sweep', 'ms', 0)
  local gen = tonumber(call('GET', P .. 'idem:gen') or '1') + 1
  call('SET', P .. 'idem:gen', gen)
  call('UNLINK', P .. 'idem:' .. (gen - 2))
end
return 1
