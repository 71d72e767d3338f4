#!lua
--@include _record
-- Put numbers on a blacklist.
--
-- Promise: in force for whatever is accepted or claimed from this moment on. `merge` joins what is said with what was
--   there (see black_merged) and keeps that under blackundo:<import>, for black_undo; `replace` makes it just so.
-- Repeat: changes nothing: an entry that says so already keeps its time and source.
-- KEYS 1 prefix   ARGV 1 scope  2 merge or replace  3 source  4 import ('' none)  5 '1' to write nothing
--   6 audit entry ('' none; for one number)  then for each number 3 values: number, mask, reason
-- Returns numbers added, changed, as they were; the value before ('' none) and now of the last one
local CHUNK = 2000
local scope, merge, source, import, dry = ARGV[1], ARGV[2] == 'merge', ARGV[3], ARGV[4], ARGV[5] == '1'
local key, now = P .. 'blacklist:' .. scope, time_ms()
local added, changed, same, was, is = 0, 0, 0, '', ''
local counts, came = {}, {}
local since = black_value('', '', now, source) -- what stands behind mask and reason
for first = 7, #ARGV, 3 * CHUNK do
  local numbers, values = {}, {}
  for i = first, math.min(first + 3 * CHUNK - 3, #ARGV - 2), 3 do numbers[#numbers + 1] = ARGV[i] end
  local there = call('HMGET', key, unpack(numbers))
  local new = {} -- a number may stand in one call twice
  for k, number in ipairs(numbers) do
    local before = new[number] or there[k] or nil
    local mask, reason = tonumber(ARGV[first + 3 * k - 2]), ARGV[first + 3 * k - 1]
    local after
    if not before then
      after = mask .. reason .. since
    elseif merge then
      after = black_merged(before, mask, reason, now, source)
    elseif sub(before, 1, #reason + 2) ~= mask .. reason .. ':' then
      after = black_value(mask, reason, now, source)
    end
    was, is = before or '', after or before
    if merge and import == '' and not dry then black_beneath(number, before, mask, reason, now, source) end
    if not after then
      same = same + 1
    else
      if before then changed = changed + 1 else added = added + 1 end
      new[number] = after
      if not dry then
        values[#values + 1] = number
        values[#values + 1] = after
        if not before then
          came[reason] = (came[reason] or 0) + 1
        else
          black_changed(counts, scope, before, after)
          if import ~= '' and select(4, black_parts(before)) ~= source then
            call('HSETNX', P .. 'blackundo:' .. import, number, before)
          end
        end
      end
    end
  end
  if #values > 0 then call('HSET', key, unpack(values)) end
end
if not dry and added + changed > 0 then
  if scope ~= '*' then call('SADD', P .. 'blacklists', scope) end
  if import ~= '' then call('EXPIRE', P .. 'blackundo:' .. import, 34560000) end
  for reason, n in pairs(came) do black_counts(counts, scope, reason, n, 0) end
  black_counted(counts, now)
  if ARGV[6] ~= '' then audit(now, ARGV[6], was, is) end
end
return { added, changed, same, was, is }
