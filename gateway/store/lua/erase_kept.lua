#!lua flags=allow-oom
-- Remove what tells of one number from one key that holds things of many: events that wait for an application, receipts
-- whose message is not known, messages from handsets, numbers as fields.
--
-- Promise: nothing else leaves the key, and nothing is passed over while others take from its head (lists are walked from
--   their tail). An event that was handed to a worker is forgotten here; what the worker says of it then changes nothing.
-- Repeat: goes on with what is left.
-- KEYS 1 prefix
-- ARGV 1 msisdn  2 key, without the prefix  3 cursor ('0' first)  4 about how many to look at
--   5 what it is: list (of parked receipts) | events (a list of events) | dead (a list of dead letters)
--     | busy | held (hashes of events, see outbox_take.lua) | values (a hash of JSON, by id) | fields (a hash by number)
--     | parts (a hash, of which `m` is JSON) | learned (a sorted set, msisdn US … each)
-- Returns  cursor for the next piece ('0': done), entries removed; for learned, entries left because they are younger than
--   nine seconds: workers may not have read them
local P, US = KEYS[1], '\31'
local call, sub, byte, find = redis.call, string.sub, string.byte, string.find
local msisdn, key, cursor, most, what = ARGV[1], P .. ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

-- Whether the number stands in a text, and not in a longer one.
local function names(text)
  return find(' ' .. text .. ' ', '[^%d]' .. msisdn .. '[^%d]') ~= nil
end

-- Whether a parked receipt (`dlr.recorder`) is about the number: carriers write it with zeros before it, and without its
-- country's code.
local function of_receipt(payload)
  local spelt = string.match(payload, '"a":"%+?0*(%d+)"')
  local short = spelt and #msisdn - #spelt
  return short and short >= 0 and short <= 3 and #spelt >= 7 and sub(msisdn, 1 + short) == spelt or names(payload)
end

-- Whether an event is about the number: by its record, or by its JSON.
local function of_event(event)
  local kind = sub(event, 1, 1)
  if kind == 'i' or kind == 'o' then return names(sub(event, 8)) end
  return byte(event, 48) == #msisdn and sub(event, 56, 55 + #msisdn) == msisdn
end

local function of_letter(letter)
  return of_event(sub(letter, 15 + byte(letter, 14)))
end

-- What waits under a key in `outheld`: all of one message, so the first entry tells.
local function of_blob(blob)
  return of_event(sub(blob, 12, 4 + struct.unpack('>I4', blob)))
end

local removed = 0
if what == 'list' or what == 'events' or what == 'dead' then
  local seen = tonumber(cursor)
  local some = call('LRANGE', key, -seen - most, -seen - 1)
  for i = 1, #some do
    local one = some[i]
    local is_it = what == 'list' and of_receipt(one) or what == 'events' and of_event(one) or what == 'dead' and of_letter(one)
    if is_it and call('LREM', key, -1, one) == 1 then
      removed = removed + 1
      if what == 'dead' then
        local account = string.match(key, ':outdead:(.*)$')
        local why = account .. US .. sub(one, 15, 14 + byte(one, 14))
        if call('HINCRBY', P .. 'outdeadwhy', why, -1) <= 0 then call('HDEL', P .. 'outdeadwhy', why) end
      end
    end
  end
  if #some < most then return { '0', removed } end
  return { tostring(seen + #some - removed), removed }
end
if what == 'fields' then return { '0', call('HDEL', key, msisdn) } end
if what == 'parts' then
  local about = call('HGET', key, 'm')
  if about and names(about) then
    removed = call('DEL', key)
    call('ZREM', P .. 'moparts', sub(ARGV[2], 8))
  end
  return { '0', removed }
end
if what == 'learned' then
  local found, young = call('ZSCAN', key, cursor, 'COUNT', most), 0
  for i = 1, #found[2], 2 do
    if sub(found[2][i], 1, #msisdn + 1) == msisdn .. US then
      if call('TIME')[1] - tonumber(found[2][i + 1]) / 1000 < 9 then
        young = young + 1
      else
        removed = removed + call('ZREM', key, found[2][i])
      end
    end
  end
  return { found[1], removed, young }
end
local found = call('HSCAN', key, cursor, 'COUNT', most)
local flat = found[2]
for i = 1, #flat, 2 do
  local field, value = flat[i], flat[i + 1]
  if what == 'busy' and byte(value) == 110 and of_event(sub(value, 2)) then
    removed = removed + call('HDEL', key, field)
  elseif what == 'held' and of_blob(value) then
    removed = removed + call('HDEL', key, field)
    call('ZREM', P .. 'outlater' .. sub(key, find(key, ':outheld:', 1, true) + 8), field)
  elseif what == 'values' and names(value) then
    removed = removed + call('HDEL', key, field)
    call('ZREM', P .. 'moreview', field)
  end
end
return { found[1], removed }
