#!lua flags=allow-oom
-- Renew a worker's lease and read everybody's.
--
-- Promise: a lease that was reaped is not renewed; its worker must drop what it holds and begin anew.
-- Repeat: one more heartbeat.
-- KEYS 1 prefix   ARGV 1 incarnation  2 lease ms  3 '1' at the first call  4 channels on which it can submit, commas between
-- Returns  'ok' or 'lost', now, then pairs: incarnation, "heartbeats:lease_end:channels"; "0:0:" for one that holds
--   claims without a lease (it claimed after it had been reaped, or the reaper died half-way)
local P = KEYS[1]
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local own = call('HGET', P .. 'lease', ARGV[1])
local answer = 'ok'
if own or ARGV[3] == '1' then
  local beats = own and tonumber(string.match(own, '^(%d+)')) or 0
  call('HSET', P .. 'lease', ARGV[1], string.format('%d:%.0f:', beats + 1, now + tonumber(ARGV[2])) .. ARGV[4])
else
  answer = 'lost'
end
local all = call('HGETALL', P .. 'lease')
local known = {}
for i = 1, #all, 2 do known[all[i]] = true end
for _, inc in ipairs(call('SMEMBERS', P .. 'holders')) do
  if not known[inc] then
    all[#all + 1] = inc
    all[#all + 1] = '0:0:'
  end
end
return { answer, string.format('%.0f', now), unpack(all) }
