#!lua flags=allow-oom
-- Put what was set aside of an hour into the tables of its day, for some of its accounts.
--
-- Promise: the tables are written and their accounts marked as done in one step, and only when nothing else was written
--   to that day since the caller read it; with the last of them the hash goes in the same step. So whoever adds the
--   tables, the hashes set aside (less the accounts that are done) and the hours still counted finds each number once.
-- Repeat: answers `moved` or `gone` and writes nothing.
-- KEYS 1 prefix
-- ARGV 1 name  2 the day's version when its tables were read ('' none)  3 '1' when no account is left then
--   4- name of a table (see store/statistics.py), by hours, of the day; one without US is an account's and marks it
-- Returns  the day's new version | 'moved' (read the day again) | 'gone' (it is folded)
local P = KEYS[1]
local call = redis.call
local name, last = ARGV[1], ARGV[3] == '1'
local key, marks = P .. 'statfold:' .. name, P .. 'statdone:' .. name
local day = math.floor(tonumber(string.match(name, '^(%d+):')) / 24)
if call('EXISTS', key) == 0 then return 'gone' end
if (call('HGET', P .. 'statv', day) or '') ~= ARGV[2] then return 'moved' end
for i = 4, #ARGV, 3 do
  call('HSET', P .. 'stath:' .. day, ARGV[i], ARGV[i + 1])
  call('HSET', P .. 'statd:' .. day, ARGV[i], ARGV[i + 2])
  if not last and not string.find(ARGV[i], '\31', 1, true) then call('SADD', marks, ARGV[i]) end
end
if #ARGV > 3 then call('SADD', P .. 'statdays', 'stath:' .. day, 'statd:' .. day) end
if last then
  call('UNLINK', key, marks)
  call('SREM', P .. 'statfolds', name)
end
local version = call('INCR', P .. 'statseq')
call('HSET', P .. 'statv', day, version)
return tostring(version)
