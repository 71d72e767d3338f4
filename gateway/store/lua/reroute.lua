#!lua flags=allow-oom
--@include _record
-- Move messages from the head of a queue that nobody serves to the first rank of the routes that take them now.
--
-- Promise: an entry leaves its old queue in the step that puts its message into the new one (or ends it as `no_route`).
-- Repeat: the heads are no longer those of the call; nothing moves.
-- KEYS 1 prefix
-- ARGV 1 ring ("route:rank:category")  2 account  3-5 retention_s  then for each entry from the head: id, route ('': none)
-- Returns  number moved, number ended, final states
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[3], ARGV[4], ARGV[5]
local now = time_ms()
local ring, queue = P .. 'ring:' .. ARGV[1], P .. 'q:' .. ARGV[1] .. ':' .. ARGV[2]
local moved, ended = 0, 0
for i = 6, #ARGV, 2 do
  local id, route = ARGV[i], ARGV[i + 1]
  local entry = call('LINDEX', queue, 0)
  if not entry or sub(entry, 1, ID) ~= id then break end
  call('LPOP', queue)
  local raw = call('GET', P .. 'msg:' .. id)
  if raw and byte(raw, #raw - T + 1) == 113 then
    local r = read_record(id, raw)
    if route == '' then
      waiting_delta = waiting_delta - 1
      finalise(r, has(r.flags, 8) and 'K' or 'F', 'no_route', '', '', now)
      ended = ended + 1
    else
      local account, carrier, rest = string.match(r.dims, '^([^\31]*)\31([^\31]*)\31[^\31]*\31(.*)$')
      local dims = account .. US .. carrier .. US .. route .. US .. rest
      local dims_at = 33 + #r.msisdn
      raw = sub(raw, 1, 25) .. be2(#dims) .. sub(raw, 28, dims_at - 1) .. dims .. sub(raw, dims_at + #r.dims)
      call('SET', P .. 'msg:' .. id, raw)
      r = read_record(id, raw)
      r.rank = 0
      requeue(r, now, false)
      write_record(r, now)
      moved = moved + 1
    end
  end
end
if call('EXISTS', queue) == 0 then
  call('LREM', ring, 1, ARGV[2])
  if call('EXISTS', ring) == 0 then call('SREM', P .. 'rings', ARGV[1]) end
end
return { moved, ended, finish(now) }
