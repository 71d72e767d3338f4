#!lua flags=allow-oom
--@include _record
-- Take back what a source put on a blacklist, a piece at a time: an import, or a channel's replies within a time.
--
-- Promise: entries that anybody changed since have another source and stay; what an import changed gets its value back.
-- Repeat: finds nothing any more and changes nothing.
-- KEYS 1 prefix   ARGV 1 scope  2 source  3 from, 4 until (seconds)  5 cursor ('0' first)  6 import ('' none)  7 about how many
-- Returns cursor for the next piece ('0': done), entries removed, entries given their value back
local key, now, counts, removed, restored = P .. 'blacklist:' .. ARGV[1], time_ms(), {}, 0, 0
local undo = P .. 'blackundo:' .. ARGV[6]
local cursor, flat = unpack(call('HSCAN', key, ARGV[5], 'COUNT', ARGV[7]))
local from, till, undone, gone = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6] ~= '' and call('EXISTS', undo) == 1, {}
local seen = {} -- a scan may show an entry twice
for i = 1, #flat, 2 do
  local number, value = flat[i], flat[i + 1]
  local mine = sub(value, -#ARGV[2] - 1) == ':' .. ARGV[2] and not seen[number]
  local _, reason, at, source
  if mine then _, reason, at, source = black_parts(value) end
  if mine and source == ARGV[2] and at >= from and at <= till then
    seen[number] = true
    local before = undone and call('HGET', undo, number) or nil
    if before then
      call('HSET', key, number, before)
      restored = restored + 1
      black_changed(counts, ARGV[1], value, before)
    else
      gone[#gone + 1] = number
      black_counts(counts, ARGV[1], reason, 0, 1)
      removed = removed + 1
    end
  end
end
for i = 1, #gone, 2000 do call('HDEL', key, unpack(gone, i, math.min(i + 1999, #gone))) end
if removed + restored > 0 then black_counted(counts, now) end
return { cursor, removed, restored }
