#!lua flags=allow-oom
--@include _record
-- Record what became of claimed attempts, a batch at a time.
--
-- Promise: each item is applied wholly or not at all; only the claim's owner (incarnation and attempt) moves a message.
--   A late `s` (the attempt was taken for lost meanwhile) still settles a message that waits to be sent again.
-- Repeat: an applied item no longer finds its claim; it answers `0` and changes nothing.
-- KEYS 1 prefix
-- ARGV 1 incarnation  2-4 retention_s  then for each item 10 values:
--   id, attempt, verb, channel, delay_ms, mask of accepted parts, new rank, reason, carrier code, log (or '')
--   verbs: s submitted (delay: how long to wait for the receipt)  r again on this rank after delay  n on the new rank
--          l slow: again after delay, attempt given back  p some parts accepted: the rest again on this channel
--          u uncertain, decided when delay is over  U uncertain, again at once  F failed for good
-- Returns  one string an item: 1 applied | l late result used | 0 nothing changed
local inc = ARGV[1]
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local now = time_ms()
local n = (#ARGV - 4) / 10
local ids = {}
for i = 1, n do ids[i] = ARGV[5 + (i - 1) * 10] end
local records = fetch(ids)
local result, waits, due, settled = {}, {}, {}, {}
local now_text = ms_text(now)

local function wait_for_receipt(r, delay)
  local bucket = math.ceil((now + delay) / 300000) * 300
  local list = waits[bucket]
  if list then list[#list + 1] = r.id else waits[bucket] = { r.id } end
end

local function later(r, delay)
  due[#due + 1] = now + delay
  due[#due + 1] = r.id
end

for i = 1, n do
  local b = 5 + (i - 1) * 10
  local r = records[i]
  local attempt, verb, channel = tonumber(ARGV[b + 1]), ARGV[b + 2], ARGV[b + 3]
  local delay, mask, log = tonumber(ARGV[b + 4]), tonumber(ARGV[b + 5]), ARGV[b + 9]
  local item = log ~= '' and log_item('A', now_text .. US .. log) or nil
  local answer = '0'
  if r and r.state == 'c' and r.inc == inc and r.attempt == attempt then
    answer = '1'
    settled[#settled + 1] = r.id
    if mask > 0 then
      r.flags = has(r.flags, 8) and r.flags or r.flags + 8
      r.accepted = bit.bor(r.accepted, mask)
    end
    if verb == 's' then
      r.state = 's'
      r.slow = 0
      write_record(r, now, item)
      wait_for_receipt(r, delay)
      count(r, channel, 's', '')
    elseif verb == 'F' then
      finalise(r, has(r.flags, 1) and 'K' or 'F', ARGV[b + 7], ARGV[b + 8], channel, now, item)
    elseif verb == 'u' or verb == 'U' then
      r.flags = bit.bor(r.flags, verb == 'U' and 9 or 8)
      if r.accepted > 0 then r.flags = bit.bor(r.flags, 16) end -- the missing parts must follow the others
      if verb == 'U' then
        requeue(r, now, true, channel)
        write_record(r, now, item)
        waiting_delta = waiting_delta + 1
      else
        r.state = 'u'
        write_record(r, now, item)
        later(r, delay)
      end
      count(r, channel, 'u', '')
    else
      waiting_delta = waiting_delta + 1
      if verb == 'l' then
        r.attempt = r.attempt - 1
        r.slow = math.min(r.slow + 1, 255)
        item = nil -- a slow carrier may say so a hundred times; the log keeps attempts
      elseif verb == 'r' then
        r.slow = math.min(r.slow + 1, 255)
      elseif verb == 'n' then
        r.rank = tonumber(ARGV[b + 6])
        r.slow = 0
      elseif verb == 'p' then
        r.flags = bit.bor(r.flags, 16)
      end
      if delay > 0 then
        r.state = 'r'
        write_record(r, now, item)
        later(r, delay)
      else
        requeue(r, now, false, channel)
        write_record(r, now, item)
      end
      if verb == 'n' then count(r, channel, 'n', ARGV[b + 8]) end
    end
  elseif r and verb == 's' and (r.state == 'u' or r.state == 'q' or r.state == 'r') and r.attempt >= attempt then
    answer = 'l'
    if r.state ~= 'u' then waiting_delta = waiting_delta - 1 end
    if r.attempt == attempt then r.flags = bit.band(r.flags, 254) end -- the copy was never sent after all
    r.state = 's'
    r.flags = bit.bor(r.flags, 8)
    r.accepted = bit.bor(r.accepted, mask)
    write_record(r, now, item)
    wait_for_receipt(r, delay)
    count(r, channel, 's', '')
  end
  result[i] = answer
end
if #settled > 0 then call('HDEL', P .. 'claims:' .. inc, unpack(settled)) end
if #due > 0 then call('ZADD', P .. 'due', unpack(due)) end
for bucket, list in pairs(waits) do call('RPUSH', P .. 'wait:' .. bucket, unpack(list)) end
finish(now)
return result
