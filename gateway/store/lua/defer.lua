#!lua flags=allow-oom
--@include _record
-- Say when messages may be sent again whose window has closed (see claim.lua), and when that window closes.
--
-- Promise: an id leaves `reopen` in the step that files its message anew. Until then it comes back to its queue after a
--   minute by itself, and is deferred there again. A message that meanwhile left this state is let alone.
-- Repeat: the same times are written again.
-- KEYS 1 prefix   ARGV for each 3 values: id, due at (ms), end of the window (ms)
-- Returns the number deferred
local now = time_ms()
local deferred = 0
for i = 1, #ARGV, 3 do
  local id, due, closes = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  call('LREM', P .. 'reopen', 1, id)
  local raw = call('GET', P .. 'msg:' .. id)
  if raw and byte(raw, #raw - T + 1) == 102 then -- f
    local r = read_record(id, raw)
    local text = log_time(closes)
    if has(r.marks, 4) and #text == 8 and select(5, extras_of(r)) then
      call('SETRANGE', P .. 'msg:' .. id, 12, be6(due))
      call('SETRANGE', P .. 'msg:' .. id, r.extras_at + r.extras_len - 9, text)
      call('ZADD', P .. 'due', due, id)
      deferred = deferred + 1
    end
  end
end
return deferred
