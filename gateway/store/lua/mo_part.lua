#!lua flags=allow-oom
--@include _record
-- Keep the parts of long messages from handsets until all have come, whichever bind or worker they came by.
--
-- Promise: mopart:<name> holds the parts of one message, `moparts` the names by the time at which it is given up. The set
--   stays until mo.lua has recorded the message. A part that differs from the one kept in its place belongs to another
--   message with the same reference: what was there is given up at once (see mo_overdue). A part of a message that was
--   recorded within ten minutes is a repeat (modone:<name>).
-- Repeat: the part is there already; a set that is complete is handed out again.
-- KEYS 1 prefix   ARGV 1 ms to wait for the rest  then for each part 5 values: name, what is known of the message, number of
--   parts, place (from 1), octets with their data_coding before them
-- Returns a letter each (w waits, c complete, d a repeat), then for each c its parts in order
local now, letters, result = time_ms(), {}, { '' }
for i = 2, #ARGV, 5 do
  local name, place, octets = ARGV[i], ARGV[i + 3], ARGV[i + 4]
  local key, letter = P .. 'mopart:' .. name, 'w'
  local done = call('GET', P .. 'modone:' .. name)
  if done and find(done, place .. '=' .. redis.sha1hex(octets) .. ';', 1, true) then
    letter = 'd'
  else
    local there = call('HGET', key, place)
    if there and there ~= octets then
      local given_up = name .. ms_text(now)
      call('RENAME', key, P .. 'mopart:' .. given_up)
      call('ZREM', P .. 'moparts', name)
      call('ZADD', P .. 'moparts', ms_text(now), given_up)
      there = false
    end
    if not there then
      if call('EXISTS', key) == 0 then
        call('HSET', key, 'm', ARGV[i + 1])
        call('PEXPIRE', key, ARGV[1] + 86400000)
        call('ZADD', P .. 'moparts', ms_text(now + ARGV[1]), name)
      end
      call('HSET', key, place, octets)
    end
    if call('HLEN', key) > tonumber(ARGV[i + 2]) then
      letter = 'c'
      for part = 1, tonumber(ARGV[i + 2]) do result[#result + 1] = call('HGET', key, part) end
    end
  end
  letters[#letters + 1] = letter
end
result[1] = table.concat(letters)
return result
