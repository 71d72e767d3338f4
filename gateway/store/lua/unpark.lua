#!lua flags=allow-oom
-- Remove parked receipts that have been applied.
--
-- Repeat: nothing left to remove.   KEYS 1 prefix   ARGV triples of channel, smsc_id, payload   Returns the number removed
local P = KEYS[1]
local n = 0
for i = 1, #ARGV, 3 do
  local key = P .. 'park:' .. ARGV[i] .. ':' .. ARGV[i + 1]
  n = n + redis.call('LREM', key, 1, ARGV[i + 2])
  if redis.call('EXISTS', key) == 0 then redis.call('ZREM', P .. 'parked:' .. ARGV[i], ARGV[i + 1]) end
end
return n
