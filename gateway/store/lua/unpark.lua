#!lua flags=allow-oom
-- Remove parked receipts that have been applied.
--
-- Repeat: nothing left to remove.   KEYS 1 prefix   ARGV pairs of channel, smsc_id   Returns the number removed
local P = KEYS[1]
local n = 0
for i = 1, #ARGV, 2 do
  n = n + redis.call('DEL', P .. 'park:' .. ARGV[i] .. ':' .. ARGV[i + 1])
  redis.call('ZREM', P .. 'corr:' .. ARGV[i] .. '::parked', ARGV[i + 1])
end
return n
