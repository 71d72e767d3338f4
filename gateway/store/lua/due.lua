#!lua flags=allow-oom
--@include _record
-- Move what is due: scheduled, deferred and retried messages to their queues; uncertain ones by their category's policy.
--
-- Promise: an id leaves `due` in the step that moves its message. Repeat: finds the rest.
-- KEYS 1 prefix   ARGV 1 most  2-4 retention_s  5-7 policy of the categories (r resend, h hold, f fail)
-- Returns  number looked at, ms until the next one (-1: none), final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local finals = ''
local ids = call('ZRANGE', P .. 'due', '-inf', ms_text(now), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[1]))
if #ids > 0 then
  local records = fetch(ids)
  for i = 1, #ids do
    local r = records[i]
    if r then
      if r.state == 'h' or r.state == 'f' or r.state == 'r' then
        if r.expires_at <= now then
          waiting_delta = waiting_delta - 1
          finalise(r, has(r.flags, 8) and 'K' or 'E', 'expired', '', '', now)
        else
          requeue(r, now, false)
          write_record(r, now)
        end
      elseif r.state == 'u' then
        if ARGV[5 + r.cat] == 'r' and r.expires_at > now then
          r.flags = bit.bor(r.flags, 1)
          waiting_delta = waiting_delta + 1
          requeue(r, now, true)
          write_record(r, now)
        else
          finalise(r, 'K', 'no_response', '', '', now)
        end
      end
    end
  end
  call('ZREM', P .. 'due', unpack(ids))
  finals = finish(now)
end
local head = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
return { #ids, head[2] and math.max(0, tonumber(head[2]) - now) or -1, finals }
