#!lua flags=allow-oom
--@include _record
-- Send a message again now that waits for its next attempt, or of whose last attempt nobody knows what became.
--
-- Promise: what is uncertain goes back marked as a possible duplicate, as its category's `resend` would do after a while;
--   no message gets another attempt than those it has left. Repeat: answers `waits` (it is in its queue already).
-- KEYS 1 prefix   ARGV 1 id  2-4 max_attempts of the categories
-- Returns  resent | waits (it will leave by itself) | sent (a carrier has it) | final | late (its time is over)
--   | exhausted (no attempt is left) | not_found
local now = time_ms()
local r = fetch({ ARGV[1] })[1]
if not r then return 'not_found' end
if find(r.state, '%u') then return 'final' end
if r.state == 's' then return 'sent' end
if r.state ~= 'r' and r.state ~= 'u' then return 'waits' end
if r.expires_at <= now then return 'late' end
if r.attempt >= tonumber(ARGV[2 + r.cat]) then return 'exhausted' end -- a claim would only end it
if r.state == 'u' then
  r.flags = bit.bor(r.flags, 1)
  waiting_delta = 1
end
call('ZREM', P .. 'due', r.id)
requeue(r, now, r.state == 'u')
write_record(r, now)
finish(now)
return 'resent'
