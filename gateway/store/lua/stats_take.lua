#!lua flags=allow-oom
-- Set the counters of hours that are over aside, so that they can be folded: each hash gets a name of its own.
--
-- Promise: a hash that was set aside never changes again, and its name (hour:number) is never used twice. What is
--   counted for such an hour later (a clock that stepped back) stands in a new hash, which the next call sets aside too.
-- Repeat: there is nothing left to set aside; the same names are returned.
-- KEYS 1 prefix
-- ARGV 1 s that must have passed since the hour's end  2 how many hours to look back behind the last one looked at
-- Returns  the names of everything that is set aside and not folded yet
local P = KEYS[1]
local call = redis.call
local MOST = 9600 -- hours in 400 days
local now = tonumber(call('TIME')[1])
local last = math.floor((now - tonumber(ARGV[1])) / 3600) - 1
local cursor = tonumber(call('GET', P .. 'statcursor') or '0')
local first = math.max(last - MOST, math.min(cursor, last + 1) - tonumber(ARGV[2]))
for hour = first, last do
  if call('EXISTS', P .. 'stats:' .. hour) == 1 then
    local number = call('INCR', P .. 'statseq')
    local name = string.format('%d:%d', hour, number)
    call('RENAME', P .. 'stats:' .. hour, P .. 'statfold:' .. name)
    call('SADD', P .. 'statfolds', name)
    call('HSET', P .. 'statv', math.floor(hour / 24), number)
  end
end
if cursor ~= last + 1 then call('SET', P .. 'statcursor', last + 1) end
return call('SMEMBERS', P .. 'statfolds')
