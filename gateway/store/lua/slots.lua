#!lua flags=allow-oom
-- Lease bind slots of a channel, so that all workers together never hold more binds than the carrier allows.
--
-- Promise: a slot has one holder; it is free again when its holder's lease ended or its holder is named as dead.
-- Repeat: the same slots.   KEYS 1 slots of the channel   ARGV 1 incarnation  2 binds  3 wanted  4 lease ms
--   5 '1': give all of this incarnation back  6 slots in use, commas between: kept (while ours) also beyond `wanted`
-- Returns  the slot numbers held
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local inc, binds, wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local held, in_use, kept, freed = {}, {}, 0, false
for slot in string.gmatch(ARGV[6] or '', '%d+') do in_use[tonumber(slot)] = true end
local until_ms = string.format('%.0f', now + tonumber(ARGV[4]))
local free = {}
for slot in pairs(in_use) do
  local value = call('HGET', KEYS[1], slot)
  if value and string.match(value, '^([^:]*):') == inc then kept = kept + 1 end
end
for slot = 1, binds do
  local value = call('HGET', KEYS[1], slot)
  local holder, ends
  if value then holder, ends = string.match(value, '^([^:]*):(%d+)') end
  if holder == inc then
    if ARGV[5] == '1' or (not in_use[slot] and kept >= wanted) then
      call('HDEL', KEYS[1], slot)
      freed = true
    else
      if not in_use[slot] then kept = kept + 1 end
      call('HSET', KEYS[1], slot, inc .. ':' .. until_ms)
      held[#held + 1] = slot
    end
  elseif not value or tonumber(ends) < now then
    free[#free + 1] = slot
  end
end
if freed then call('PUBLISH', 'gw:wake', 'slots') end -- somebody else may bind there now
if ARGV[5] ~= '1' then
  for _, slot in ipairs(free) do
    if kept >= wanted then break end
    kept = kept + 1
    call('HSET', KEYS[1], slot, inc .. ':' .. until_ms)
    held[#held + 1] = slot
  end
end
return held
