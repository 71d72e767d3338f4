#!lua flags=no-writes
-- Say how the outboxes of accounts are.
--
-- Promise: reads only. Repeat: the same question.
-- KEYS 1 prefix   ARGV accounts
-- Returns  now (ms), then for each account 8 values: events in line, time of the oldest (ms, '' none), taken, messages that
--   wait for a retry, time of the next retry (ms, '' none), dead letters, their reasons (`reason=number`, comma between),
--   dropped because the line or the dead letters were full
local P = KEYS[1]
local call = redis.call
local t = call('TIME')
local out = { string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)) }
local reasons = {}
local counted = call('HGETALL', P .. 'outdeadwhy')
for i = 1, #counted, 2 do
  local account, why = string.match(counted[i], '^(.*)\31(.*)$')
  local list = reasons[account] or {}
  reasons[account] = list
  list[#list + 1] = why .. '=' .. counted[i + 1]
end
for i = 1, #ARGV do
  local account, n = ARGV[i], #out
  local head = call('LRANGE', P .. 'out:' .. account, 0, 0)[1]
  local oldest = ''
  if head and #head > 6 then
    local a, b, c, d, e, f = string.byte(head, 2, 7)
    oldest = string.format('%.0f', ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f)
  end
  out[n + 1], out[n + 2] = call('LLEN', P .. 'out:' .. account), oldest
  out[n + 3] = call('HLEN', P .. 'outbusy:' .. account)
  out[n + 4] = call('HLEN', P .. 'outheld:' .. account)
  out[n + 5] = call('ZRANGE', P .. 'outlater:' .. account, 0, 0, 'WITHSCORES')[2] or ''
  out[n + 6] = call('LLEN', P .. 'outdead:' .. account)
  out[n + 7] = table.concat(reasons[account] or {}, ',')
  out[n + 8] = call('HGET', P .. 'outlost', account) or '0'
end
return out
