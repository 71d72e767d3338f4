#!lua flags=allow-oom
-- Elect the sweeper of a shard and turn the idempotency generations on 24 h of its monotonic time.
--
-- Promise: keys are forgotten after 24 to 48 h of counted time, never because a wall clock jumped (no EXPIRE).
-- KEYS 1 prefix   ARGV 1 incarnation  2 ms of monotonic time since the caller's last call   Returns 1 when it is elected
local P = KEYS[1]
local call = redis.call
local owner = call('HGET', P .. 'sweep', 'owner')
if owner ~= ARGV[1] then
  if owner and call('HEXISTS', P .. 'lease', owner) == 1 then return 0 end
  call('HSET', P .. 'sweep', 'owner', ARGV[1])
  return 1
end
local elapsed = math.min(tonumber(ARGV[2]), 300000)
local total = call('HINCRBY', P .. 'sweep', 'ms', math.floor(elapsed))
if total >= 86400000 then
  call('HSET', P .. 'sweep', 'ms', 0)
  local gen = tonumber(call('GET', P .. 'idem:gen') or '1') + 1
  call('SET', P .. 'idem:gen', gen)
  call('UNLINK', P .. 'idem:' .. (gen - 2))
end
return 1
