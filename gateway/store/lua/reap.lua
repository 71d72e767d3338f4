#!lua flags=allow-oom
--@include _record
-- Take the claims of a dead worker back: each is uncertain, and its category's policy says what follows.
--
-- Promise: at most ARGV 11 claims a call; the lease goes with the last one. Repeat: goes on where it stopped.
-- KEYS 1 prefix
-- ARGV 1 incarnation  2-4 retention_s  5-7 policy of the categories (r resend, h hold, f fail)  8-10 grace_ms before it
--   applies  11 most
-- Returns  claims left, requeued at once, uncertain, ended as unknown
local inc = ARGV[1]
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local now = time_ms()
local key = P .. 'claims:' .. inc
local all = call('HGETALL', key)
local most = tonumber(ARGV[11])
local ids, attempts = {}, {}
for i = 1, math.min(#all / 2, most) do
  ids[i] = all[2 * i - 1]
  attempts[i] = tonumber(string.match(all[2 * i], '(%d+)$'))
end
local records = fetch(ids)
local requeued, uncertain, ended, due = 0, 0, 0, {}
for i = 1, #ids do
  local r = records[i]
  if r and r.state == 'q' then
    r.flags = bit.bor(r.flags, 8)
    r.attempt, r.inc = attempts[i], inc
    local policy, grace = ARGV[5 + r.cat], tonumber(ARGV[8 + r.cat])
    if policy == 'f' then
      finalise(r, 'K', 'no_response', '', '', now)
      ended = ended + 1
    elseif policy == 'r' and grace == 0 then
      r.flags = bit.bor(r.flags, 1)
      requeue(r, now, true)
      write_record(r, now)
      waiting_delta = waiting_delta + 1
      requeued = requeued + 1
    else
      r.state = 'u'
      write_record(r, now)
      due[#due + 1] = now + grace
      due[#due + 1] = r.id
      uncertain = uncertain + 1
    end
    count(r, '', 'u', '')
  end
end
if #due > 0 then call('ZADD', P .. 'due', unpack(due)) end
if #ids > 0 then call('HDEL', key, unpack(ids)) end
local left = #all / 2 - #ids
if left == 0 then
  call('HDEL', P .. 'lease', inc)
  call('SREM', P .. 'holders', inc)
end
finish(now)
return { left, requeued, uncertain, ended }
