#!lua flags=allow-oom
--@include _record
-- Take the claims of a dead worker back: each is uncertain, and its category's policy says what follows.
--
-- Promise: whole claim calls, until they are ARGV 11 messages; the lease goes with the last one. Repeat: goes on where it
--   stopped.
-- KEYS 1 prefix
-- ARGV 1 incarnation  2-4 retention_s  5-7 policy of the categories (r resend, h hold, f fail)  8-10 grace_ms before it
--   applies  11 most
-- Returns  claim calls left, requeued at once, uncertain, ended as unknown, final states
local inc = ARGV[1]
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local now = time_ms()
local key = P .. 'claims:' .. inc
local all = call('HGETALL', key)
local most = tonumber(ARGV[11])
local ids, claims, fields, channel_of = {}, {}, {}, {}
local now_text, lost = log_time(now), {}
for i = 1, #all, 2 do
  if #ids >= most then break end
  fields[#fields + 1] = all[i]
  for at = 1, #all[i + 1], CLAIM do
    ids[#ids + 1] = sub(all[i + 1], at, at + ID - 1)
    claims[#ids] = sub(all[i + 1], at, at + CLAIM - 1)
    channel_of[#ids] = string.match(all[i], '\31(.*)$') or ''
  end
end
local records = fetch(ids)
local requeued, uncertain, ended, due = 0, 0, 0, {}
for i = 1, #ids do
  local r = records[i]
  if r and r.state == 'q' and claim_of(r.id, r.raw) == claims[i] then
    r.flags = bit.bor(r.flags, 8)
    r.attempt, r.inc = r.attempt + 1, inc
    -- The log names the channel, so that a receipt from there can still settle this attempt (see receipt.lua).
    local item = log_item('A', now_text .. US .. r.attempt .. US .. channel_of[i] .. US .. US .. 'uncertain' .. US)
    local policy, grace = ARGV[5 + r.cat], tonumber(ARGV[8 + r.cat])
    if has(r.flags, 64) then -- a copy: not sent a third time
      r.state = 's'
      write_record(r, now, item)
      look_again(r, now, 600)
      uncertain = uncertain + 1
    elseif policy == 'f' then
      finalise(r, 'K', 'no_response', '', channel_of[i], now, item)
      ended = ended + 1
    elseif policy == 'r' and grace == 0 then
      r.flags = bit.bor(r.flags, 1)
      requeue(r, now, true, channel_of[i])
      write_record(r, now, item)
      waiting_delta = waiting_delta + 1
      requeued = requeued + 1
    else
      r.state = 'u'
      write_record(r, now, item)
      due[#due + 1] = now + grace
      due[#due + 1] = r.id
      uncertain = uncertain + 1
    end
    lost[channel_of[i]] = true
    count(r, channel_of[i], 'u', '')
  end
end
for channel in pairs(lost) do lost_on(channel) end
if #due > 0 then call('ZADD', P .. 'due', unpack(due)) end
if #fields > 0 then call('HDEL', key, unpack(fields)) end
local left = #all / 2 - #fields
if left == 0 then
  call('HDEL', P .. 'lease', inc)
  call('SREM', P .. 'holders', inc)
end
return { left, requeued, uncertain, ended, finish(now) }
