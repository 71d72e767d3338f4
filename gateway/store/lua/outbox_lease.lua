#!lua flags=allow-oom
-- Keep an events worker's hold on accounts, take accounts that nobody holds, and read who holds what.
--
-- Promise: an account has one holder; who takes it gets an epoch that is higher than all before, by which the moves of a
--   former holder are refused (outbox_take, outbox_settle). No clock decides: a worker is dead when somebody saw its beats
--   stand still, and says which.
-- Repeat: one more beat, and one epoch more for what is wanted.
-- KEYS 1 prefix of all that webhooks share
-- ARGV 1 incarnation  2 'beat' | 'leave'  3 number of accounts wanted, then these  then the dead: incarnation, beats seen
-- Returns  number of workers, then each with its beats, then each account with `epoch:holder`
local H = KEYS[1]
local call = redis.call
local me = ARGV[1]
local workers, owners = H .. 'workers', H .. 'owners'
if ARGV[2] == 'leave' then
  call('HDEL', workers, me)
else
  call('HINCRBY', workers, me, 1)
end
local n = tonumber(ARGV[3])
for i = 4 + n, #ARGV, 2 do
  if ARGV[i] ~= me and call('HGET', workers, ARGV[i]) == ARGV[i + 1] then call('HDEL', workers, ARGV[i]) end
end
for i = 4, 3 + n do
  local epoch, holder = string.match(call('HGET', owners, ARGV[i]) or '0:', '^(%d+):(.*)$')
  -- Who asks for what it holds already begins anew: what it took before and does not know of comes again.
  if holder == me or holder == '' or call('HEXISTS', workers, holder) == 0 then
    call('HSET', owners, ARGV[i], string.format('%d:%s', tonumber(epoch) + 1, me))
  end
end
local alive, held = call('HGETALL', workers), call('HGETALL', owners)
local out = { #alive / 2 }
for i = 1, #alive do out[#out + 1] = alive[i] end
for i = 1, #held do out[#out + 1] = held[i] end
return out
