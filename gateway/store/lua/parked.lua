#!lua flags=allow-oom
--@include _record
-- List parked receipts that may be tried again: those whose id is known by now, and, while there are attempts on the
-- channel of which nobody knows what became, young ones whose address may name one (see receipt.lua). Expired ones leave.
--
-- Repeat: the same list.   KEYS 1 prefix   ARGV 1 channel  2 TTL s  3 most  4 days an SMSC id may be old
--   5 how many to pass over first (the oldest may be those that nobody will ever know)  6 s after which guesses count
-- Returns  number parked, receipts, receipts that have waited so long that guesses at their spelling count
local channel = ARGV[1]
local lost = call('EXISTS', P .. 'lost:' .. channel) == 1
local now = time_ms()
local index = P .. 'parked:' .. channel
call('ZREMRANGEBYSCORE', index, '-inf', floor(now / 1000) - ARGV[2])
local young, waited = {}, {}
local result = { call('ZCARD', index), young, waited }
local found = call('ZRANGE', index, ARGV[5], ARGV[5] + ARGV[3] - 1, 'WITHSCORES')
if #found == 0 then return result end
local ids, since, fields = {}, {}, {}
for i = 1, #found, 2 do
  ids[#ids + 1] = found[i]
  since[#ids] = floor(now / 1000) - tonumber(found[i + 1])
end
for i = 1, #ids do fields[i] = channel .. ':' .. ids[i] end
local values = find_smsc_ids(fields, now, tonumber(ARGV[4]))
for i = 1, #ids do
  if values[i] or lost and since[i] < LOST_S then
    local payloads = call('LRANGE', P .. 'park:' .. fields[i], 0, -1)
    local list = since[i] >= tonumber(ARGV[6]) and waited or young
    for _, payload in ipairs(payloads) do list[#list + 1] = payload end
    if #payloads == 0 then call('ZREM', index, ids[i]) end
  end
end
return result
