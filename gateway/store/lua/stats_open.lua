#!lua flags=no-writes
-- Say where the counters of a day stand.
--
-- Promise: as of one moment. Whoever reads what is named here and then finds the day's version unchanged has read
--   each number once. Repeat: the same again.
-- KEYS 1 prefix   ARGV 1 day (epoch days)
-- Returns  version of the day ('' none), names set aside, hours still counted
local P = KEYS[1]
local call = redis.call
local day = tonumber(ARGV[1])
local folds, hours = {}, {}
for _, name in ipairs(call('SMEMBERS', P .. 'statfolds')) do
  if math.floor(tonumber(string.match(name, '^(%d+):')) / 24) == day then folds[#folds + 1] = name end
end
for hour = day * 24, day * 24 + 23 do
  if call('EXISTS', P .. 'stats:' .. hour) == 1 then hours[#hours + 1] = hour end
end
return { call('HGET', P .. 'statv', day) or '', folds, hours }
