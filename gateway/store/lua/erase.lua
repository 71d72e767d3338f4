#!lua flags=allow-oom
--@include _record
-- Remove the records of one number among those of a slice of ids; first end those that are not final, where that is asked.
--
-- Promise: a record is removed only once it is final. What waits ends as cancelled; what a carrier has, or may have, as
--   unknown (`erased`), so that its receipt finds nothing any more; what a worker is sending now is left for another call.
-- Repeat: finds what is left.
-- KEYS 1 prefix   ARGV 1-3 retention of the categories  4 msisdn  5 look | erase | cancel  6- ids
-- Returns  the final states, then how many of the number's: were final, waited, were sent, are being sent; removed
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[1], ARGV[2], ARGV[3]
local msisdn, mode = ARGV[4], ARGV[5]
local wanted_head = char(#msisdn)
local mine = {}
for i = 6, #ARGV do
  -- From the length of the number to its end; the seven octets between are other lengths.
  local head = call('GETRANGE', P .. 'msg:' .. ARGV[i], 24, 31 + #msisdn)
  if sub(head, 1, 1) == wanted_head and sub(head, 9) == msisdn then mine[#mine + 1] = ARGV[i] end
end
local finals, waited, sent, busy, gone_ids = 0, 0, 0, 0, {}
local now = time_ms()
for _, r in ipairs(fetch(mine)) do
  if r then
    local final = find(r.state, '%u')
    if final then
      finals = finals + 1
    elseif r.state == 'q' and held(r) then
      busy = busy + 1
    else
      local waits = find('hfqrw', r.state, 1, true)
      if waits then waited = waited + 1 else sent = sent + 1 end
      if mode == 'cancel' then
        if waits then waiting_delta = waiting_delta - 1 end
        call('ZREM', P .. 'due', r.id)
        if waits and not has(r.flags, 8) then finalise(r, 'C', 'erased', '', '', now) end
        -- Also a copy whose first attempt stands (see drop_copy).
        if not find(r.state, '%u') then
          r.state = 's'
          finalise(r, 'K', 'erased', '', '', now)
        end
        final = true
      end
    end
    if final and mode ~= 'look' then gone_ids[#gone_ids + 1] = P .. 'msg:' .. r.id end
  end
end
local told = finish(now)
local removed = #gone_ids > 0 and call('UNLINK', unpack(gone_ids)) or 0
return { told, finals, waited, sent, busy, removed }
