#!lua flags=allow-oom
-- Remove tables of statistics that are older than they are kept, the oldest first.
--
-- Promise: only tables of days before those kept, and few a call: a clock that is wrong for an hour must not cost all
--   statistics. Repeat: removes what the first call left for want of room.
-- KEYS 1 prefix   ARGV 1 days for which hours are kept  2 days for which days are kept  3 most tables
-- Returns  how many it removed
local P = KEYS[1]
local call = redis.call
local today = math.floor(tonumber(call('TIME')[1]) / 86400)
local kept = { stath = tonumber(ARGV[1]), statd = tonumber(ARGV[2]) }
local old = {}
for _, name in ipairs(call('SMEMBERS', P .. 'statdays')) do
  local family, day = string.match(name, '^(%a+):(%d+)$')
  if tonumber(day) < today - kept[family] then old[#old + 1] = { name, tonumber(day), family } end
end
table.sort(old, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1]) end)
local n = math.min(#old, tonumber(ARGV[3]))
for i = 1, n do
  call('UNLINK', P .. old[i][1])
  call('SREM', P .. 'statdays', old[i][1])
  if old[i][3] == 'statd' then call('HDEL', P .. 'statv', old[i][2]) end
end
return n
